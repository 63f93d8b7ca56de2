"""Settings: what the user chose, checked and frozen."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from gozo.errors import SettingsError, UnusableError
from gozo.protocol.inboxes import OWN, SHARED
from gozo.protocol.subject_policy import Policy
from gozo.runtime.logs import DEFAULT_FORMAT, DEFAULT_LEVEL
from gozo.settings.credentials import credentials_of, seed_of
from gozo.settings.parsers import default_name


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """How to reach NATS, and where gozo lives there. Secrets are kept out of `repr`."""

    addresses: tuple[str, ...] = field(default=("nats://localhost:4222",), repr=False)
    """Each with scheme, host and port: `nats://[user[:password]@]host:port`, or `tls://`."""
    context: str | None = None
    """The context of the NATS command line that some of the rest was taken from."""
    secure: bool | None = None
    """Whether TLS is required; None: if certificates are given, see `demands_tls`."""
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
    js_prefix: str = "$JS.API"
    """What the subjects of the JetStream API begin with: another where it is in a domain."""
    inbox_prefix: str | None = None
    """What the subjects of answers begin with; None: see `gozo.protocol.inboxes`."""
    user_jwt: str | None = field(default=None, repr=False)
    """What a context may hold in the place of a credentials file, with the seed below."""
    user_seed: str | None = field(default=None, repr=False)
    tls_first: bool = False
    """Encrypt before the server has said anything, as it must be configured to expect."""

    @property
    def demands_tls(self) -> bool:
        """Whether nothing is sent to a server that does not offer TLS.

        Given certificates require it; `tls://` in an address does so for that address.
        """
        if self.secure is not None:
            return self.secure
        return bool(self.ca or self.cert or self.tls_first)

    def seed(self) -> str | None:
        """Return the seed that `nkey` means, read anew if it is in a file; None without one.

        Raises:
            SettingsError: the file is gone, or holds no seed any more.
        """
        if self.nkey is None:
            return None
        try:
            return seed_of(self.nkey)
        except UnusableError as error:
            raise SettingsError(f"the value of --nkey {error}") from None

    def credentials(self) -> tuple[str, str] | None:
        """Return the JWT and the seed to log in with, read anew if in a file; None without.

        Raises:
            SettingsError: the file is gone, or holds no credentials any more.
        """
        if self.jwt is None:
            return None if self.user_jwt is None else (self.user_jwt, self.user_seed or "")
        try:
            return credentials_of(self.jwt)
        except UnusableError as error:
            raise SettingsError(f"the value {str(self.jwt)!r} of --jwt {error}") from None


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """Everything that `gozo serve` needs to know."""

    connection: ConnectionSettings
    name: str = field(default_factory=default_name)
    """Different for each daemon; safe in a log."""
    replicas: int | None = None
    """Copies of the bucket that the servers keep; None: 3 in a cluster, else 1."""
    max_backlog: int = 512 * 1024 * 1024
    """Bytes of requests that may wait in memory to be stored."""
    allow: tuple[str, ...] = ()
    """Patterns of the subjects that may be targets; empty: all."""
    deny: tuple[str, ...] = ()
    """Patterns of subjects that may not be targets, allowed or not."""
    allow_answers: tuple[str, ...] = ()
    """Patterns of subjects that answers may go to besides `allow`; empty: see `policy`."""
    max_pending: int | None = None
    """Schedules that may wait, as far as requests can make it more."""
    max_payload: int | None = None
    """Bytes of payload that a request may have."""
    max_delay_us: int | None = None
    """Microseconds ahead that a request may be due."""
    max_rate: float | None = None
    """Requests taken in a second."""
    min_interval_us: int = 100_000
    """Microseconds between two occurrences, where a request gives an interval."""
    max_deliver_rate: float | None = None
    """Messages sent in a second."""
    connect_timeout: float = 3.0
    """Seconds to wait for a server at the start."""
    skip_due_before_us: int | None = None
    """Schedules that are in the bucket at the start and were due before are left out."""
    metrics: tuple[str, int] | None = None
    """Host and port on which figures are served over HTTP; None: they are not."""
    events: bool = False
    """Whether what happens to schedules is told on `<request subject>.event.>`."""
    history_us: int | None = None
    """How long a stream keeps what is told, in microseconds; None: none is made."""
    log_level: str = DEFAULT_LEVEL
    log_format: str = DEFAULT_FORMAT
    embedded: bool = False
    store: Path | None = None
    """Where the embedded server keeps its data; None: the user's data directory."""

    @property
    def policy(self) -> Policy:
        """What schedules and answers may be sent to.

        Where `allow` is all that limits them, answers go to inboxes as well.
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
