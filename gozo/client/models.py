"""What `gozo.client` takes and gives, as frozen data. Moments are aware datetimes, in UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

from gozo.leadership.rivals import words as rival_words
from gozo.schedule.model import NEVER, ScheduleSpec

Headers = tuple[tuple[str, str], ...]
"""Names and values, in order; a name may come more than once."""


class Schedule(NamedTuple):
    """A schedule as the bucket holds it.

    A tuple, because a list may have a hundred thousand, and frozen dataclasses are slow to make.
    """

    id: str | None
    """None where it has none, or where its key is of no id."""
    key: str
    """Its key in the bucket."""
    subject: str
    """What it will be sent to; empty where that cannot be read."""
    when: str
    """The expression, as it was given."""
    due: datetime
    """The nominal time, or the next one; where it cannot be read, the time of storing."""
    created: datetime
    size: int
    """Bytes of the payload."""
    headers: Headers = ()
    """Headers that are passed on with the message."""
    state: str = "pending"
    """`pending`, `overdue` (due more than a second ago and still there), `retrying`, `failed`,
    `paused`, or `invalid`: gozo cannot deliver it."""
    reason: str = ""
    """Why it is retried, failed or invalid; the note of one that is paused."""
    revision: int = 0
    """Its sequence in the bucket's stream."""
    payload: bytes | None = None
    """None where only the headers were read."""
    confirm: bool = False
    """Whether a delivery counts only once a stream has acknowledged it."""
    attempts: int = 0
    """How often a delivery is tried; 0: until it succeeds."""
    spec: ScheduleSpec | None = None
    """How it recurs, and until when; None where there is nothing but one moment."""
    managed_by: str = ""
    """The set that it was applied with; empty where it was made otherwise."""
    tried: int = 0
    """How often it was tried in vain."""
    next: datetime | None = None
    """When it is tried again, where it is retried."""
    protected: bool = False
    """Whether requests can neither replace nor cancel it."""

    @property
    def recurs(self) -> bool:
        """Whether the expression names more times than one."""
        return self.spec is not None and self.spec.recurs

    @property
    def last(self) -> datetime | None:
        """The nominal time of the last occurrence that was delivered."""
        if self.spec is None or not self.spec.last_us:
            return None
        return _moment(self.spec.last_us)

    @property
    def start(self) -> datetime | None:
        """It is not due before."""
        start_us = None if self.spec is None else self.spec.start_us
        return None if start_us is None else _moment(start_us)

    @property
    def until(self) -> datetime | None:
        """It is not due after."""
        if self.spec is None or self.spec.until_us == NEVER:
            return None
        return _moment(self.spec.until_us)

    @property
    def remaining(self) -> int | None:
        """How often it is still delivered; None: without end."""
        if self.spec is None or not self.spec.count:
            return None
        return self.spec.count - self.spec.occurred


@dataclass(frozen=True, slots=True)
class Stored:
    """A schedule was stored."""

    id: str | None
    due: datetime
    replaced: bool
    """Whether it took the place of an earlier one."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A schedule as somebody wants it to be."""

    id: str
    subject: str
    when: str
    """An expression of `Gozo-When`."""
    payload: bytes = b""
    headers: Headers = ()
    confirm: bool = False
    attempts: int = 0
    spec: ScheduleSpec | None = None
    """How it recurs, and until when; None where there is nothing but one moment."""
    managed_by: str = ""
    """The set that it belongs to."""
    paused: bool | None = None
    """Whether it is kept and not delivered; None leaves that as it is."""
    note: str = ""
    """Why it is paused."""
    protect: bool | None = None
    """Whether requests can neither replace nor cancel it; None leaves that as it is."""


Action = Literal["create", "change", "adopt", "leave", "past", "remove"]


