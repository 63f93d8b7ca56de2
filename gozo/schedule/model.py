"""Frozen data: requests, entries of the bucket, messages to send.

Times are whole microseconds since the Unix epoch (suffix `_us`): exact up to the year 9999,
unlike floats.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from gozo.schedule.outcome import Record

MICROSECONDS = 1_000_000
"""Microseconds in a second."""

NEVER = 1 << 62
"""Later than any due time: the schedule is kept but not delivered."""

LONGEST_REASON = 200
"""Maximum characters of a reason, which may come from others."""

LONGEST_WAIT_US = 60 * MICROSECONDS
"""The longest wait before the next attempt to deliver."""


class State(StrEnum):
    """The state of a schedule, as in `Gozo-State` of its entry."""

    PENDING = "pending"
    RUNNING = "running"
    """An attempt was sent, and its receiver has given no final answer."""
    RETRYING = "retrying"
    """A delivery failed; the next attempt is at `next_us`."""
    FAILED = "failed"
    """All attempts failed: kept, and not retried."""
    PAUSED = "paused"
    """Kept and not delivered until it is resumed."""


AT_REST = frozenset({State.FAILED, State.PAUSED, State.RUNNING})
"""The states of schedules that are not to be sent."""


class Misfire(StrEnum):
    """What happens to missed occurrences."""

    ONCE = "once"
    """One is sent in place of all."""
    ALL = "all"
    """Each is sent, in order."""
    SKIP = "skip"
    """None is sent."""


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """How a schedule recurs, until when, and what happens to missed occurrences."""

    recurs: bool = False
    """Whether its expression names more than one moment."""
    zone: str = ""
    """The time zone of its cron expression; "" is UTC."""
    start_us: int | None = None
    """It is not due before; intervals count from here. None: from when it was received."""
    until_us: int = NEVER
    """It is not due after."""
    count: int = 0
    """How often it is sent; 0: without limit."""
    jitter_us: int = 0
    """The longest random delay added to a due time."""
    misfire: Misfire = Misfire.ONCE
    grace_us: int | None = None
    """How late an occurrence may be before it is missed; None: see `recurrence.grace_us`."""
    occurred: int = 0
    """How often it was sent."""
    last_us: int = 0
    """The nominal time of the last occurrence sent; 0: none yet."""
    reckoned_us: int = 0
    """When the current due time was computed, if that was long after the previous one; else 0."""


class Confirm(StrEnum):
    """What has to confirm a delivery, as in `Gozo-Confirm`."""

    STREAM = "stream"
    """A stream that stores the message."""
    REPLY = "reply"
    """The receiver, with an answer."""
    CLAIM = "claim"
    """The receiver, which asks before it starts."""


class Overlap(StrEnum):
    """What to do with an occurrence that is due while an earlier one is not settled."""

    ALLOW = "allow"
    """Send both."""
    SKIP = "skip"
    """Skip it."""
    QUEUE = "queue"
    """Let it wait; at most one waits."""


ACK_WAIT_US = 30 * MICROSECONDS
"""How long a receiver may be silent, unless `Gozo-Ack-Wait` says otherwise."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """How a delivery is confirmed, retried and given up."""

    by: Confirm
    ack_wait_us: int = ACK_WAIT_US
    """How long the receiver may be silent before an attempt counts as unanswered."""
    backoff_us: tuple[int, ...] = ()
    """The waits before the next attempts, of which the last repeats; empty: from 1 s to 1 min."""
    max_age_us: int = 0
    """How long after its due time it may be tried; 0: see `gozo.schedule.runs.give_up_us`."""
    overlap: Overlap | None = None
    """None is `ALLOW`, and gives an occurrence up when the next one is due."""
    dead_letter: str = ""
    """The subject on which it is published if it is given up; "": it is kept as failed."""
    ttl_us: int = 0
    """How long the stream keeps the message; 0: as long as the stream is set to."""
    keep_output: bool = False
    """Whether the output that its receiver sends is kept."""
    expect_us: int = 0
    """How long after its due time it should have succeeded; 0: that is not watched."""

    @property
    def gives_up(self) -> bool:
        """Whether retries end by giving up, so that it is never missed once it was tried."""
        return bool(self.max_age_us or self.dead_letter)


@dataclass(frozen=True, slots=True)
class Run:
    """An occurrence that its receiver has to confirm, in an entry of its own.

    It outlives changes of its schedule until it is settled.
    """

    key: str
    """The key of its schedule, which may be gone."""
    occurrence: str
    """The name of the occurrence; see `gozo.store.run_codec`."""
    sent_us: int = 0
    """When the latest attempt was sent; 0: none was yet."""
    tokens: tuple[tuple[int, str], ...] = ()
    """The latest attempts without a final answer, by number, each with the SHA-256 of its reply
    subject's token; the last one first. An attempt may have several."""
    owner: str = ""
    """SHA-256 of the nonce of the receiver that claimed the attempt."""
    give_up_us: int = NEVER
    """After this time it is not tried again."""
    is_last: bool = False
    """Whether it is not tried again because its schedule was changed or cancelled."""

    @property
    def number(self) -> int:
        """The number of the occurrence; 0: its schedule does not count them."""
        return int(self.occurrence.partition("-")[2] or 0)


