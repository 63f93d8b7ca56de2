"""Which servers to try for a connection and with what, and why one of them failed."""

from __future__ import annotations

import random
import ssl
from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote, urlsplit

from nats import errors as nats_errors
from nats.aio.client import RawCredentials

from gozo.errors import (
    GozoError,
    NoServerError,
    NotAllowedError,
    SettingsError,
    UnsuitableServerError,
)
from gozo.settings.credentials import redacted
from gozo.settings.model import ConnectionSettings

_FINAL = ("authorization", "authentication", "revoked", "expired")
"""Words with which the server refuses a login (`sendErr` in its client.go, accounts.go and
server.go). `Authentication Timeout` is not among them: there the server, or its auth callout, was
slow. Other words are about a limit, such as `maximum account active connections exceeded`,
`maximum connections exceeded`, `Failed Account Registration` or `Connection throttling is
active`: that may pass."""


MOST_ANNOUNCED = 16
"""Announced servers that are tried in one round. Each may take seconds, and the given addresses are
not tried again before the next."""


class TurnedAwayError(NoServerError):
    """A server answered, and does not accept the connection for now."""


class PassingError(NotAllowedError):
    """A refusal that may pass: another server may accept, or the link just ended."""


def lasts(failure: GozoError) -> bool:
    """Whether trying again cannot help."""
    final = isinstance(failure, (NotAllowedError, UnsuitableServerError))
    return final and not isinstance(failure, PassingError)


def targets(
    settings: ConnectionSettings, served: str, info: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """The given addresses, then those that the cluster announced, each with a name for TLS.

    The name is empty if it is the address's own. Announced servers belong to the address that
    announced them: they get its login, and no other. They are announced by IP address, and a
    certificate may be valid for the name alone.

    `served` is the given address that was last connected to, and `info` its server's INFO.
    """
    found = [(address, "") for address in settings.addresses]
    hosts = {_bare(address) for address, _ in found}
    used = urlsplit(served)
    scheme = "tls" if used.scheme == "tls" else "nats"
    login, at, _ = used.netloc.rpartition("@")
    name = "" if used.hostname is None or _is_ip(used.hostname) else used.hostname
    told = info.get("connect_urls")
    announced = map(str, told if isinstance(told, list) else [])
    others = [host for host in announced if host not in hosts]
    if len(others) > MOST_ANNOUNCED:
        others = random.sample(others, MOST_ANNOUNCED)  # the rest have their turn later
    for host in others:
        address = f"{scheme}://{login}{at}{host}"
        found.append((address, ""))
        if name and info.get("tls_required"):
            found.append((address, name))
    return found


def options(settings: ConnectionSettings, name: str, address: str, tls_name: str) -> dict[str, Any]:
    """What nats-py's `connect` is given; files are read anew each time."""
    given: dict[str, Any] = {"servers": [address], "name": name}
    url = urlsplit(address)
    if url.username is not None:
        # Taken out of the address and decoded (RFC 3986, 2.1): nats-py does not.
        bare = url._replace(netloc=_bare(address))
        given["servers"] = [bare.geturl()]
        if settings.token or settings.user or settings.nkey or settings.jwt or settings.user_jwt:
            pass  # an option replaces what the address says
        elif url.password is None:
            given["token"] = unquote(url.username)
        else:
            given |= {"user": unquote(url.username), "password": unquote(url.password)}
    if settings.token:
        given["token"] = settings.token
    if settings.user:
        given |= {"user": settings.user, "password": settings.password or ""}
    if credentials := settings.credentials():
        given["user_credentials"] = _credentials(*credentials)
    elif settings.nkey:
        given["nkeys_seed_str"] = settings.seed()
    given["tls_handshake_first"] = settings.tls_first
    if tls_name:
        given["tls_hostname"] = tls_name
    if settings.ca or settings.cert or settings.secure or settings.tls_first:
        given["tls"] = _tls(settings)
    return given


def check_headers(address: str, info: Mapping[str, Any]) -> None:
    """Make sure that a server supports headers.

    Raises:
        UnsuitableServerError: it does not, by its own INFO.
    """
    if not info.get("headers"):
        raise UnsuitableServerError(
            f"{redacted(address)} does not support headers, which gozo needs: remove "
            "no_header_support from the server's configuration"
        )


def explain(
    address: str, error: Exception, info: dict[str, Any], settings: ConnectionSettings
) -> GozoError:
    """Say why connecting to an address failed; `info` is what its server sent, if it did.

    It is a NotAllowedError if the server would refuse again, and a TurnedAwayError if it does
    not accept the connection for now.
    """
    if isinstance(error, UnsuitableServerError):
        return error
    shown = redacted(address)
    if info.get("tls_verify") and not settings.cert:
        return NotAllowedError(f"{shown} requires a client certificate: give --cert and --key")
    if info.get("tls_verify") and isinstance(error, ConnectionError):
        # With TLS 1.3 the client is through before the server has looked at its certificate,
        # and the alert may be lost with the connection.
        return PassingError(
            f"{shown} closed the connection after it got the certificate: check --cert and --key"
        )
    if isinstance(error, nats_errors.SecureConnRequiredError):
        return NotAllowedError(
            f"{shown} does not offer TLS, which tls://, --secure, --ca or --cert requires: enable "
            "it there, or give --no-secure and a nats:// address to connect without TLS"
        )
    if isinstance(error, ssl.SSLError):
        return NotAllowedError(
            f"no TLS with {shown}: {_reason(error)}: check --ca, --cert and --key"
        )
    said = _said(error)
    if said and any(word in said.lower() for word in _FINAL) and "timeout" not in said.lower():
        return NotAllowedError(
            f"{shown} refused the credentials ({said}): check --token, --user and --password, "
            "--nkey or --jwt"
        )
    if said:
        return TurnedAwayError(f"{shown} refused the connection ({said})")
    return NoServerError(f"{shown} does not answer ({_plain(error)})")


def _said(error: Exception) -> str:
    """What the server itself said: nats-py hands its error line on, in the server's quotes."""
    if not isinstance(error, nats_errors.Error):
        return ""
    text = str(error).removeprefix("nats: ").strip()
    return text.strip("' ") if text.startswith("'") else ""


def _credentials(jwt: str, seed: str) -> RawCredentials:
    """Put a JWT and a seed into the form of a credentials file."""
    return RawCredentials(
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )


def _tls(settings: ConnectionSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca)
        if settings.cert:
            context.load_cert_chain(settings.cert, settings.key)
    except (OSError, ValueError) as error:
        paths = ", ".join(str(p) for p in (settings.ca, settings.cert, settings.key) if p)
        raise SettingsError(f"cannot use the certificates in {paths}: {error}") from error
    return context


def _reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({error.verify_message.rstrip('.')})"
    return str(error.reason or error)


def _plain(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return str(error).removeprefix("nats: ").strip() or type(error).__name__


def _bare(address: str) -> str:
    """The host and the port of an address, without a login."""
    return urlsplit(address).netloc.rpartition("@")[2]


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
