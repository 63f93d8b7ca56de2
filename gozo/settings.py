"""Settings: what the user chose, resolved from every source, checked, frozen.

The options that fill them are declared in `gozo.options`; where values are looked for, and in
which order, is in `gozo.sources`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gozo import values
from gozo.errors import SettingsError
from gozo.logs import DEFAULT_LEVEL
from gozo.options import CONNECTION, SERVE, Option
from gozo.sources import Sources
from gozo.values import redacted

__all__ = ["ConnectionSettings", "ServeSettings", "redacted", "resolve_connection", "resolve_serve"]


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """How to reach NATS, and where gozo lives there. Secrets are kept out of `repr`."""

    addresses: tuple[str, ...] = field(default=("nats://localhost:4222",), repr=False)
    """Each with scheme, host and port: `nats://[user[:password]@]host:port`, or `tls://`."""
    secure: bool = False
    token: str | None = field(default=None, repr=False)
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    cert: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    nkey: str | None = field(default=None, repr=False)
    """A seed (`SU...`), or the path of a file that holds one: see `seed`."""
    jwt: Path | None = None
    """The path of a credentials file."""
    request_subject: str = "gozo"
    bucket: str = "gozo"

    def seed(self) -> str | None:
        """Return the seed that `nkey` means, read anew if it is in a file; None without one.

        Raises:
            SettingsError: the file is gone, or holds no seed any more.
        """
        if self.nkey is None:
            return None
        try:
            return values.seed_of(self.nkey)
        except values.UnusableError as error:
            raise SettingsError(f"the value of --nkey {error}") from None


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """Everything that `gozo serve` needs to know."""

    connection: ConnectionSettings
    name: str = field(default_factory=values.default_name)
    """Different for each daemon; safe in a log."""
    replicas: int | None = None
    """Copies of the bucket that the servers keep; None: 3 in a cluster, else 1."""
    max_backlog: int = 512 * 1024 * 1024
    """Bytes of requests that may wait in memory to be stored."""
    connect_timeout: float = 3.0
    """Seconds to wait for a server at the start."""
    log_level: str = DEFAULT_LEVEL
    embedded: bool = False
    store: Path | None = None
    """Where the embedded server keeps its data; None: the user's data directory."""


def resolve_connection(sources: Sources) -> ConnectionSettings:
    """Resolve the options that every command that connects has.

    Raises:
        SettingsError: a value cannot be used.
    """
    _check_pair(sources)
    return ConnectionSettings(**_values(CONNECTION, sources))


def resolve_serve(sources: Sources) -> ServeSettings:
    """Resolve all options of `gozo serve`.

    Raises:
        SettingsError: a value cannot be used.
    """
    return ServeSettings(resolve_connection(sources), **_values(SERVE, sources))


def _values(options: Iterable[Option], sources: Sources) -> dict[str, Any]:
    """Return the values found, by field; what is not found is left to the default."""
    found = ((option, sources.find(option)) for option in options)
    return {option.field: option.parse(*where) for option, where in found if where is not None}


def _check_pair(sources: Sources) -> None:
    cert, key = (option for option in CONNECTION if option.name in ("cert", "key"))
    for given, missing in ((cert, key), (key, cert)):
        where = sources.find(given)
        if where is not None and sources.find(missing) is None:
            raise SettingsError(
                f"{where[1]} is given without --{missing.name} ({missing.variable}): "
                "give both, or neither"
            )