OVERDUE_US = MICROSECONDS
"""How late a schedule may be and still be called pending."""


class Entry(NamedTuple):
    """A schedule as in the headers of its entry, without the payload.

    A tuple, because a frozen dataclass takes four times as long to create.
    """

    id: str | None
    subject: str
    when: str
    """The expression as given by the client."""
    due_us: int
    """The nominal time."""
    created_us: int
    token: bytes = b""
    """Identifies the writer's own earlier attempt; empty if another client wrote the entry."""
    size: int = 0
    """Bytes of the payload, if only the headers were read."""
    headers: bytes = b""
    """Header lines passed on with the message."""
    extended: bool = False
    """Whether the delivery has `Gozo-Due`: the request used more than the basic protocol."""
    confirm: bool = False
    """Whether a delivery counts only once a stream has acknowledged it."""
    attempts: int = 0
    """Maximum delivery attempts; 0: without limit."""
    tried: int = 0
    """Delivery attempts that failed."""
    state: State = State.PENDING
    reason: str = ""
    """Why the last attempt failed, or the note of a paused schedule."""
    next_us: int = 0
    """When it is next tried or sent; 0: at its due time."""
    managed_by: str = ""
    """The set of schedules that it was applied with; "" if none."""
    expires: bool = False
    """Whether the server removes it after a time (`Nats-TTL`), due or not."""
    spec: ScheduleSpec | None = None
    """None for a single moment without further options."""
    protected: bool = False
    """Whether requests can neither replace nor cancel it."""
    unknown: bytes = b""
    """Lines of `Gozo-` headers that this version does not know, kept as a client wrote them."""
    confirmation: Confirmation | None = None
    """How it is confirmed; None: by a stream if `confirm`, without other settings."""
    run: Run | None = None
    """The occurrence that this entry is; None if it is a schedule."""
    origin: str = ""
    """What tells the request that it came from, on all replicas alike; "" if it does not matter."""
    record: Record | None = None
    """How its occurrences ended so far; None: none did."""

    @property
    def is_answered(self) -> bool:
        """Whether a receiver has to confirm it, so that each occurrence becomes a `Run`."""
        return self.confirmation is not None and self.confirmation.by is not Confirm.STREAM

    @property
    def is_dead_letter(self) -> bool:
        """Whether it was given up, and is kept until a stream has its dead letter."""
        if self.state is not State.FAILED or self.confirmation is None:
            return False
        return bool(self.confirmation.dead_letter)

    @property
    def wake_us(self) -> int:
        """When it needs attention next."""
        if self.state in AT_REST and not self.is_dead_letter:
            return NEVER
        return self.next_us or self.due_us

    @property
    def recurs(self) -> bool:
        """Whether it may have several occurrences."""
        return self.spec is not None and self.spec.recurs


RARE = Entry._fields.index("headers")
"""The index from which on few requests set an entry's fields."""

PLAIN = Entry(None, "", "", 0, 0)[RARE:]
"""The values of these fields in all others: comparing all is faster than checking two."""


class ScheduleRequest(NamedTuple):
    """A request to send `payload` to the subject of `entry` when it is due."""

    entry: Entry
    payload: bytes
    receipt: str | None = None
    """The subject of the receipt, if requested."""

    @property
    def id(self) -> str | None:
        """The id, if it has one."""
        return self.entry.id


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """A request to cancel the schedule with this id."""

    id: str
    receipt: str | None = None


Request = ScheduleRequest | CancelRequest


class Reason(StrEnum):
    """Why a schedule left the bucket, as in `Gozo-Reason` of its delete marker."""

    DELIVERED = "delivered"
    CANCELLED = "cancelled"
    MISSED = "missed"
    FAILED = "failed"
    """All attempts to deliver its last occurrence failed."""
    BARRIER = "barrier"
    """Not a schedule: the barrier that a new leader waits for."""
    UNKNOWN = ""
    """Not deleted by gozo."""


@dataclass(frozen=True, slots=True)
class Marker:
    """A delete marker."""

    reason: Reason
    ttl_us: int
    """How long the server keeps the marker; 0: without limit."""
    by_client: bool = False
    """Whether a client cancelled the schedule by writing to the bucket."""


@dataclass(slots=True)
class Outgoing:
    """A message ready to be sent; not frozen, because millions are created."""

    subject: bytes
    headers: bytes
    payload: bytes
    due_us: int
    """Its nominal time, however late it is sent."""
    confirm: bool = False
    """Whether a stream must acknowledge it."""
    counted: bool = False
    """Whether failed attempts are stored, because they may lead to giving up."""
    entry: Entry | None = None
    """Its entry, if the schedule has a spec or a `Confirmation`: it is checked when due."""
    answered: bool = False
    """Whether its receiver must confirm it."""

    @property
    def size(self) -> int:
        """Bytes that count towards the server's `max_payload`."""
        return len(self.headers) + len(self.payload)
