"""The frozen data that `gozo.client` accepts and returns. Moments are aware datetimes, in UTC."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

from gozo.client.confirming import ConfirmedBy, Overlap
from gozo.client.outcome_model import Outcome, moment
from gozo.client.spans import Span, Spans
from gozo.leadership.rivals import words as rival_words
from gozo.schedule.model import NEVER, Confirmation, ScheduleSpec

Headers = tuple[tuple[str, str], ...]
"""Names and values, in order; names may repeat."""


class Schedule(NamedTuple):
    """A schedule in the bucket, or a run: an occurrence of one that its receiver has to confirm.

    A tuple, because a list may have a hundred thousand, and frozen dataclasses are slow to create.
    """

    id: str | None
    """None if the schedule has no id, or if its key does not correspond to one."""
    key: str
    """Its key in the bucket."""
    subject: str
    """The subject it is sent to; empty if unreadable."""
    when: str
    """The expression, as given."""
    due: datetime
    """The next nominal time; if unreadable, the time of storing."""
    created: datetime
    size: int
    """Bytes of the payload."""
    headers: Headers = ()
    """Headers passed on with the message."""
    state: str = "pending"
    """`pending`, `overdue` (due more than a second ago and not delivered yet), `running` (sent,
    without a final answer yet), `retrying`, `failed`, `paused`, or `invalid`: gozo cannot deliver
    it. A run is never `overdue` or `paused`."""
    reason: str = ""
    """Why it is retried, failed or invalid, such as the last answer of its receiver; the note of a
    paused schedule."""
    revision: int = 0
    """Its sequence in the bucket's stream."""
    payload: bytes | None = None
    """None if only the headers were read."""
    confirm: ConfirmedBy = False
    """What has to confirm a delivery: True (a stream), `reply`, `claim`, or False."""
    attempts: int = 0
    """Maximum delivery attempts; 0: without limit."""
    spec: ScheduleSpec | None = None
    """How it recurs, and until when; None if it is just one moment."""
    managed_by: str = ""
    """The set that it was applied with; empty if it was created otherwise."""
    tried: int = 0
    """Delivery attempts that failed."""
    next: datetime | None = None
    """The time of the next attempt, if it is retried; if it failed, to publish the dead letter."""
    protected: bool = False
    """Whether requests can neither replace nor cancel it."""
    unknown_headers: tuple[str, ...] = ()
    """Names of its `Gozo-` headers that this version does not know: they have no effect."""
    confirmation: Confirmation | None = None
    """How it is confirmed; None if `confirm` and `attempts` say it all."""
    occurrence: str = ""
    """The name of the occurrence, if it is a run; otherwise empty."""
    attempt: int = 0
    """The number of the latest attempt of a run; 0 before the first, and after its final answer."""
    sent: datetime | None = None
    """When the latest attempt of a run was sent, or claimed."""
    claimed: bool = False
    """Whether a receiver has claimed the latest attempt of a run."""
    give_up: datetime | None = None
    """After this time a run is not tried again."""
    last_attempt: bool = False
    """Whether a run is not tried again because its schedule was changed or cancelled."""
    outcome: Outcome | None = None
    """The latest outcome of a recurring schedule, with empty `detail` and `occurrence`."""
    overdue_at: datetime | None = None
    """When it becomes, or became, overdue unless an occurrence succeeds (`Gozo-Expect`); None if it
    is not watched. That of a run counts only if its schedule is gone."""

    @property
    def is_run(self) -> bool:
        """Whether it is a run, and not a schedule."""
        return bool(self.occurrence)

    @property
    def recurs(self) -> bool:
        """Whether the expression names several times."""
        return self.spec is not None and self.spec.recurs

    @property
    def last(self) -> datetime | None:
        """The nominal time of the last occurrence delivered."""
        if self.spec is None or not self.spec.last_us:
            return None
        return moment(self.spec.last_us)

    @property
    def start(self) -> datetime | None:
        """The moment before which it is not due."""
        start_us = None if self.spec is None else self.spec.start_us
        return None if start_us is None else moment(start_us)

    @property
    def until(self) -> datetime | None:
        """The moment after which it is not due."""
        if self.spec is None or self.spec.until_us == NEVER:
            return None
        return moment(self.spec.until_us)

    @property
    def remaining(self) -> int | None:
        """How many more times it is delivered; None: without limit."""
        if self.spec is None or not self.spec.count:
            return None
        return self.spec.count - self.spec.occurred


@dataclass(frozen=True, slots=True)
class Stored:
    """The result of storing a schedule."""

    id: str | None
    due: datetime
    replaced: bool
    """Whether it replaced an earlier schedule."""
    running: bool = False
    """Of `reschedule`: whether an occurrence is still running; it is not tried again."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A schedule to be applied."""

    id: str
    subject: str
    when: str
    """An expression of `Gozo-When`."""
    payload: bytes = b""
    headers: Headers = ()
    confirm: ConfirmedBy = False
    attempts: int = 0
    spec: ScheduleSpec | None = None
    """How it recurs, and until when; None if it is just one moment."""
    managed_by: str = ""
    """The set it belongs to."""
    paused: bool | None = None
    """Whether it is paused; None leaves that unchanged."""
    note: str = ""
    """Why it is paused."""
    protect: bool | None = None
    """Whether requests can neither replace nor cancel it; None leaves that unchanged."""
    ack_wait: Span | None = None
    """This and the rest, with `confirm` and `attempts`, as for `Client.schedule`."""
    backoff: Spans | None = None
    max_age: Span | None = None
    overlap: Overlap | None = None
    dead_letter: str | None = None
    ttl: Span | None = None
    keep_output: bool = False
    expect: Span | None = None


