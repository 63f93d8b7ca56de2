"""The configuration of an embedded nats-server, from the options that apply to it. Pure.

The syntax is that of nats-server's configuration files:
https://docs.nats.io/running-a-nats-service/configuration
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from gozo.errors import SettingsError, invalid_value
from gozo.settings.credentials import redacted
from gozo.settings.local_store import Files
from gozo.settings.model import ConnectionSettings
from gozo.settings.options import CONNECTION

LOG_LIMIT = "10MB"  # the size at which the server rotates its log file
LOG_FILES = 3  # rotated log files that are kept

_FOREIGN = ("context", "secure", "cert", "key", "ca", "nkey", "jwt")
_BCRYPT = re.compile(r"\$2[abxy]\$\d{2}\$")  # nats-server, server/auth.go: validBcryptPrefix


@dataclass(frozen=True, slots=True)
class Place:
    """Where the server listens: a loopback address and a port."""

    host: str
    port: int

    @property
    def address(self) -> str:
        """The address for clients."""
        return f"nats://{self}"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def place(settings: ConnectionSettings) -> Place:
    """Return the address on which a server for these settings listens.

    Raises:
        SettingsError: there is not exactly one address, or it is not a loopback one.
    """
    if len(settings.addresses) != 1:
        raise SettingsError(
            f"--embedded runs one server, but --address names {len(settings.addresses)}: give one"
        )
    [address] = settings.addresses
    url, shown = urlsplit(address), redacted(address)
    if url.scheme != "nats":
        raise SettingsError(
            f"the embedded server does not support TLS, which {shown} requires: use nats://"
        )
    host = "127.0.0.1" if url.hostname == "localhost" else url.hostname or ""
    if not _is_loopback(host):
        raise SettingsError(
            f"the embedded server listens on this host only, and {shown} is not a loopback "
            "address: use localhost, or run your own nats-server and omit --embedded"
        )
    return Place(host, url.port or 4222)


def authorization(settings: ConnectionSettings) -> dict[str, str]:
    """Return the login that clients need: a token, or a user and password; empty if not given.

    As always, an option takes precedence over the address.

    Raises:
        SettingsError: an option cannot be used with an embedded server, or with another option.
    """
    for option in CONNECTION:
        if option.name in _FOREIGN and getattr(settings, option.field):
            raise SettingsError(
                f"--{option.name} ({option.variable}) cannot be used with --embedded, which "
                "supports a token, or a user and password: omit it, or leave it empty"
            )
    login = {
        name: value
        for name, value in (
            ("token", settings.token),
            ("user", settings.user),
            ("password", settings.password),
        )
        if value
    }
    if not login and (address := urlsplit(settings.addresses[0])).username is not None:
        one, two = unquote(address.username or ""), unquote(address.password or "")
        login = {"token": one} if address.password is None else {"user": one, "password": two}
    if "token" in login and len(login) > 1:
        raise SettingsError(
            "with --embedded, --token cannot be used together with --user and --password: give one "
            "or the other"
        )
    if ("user" in login) != ("password" in login):
        raise SettingsError("--embedded needs both --user and --password, or neither: give both")
    for name in ("token", "password"):
        if _BCRYPT.match(login.get(name, "")):
            raise SettingsError(
                invalid_value(
                    f"--{name}",
                    None,
                    "the embedded server would take it for the bcrypt hash of another; expected "
                    "one that begins differently",
                )
            )
    return login


def rendered(name: str, where: Place, files: Files, login: dict[str, str]) -> str:
    """Return the configuration file of a server with this name."""
    lines = [
        "# Written by gozo serve --embedded at each start: changes are lost.",
        f"server_name: {quoted(name)}",
        f"listen: {quoted(str(where))}",
        # The server creates a directory `jetstream` in this one.
        f"jetstream {{ store_dir: {quoted(str(files.store))}, sync_interval: always }}",
        f"log_file: {quoted(str(files.log))}",
        f"log_size_limit: {LOG_LIMIT}",
        f"logfile_max_num: {LOG_FILES}",
    ]
    if login:
        pairs = ", ".join(f"{key}: {quoted(value)}" for key, value in login.items())
        lines.append(f"authorization {{ {pairs} }}")
    return "\n".join([*lines, ""])


def quoted(text: str) -> str:
    """Quote a text for nats-server's configuration, as its conf/lex.go reads it.

    Between double quotes `$`, `#` and braces have no meaning, and a backslash, an x and two hex
    digits are a byte, so any text can be written.
    """
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda found: f"\\x{ord(found[0]):02x}", escaped) + '"'


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