@dataclass(frozen=True, slots=True)
class Applied:
    """What was done, or is to be done, so that a schedule is as it is wanted."""

    id: str
    action: Action
    """`adopt` makes it belong to the set and changes nothing else; `past` leaves out what was
    due at a moment that has passed, and is not there any more."""
    keys: tuple[str, ...] = ()
    """What is changed: the keys of a file of schedules, such as `payload`."""
    at_once: bool = False
    """Whether a change has it sent at once, since the moment in it has passed."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What became of a cancel."""

    id: str
    status: Literal["cancelled", "already_delivered", "not_found"]


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a schedule that was to be paused, resumed or triggered."""

    id: str
    status: Literal["paused", "resumed", "triggered", "failed", "already_delivered", "not_found"]
    """`failed`: it was triggered, and could not be delivered."""
    reason: str = ""
    """Why it failed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a schedule left the bucket; known for a while, see `Client.last_outcome`."""

    reason: str
    """`delivered`, `cancelled`, `missed`, `failed`; empty where something else removed it."""
    at: datetime | None
    """None where only the daemon remembers it, which does not keep the time."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that `Client.watch` saw."""

    kind: Literal["put", "removed", "current"]
    """`current` comes once: all that was there before has been told, changes follow."""
    key: str = ""
    id: str | None = None
    schedule: Schedule | None = None
    """What was put; without payload."""
    reason: str = ""
    """Why it was removed, as in `Outcome`."""
    at: datetime | None = None
    """When the server stored the change."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a daemon told, where it runs with `--events`."""

    kind: str
    """One of `gozo.protocol.event_kinds.Kind`, such as `accepted` or `delivered`."""
    at: datetime
    daemon: str
    """The name of the daemon that told it."""
    id: str | None = None
    subject: str = ""
    """What the schedule is sent to."""
    when: str = ""
    """The expression, where one was accepted or rescheduled."""
    due: datetime | None = None
    state: str = ""
    """`pending` or `paused`, where one was accepted."""
    late_ms: float | None = None
    """How long after its due time the server had a message."""
    replaced: bool = False
    """Whether what was accepted took the place of an earlier schedule."""
    error: str = ""
    """The code of a refusal."""
    message: str = ""
    """Why it was refused."""
    attempts: int = 0
    """How often a delivery was tried in vain."""
    reason: str = ""
    """Why it was in vain, or why an entry is invalid."""
    note: str = ""
    """Why it is paused, where that was said."""


@dataclass(frozen=True, slots=True)
class HistoryInfo:
    """The stream that keeps events, as the server describes it."""

    name: str
    subjects: tuple[str, ...]
    """What it keeps."""
    is_current: bool
    """Whether it keeps what is told on the request subject."""
    events: int
    created: datetime
    first: datetime | None
    """When the oldest event was stored that it has; None: it has none."""
    last: datetime | None
    max_age: timedelta | None
    """How long it keeps them; None: without end."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The configuration of the stream, in the server's own words."""


@dataclass(frozen=True, slots=True)
class Replica:
    """A running daemon, as it describes itself."""

    name: str
    version: str
    role: str
    """`leader` or `standby`."""
    pending: int
    overdue: int
    invalid: int
    """Entries of the bucket that it cannot read."""
    delivered: int
    refused: int
    lateness_p50_ms: float
    lateness_p99_ms: float
    started: datetime
    accepted: int = 0
    """Requests taken; 0 where an older version does not say."""
    next_due: datetime | None = None
    """When the next schedule is due that it knows of and that waits."""
    problem: str = ""
    """Why it is not serving; empty if it is, or if its version does not say."""
    paused: int = 0
    """Schedules that are kept until they are resumed; 0 where an older version does not say."""
    failed: int = 0
    """Schedules that were given up, and are kept; 0 where an older version does not say."""

    @property
    def delivers(self) -> bool:
        """Whether it leads and is serving."""
        return self.role == "leader" and not self.problem


@dataclass(frozen=True, slots=True)
class Counts:
    """How many schedules there are, those that cannot be delivered included."""

    schedules: int
    overdue: int
    """Due for more than a second and still there."""
    paused: int
    failed: int
    invalid: int
    next_due: datetime | None
    """When the next one is due that is neither overdue nor tried again; None: there is none."""


@dataclass(frozen=True, slots=True)
class Rival:
    """One of several daemons that lead on one request subject, each with a bucket of its own."""

    name: str
    bucket: str
    domain: str
    """The JetStream domain of the bucket; empty if it has none."""
    server: str
    """The server that it is connected to; empty if its version does not say."""

    def __str__(self) -> str:
        """Name it for people."""
        return rival_words(self.name, self.bucket, self.domain, self.server)


@dataclass(frozen=True, slots=True)
class BucketInfo:
    """The bucket, as the server describes it."""

    name: str
    keys: int
    """Schedules, and the delete markers of those that went a moment ago."""
    bytes: int
    replicas: int
    storage: str
    """`file` or `memory`."""
    created: datetime
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The configuration of the stream behind it, in the server's own words."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message that arrived."""

    subject: str
    payload: bytes
    headers: Headers
    at: datetime
    """When it was read, by this host's clock."""
    reply: str = ""


@dataclass(frozen=True, slots=True)
class Server:
    """The server that a client is connected to."""

    name: str
    version: str
    address: str
    max_payload: int
    """Bytes that a message may have, headers included."""


def _moment(us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
