"""The settings of a connection and of `gozo serve`: checked and frozen."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gozo.errors import SettingsError, UnusableError, invalid_value
from gozo.protocol.inboxes import OWN, SHARED
from gozo.protocol.subject_policy import Policy
from gozo.runtime.logs import DEFAULT_FORMAT, DEFAULT_LEVEL
from gozo.settings.credentials import credentials_of, seed_of
from gozo.settings.parsers import default_name


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """How to connect to NATS, and gozo's subject and bucket there. `repr` shows no secrets."""

    addresses: tuple[str, ...] = field(default=("nats://localhost:4222",), repr=False)
    """Each with scheme, host and port: `nats://[user[:password]@]host:port`, or `tls://`."""
    context: str | None = None
    """The context of the NATS CLI that the other fields were read from, if any."""
    secure: bool | None = None
    """Whether TLS is required; None: depends on the certificates, see `demands_tls`."""
    token: str | None = field(default=None, repr=False)
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    cert: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    nkey: str | None = field(default=None, repr=False)
    """A seed (`SU...`), or the path of a file that contains one: see `seed`."""
    jwt: Path | None = None
    """The path of a credentials file."""
    request_subject: str = "gozo"
    bucket: str = "gozo"
    js_prefix: str = "$JS.API"
    """The prefix of the JetStream API; differs in a domain."""
    inbox_prefix: str | None = None
    """The prefix of the inboxes; None: see `gozo.protocol.inboxes`."""
    user_jwt: str | None = field(default=None, repr=False)
    """The JWT in a context that replaces a credentials file, together with `user_seed`."""
    user_seed: str | None = field(default=None, repr=False)
    tls_first: bool = False
    """Start TLS before the server sends its INFO; the server must be configured for it."""

    @property
    def demands_tls(self) -> bool:
        """Whether TLS is required of the server.

        Given certificates require it; `tls://` in an address does so for that address.
        """
        if self.secure is not None:
            return self.secure
        return bool(self.ca or self.cert or self.tls_first)

    def seed(self) -> str | None:
        """Return the seed of `nkey`, read again if it is in a file; None without `nkey`.

        Raises:
            SettingsError: the file is gone, or no longer contains a seed.
        """
        if self.nkey is None:
            return None
        try:
            return seed_of(self.nkey)
        except UnusableError as error:
            raise SettingsError(invalid_value("--nkey", None, error)) from None

    def credentials(self) -> tuple[str, str] | None:
        """Return JWT and seed, read again if they are in a file; None if not configured.

        Raises:
            SettingsError: the file is gone, or no longer contains credentials.
        """
        if self.jwt is None:
            return None if self.user_jwt is None else (self.user_jwt, self.user_seed or "")
        try:
            return credentials_of(self.jwt)
        except UnusableError as error:
            raise SettingsError(invalid_value("--jwt", str(self.jwt), error)) from None


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """The settings of `gozo serve`."""

    connection: ConnectionSettings
    name: str = field(default_factory=default_name)
    """Unique for each daemon; safe in a log."""
    replicas: int | None = None
    """Replicas of the bucket; None: 3 in a cluster, else 1."""
    max_backlog: int = 512 * 1024 * 1024
    """Bytes of memory for requests waiting to be stored."""
    allow: tuple[str, ...] = ()
    """Patterns of subjects that may be targets; empty: all."""
    deny: tuple[str, ...] = ()
    """Patterns of subjects that may not be targets, even if allowed."""
    allow_answers: tuple[str, ...] = ()
    """Patterns of subjects for answers, besides `allow`; empty: see `policy`."""
    max_pending: int | None = None
    """Maximum number of pending schedules: further requests are refused."""
    max_payload: int | None = None
    """Maximum payload of a request, in bytes."""
    max_delay_us: int | None = None
    """Maximum time until a request is due, in microseconds."""
    max_rate: float | None = None
    """Maximum requests per second."""
    min_interval_us: int = 100_000
    """Minimum interval that a request may give, in microseconds."""
    max_deliver_rate: float | None = None
    """Maximum messages sent per second."""
    connect_timeout: float = 3.0
    """Seconds to wait for a server at startup."""
    skip_due_before_us: int | None = None
    """Schedules found in the bucket at startup and due before this time are skipped."""
    metrics: tuple[str, int] | None = None
    """Host and port of the HTTP server for metrics and health; None: no server."""
    metrics_ids: tuple[str, ...] = ()
    """Patterns of the ids for which the metrics say when they succeeded last."""
    events: bool = False
    """Whether events are published on `<request subject>.event.>`."""
    history_us: int | None = None
    """How long a stream keeps events, in microseconds; None: no stream."""
    outcomes_us: int = 90 * 86_400 * 1_000_000
    """How long streams keep outcomes and output, in microseconds; 0: no streams."""
    log_level: str = DEFAULT_LEVEL
    log_format: str = DEFAULT_FORMAT
    embedded: bool = False
    store: Path | None = None
    """Data directory of the embedded server; None: the user's data directory."""

    @property
    def policy(self) -> Policy:
        """The subjects that schedules and answers may be sent to.

        With `allow` and without `allow_answers`, answers may go to inboxes as well.
        """
        chosen = self.connection
        prefixes = (SHARED, *([chosen.inbox_prefix] if chosen.inbox_prefix else ()))
        answers = self.allow_answers
        if self.allow and not answers:
            answers = tuple(f"{prefix}.>" for prefix in prefixes)
        return Policy(
            chosen.request_subject,
            self.allow,
            self.deny,
            answers,
            chosen.js_prefix,
            inboxes=(OWN, *(f"{prefix}.{OWN}" for prefix in prefixes)),
        )