Action = Literal["create", "change", "adopt", "leave", "past", "remove"]


@dataclass(frozen=True, slots=True)
class Applied:
    """What was done, or would be done, to make a schedule match."""

    id: str
    action: Action
    """`adopt` adds it to the set and changes nothing else; `past` skips a schedule with a moment
    in the past that does not exist any more."""
    keys: tuple[str, ...] = ()
    """The keys of a file of schedules that change, such as `payload`."""
    at_once: bool = False
    """Whether the change causes it to be sent at once, since its moment has passed."""


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The result of a cancel."""

    id: str
    status: Literal["cancelled", "already_delivered", "not_found"]
    running: bool = False
    """Whether an occurrence is still running; it is not tried again."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of pausing, resuming or triggering a schedule."""

    id: str
    status: Literal["paused", "resumed", "triggered", "failed", "already_delivered", "not_found"]
    """`failed`: it was triggered but could not be delivered."""
    reason: str = ""
    """Why it failed; if the schedule is over, what an occurrence of it is still doing."""
    running: bool = False
    """Whether an occurrence is still running, and will not be tried again; if the schedule is over,
    whether one is still running, retried or waiting."""


@dataclass(frozen=True, slots=True)
class Change:
    """A change seen by `Client.watch`."""

    kind: Literal["put", "removed", "current"]
    """`current` comes once, after all existing schedules; changes follow."""
    key: str = ""
    id: str | None = None
    schedule: Schedule | None = None
    """The schedule that was put, without payload."""
    reason: str = ""
    """Why it was removed, as in `Outcome`."""
    at: datetime | None = None
    """When the server stored the change."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event published by a daemon with `--events`."""

    kind: str
    """One of `gozo.protocol.event_kinds.Kind`, such as `accepted` or `delivered`."""
    at: datetime
    daemon: str
    """The name of the daemon that published it."""
    id: str | None = None
    subject: str = ""
    """The subject of the schedule."""
    when: str = ""
    """The expression, of `accepted` and `rescheduled`."""
    due: datetime | None = None
    state: str = ""
    """`pending` or `paused`, of `accepted`."""
    late_ms: float | None = None
    """How long after the due time the server received the message."""
    replaced: bool = False
    """Whether the accepted schedule replaced an earlier one."""
    error: str = ""
    """The code of a refusal."""
    message: str = ""
    """Why it was refused."""
    attempt: int = 0
    """The number of the attempt, of `started`."""
    attempts: int = 0
    """Delivery attempts that failed; of `succeeded`, all attempts."""
    reason: str = ""
    """Why the attempt failed, or why an entry is invalid."""
    note: str = ""
    """Why it is paused, if given."""
    outcome: str = ""
    """How a run ended, as in `Outcome.reason`; of `overdue`, and of an `alert` for that,
    `overdue`."""
    host: str = ""
    exit_status: int | None = None
    took: float | None = None
    """Seconds. This and the two before are what is known of a run that ended."""


@dataclass(frozen=True, slots=True)
class HistoryInfo:
    """The stream that keeps events, as described by the server."""

    name: str
    subjects: tuple[str, ...]
    """The subjects that it stores."""
    is_current: bool
    """Whether it stores the events of this request subject."""
    events: int
    created: datetime
    first: datetime | None
    """When its oldest event was stored; None if it is empty."""
    last: datetime | None
    max_age: timedelta | None
    """How long it keeps events; None: without limit."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The configuration of the stream, as reported by the server."""


@dataclass(frozen=True, slots=True)
class Replica:
    """A running daemon, as described by itself."""

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
    """Requests accepted; 0 from older versions."""
    next_due: datetime | None = None
    """When the next pending schedule is due."""
    problem: str = ""
    """Why it is not serving; empty if it is, and from older versions."""
    paused: int = 0
    """Paused schedules; 0 from older versions."""
    failed: int = 0
    """Schedules whose attempts all failed; 0 from older versions."""

    @property
    def delivers(self) -> bool:
        """Whether it leads and is serving."""
        return self.role == "leader" and not self.problem


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of schedules, including those that cannot be delivered, and of their runs."""

    schedules: int
    overdue: int
    """Due more than a second ago and not delivered yet."""
    paused: int
    failed: int
    invalid: int
    next_due: datetime | None
    """When the next one that is neither overdue nor retried is due; None without one."""
    runs: Mapping[str, int] = field(default_factory=dict)
    """Occurrences that their receivers have to confirm, by state: `running`, `retrying`,
    `pending` or `failed`. They are not counted as schedules."""
    failing: int = 0
    """Schedules that fail: see `Client.failing`. 0 from leaders of older versions."""


@dataclass(frozen=True, slots=True)
class Rival:
    """One of several leaders on one request subject, each with its own bucket."""

    name: str
    bucket: str
    domain: str
    """The JetStream domain of the bucket; empty without one."""
    server: str
    """The server it is connected to; empty from older versions."""

    def __str__(self) -> str:
        """Describe it for people."""
        return rival_words(self.name, self.bucket, self.domain, self.server)


@dataclass(frozen=True, slots=True)
class BucketInfo:
    """The bucket, as described by the server."""

    name: str
    keys: int
    """Schedules, and delete markers of recently removed ones."""
    bytes: int
    replicas: int
    storage: str
    """`file` or `memory`."""
    created: datetime
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The configuration of its stream, as reported by the server."""


@dataclass(frozen=True, slots=True)
class Message:
    """A received message."""

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
    """Maximum bytes of a message, headers included."""
