"""The nouns of the field, as frozen data: a request, an entry of the bucket, a message to send.

Times are whole microseconds since the Unix epoch (suffix `_us`): exact to the year 9999,
where a float is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

MICROSECONDS = 1_000_000
"""Microseconds in a second."""

NEVER = 1 << 62
"""Later than any due time: a schedule that is kept but not delivered."""

LONGEST_REASON = 200
"""Characters: others may have a say in a reason."""


class State(StrEnum):
    """What becomes of a schedule, as its entry says in `Gozo-State`."""

    PENDING = "pending"
    RETRYING = "retrying"
    """A delivery did not succeed; it is tried again at `next_us`."""
    FAILED = "failed"
    """Tried as often as was asked for: kept, and not tried again."""
    PAUSED = "paused"
    """Kept and not delivered, until it is resumed."""


AT_REST = frozenset({State.FAILED, State.PAUSED})
"""The states in which nothing is to be done about a schedule."""


class Misfire(StrEnum):
    """What becomes of occurrences that were missed."""

    ONCE = "once"
    """One is sent for all."""
    ALL = "all"
    """Each is sent, in order."""
    SKIP = "skip"
    """None is sent."""


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """What a schedule has beyond a moment: how it recurs, until when, and what if it is late."""

    recurs: bool = False
    """Whether its expression names more than one moment."""
    zone: str = ""
    """Where clocks show the times of its expression; "" is UTC."""
    start_us: int | None = None
    """It is not due before, and intervals count from it; None: from when it was received."""
    until_us: int = NEVER
    """It is not due after."""
    count: int = 0
    """How often it is sent; 0: without end."""
    jitter_us: int = 0
    """The longest delay that is added to a due time."""
    misfire: Misfire = Misfire.ONCE
    grace_us: int | None = None
    """How late an occurrence may be without being missed; None: see `recurrence.grace_us`."""
    occurred: int = 0
    """How often it was sent."""
    last_us: int = 0
    """The nominal time of the last one that was sent; 0: there was none."""
    reckoned_us: int = 0
    """When the present due time was reckoned, where that was long after the one before; else 0."""


OVERDUE_US = MICROSECONDS
"""How late a schedule is still called pending."""


class Entry(NamedTuple):
    """A schedule as the bucket's headers tell it; the payload stays where it is.

    A tuple, because a dataclass that is frozen takes four times as long to make.
    """

    id: str | None
    subject: str
    when: str
    """The expression as the client wrote it."""
    due_us: int
    """The nominal time."""
    created_us: int
    token: bytes = b""
    """Tells the writer its own earlier attempt; empty where the entry came another way."""
    size: int = 0
    """Bytes of the payload, where the server told them without it."""
    headers: bytes = b""
    """Header lines that are passed on with the message."""
    extended: bool = False
    """Whether the delivery has `Gozo-Due`: the request used more than the basic protocol."""
    confirm: bool = False
    """Whether a delivery counts only once a stream has acknowledged it."""
    attempts: int = 0
    """How often a delivery is tried; 0: until it succeeds."""
    tried: int = 0
    """How often it was tried in vain."""
    state: State = State.PENDING
    reason: str = ""
    """Why the last attempt failed."""
    next_us: int = 0
    """When it is tried or sent, where that is not its due time; 0: it is."""
    managed_by: str = ""
    """The set of schedules that it belongs to, which is applied as a whole; "": to none."""
    expires: bool = False
    """Whether the server would remove it by itself (`Nats-TTL`), due or not."""
    spec: ScheduleSpec | None = None
    """None where there is nothing but one moment."""
    protected: bool = False
    """Whether requests can neither replace nor cancel it."""

    @property
    def wake_us(self) -> int:
        """When something is to be done about it."""
        return NEVER if self.state in AT_REST else self.next_us or self.due_us

    @property
    def recurs(self) -> bool:
        """Whether it may have more occurrences than one."""
        return self.spec is not None and self.spec.recurs


RARE = Entry._fields.index("headers")
"""From where on the fields of an entry are those that few requests give."""

PLAIN = Entry(None, "", "", 0, 0)[RARE:]
"""What they are in all others: to compare them all is quicker than to look at two."""


class ScheduleRequest(NamedTuple):
    """Send `payload` to the subject of `entry` when it is due."""

    entry: Entry
    payload: bytes
    receipt: str | None = None
    """Where a receipt is to be sent."""

    @property
    def id(self) -> str | None:
        """The id, if there is one."""
        return self.entry.id


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """Forget the schedule with this id."""

    id: str
    receipt: str | None = None


Request = ScheduleRequest | CancelRequest


class Reason(StrEnum):
    """Why a schedule left the bucket, as its delete marker says in `Gozo-Reason`."""

    DELIVERED = "delivered"
    CANCELLED = "cancelled"
    MISSED = "missed"
    FAILED = "failed"
    """Its last occurrence was given up."""
    BARRIER = "barrier"
    """Not a schedule: the mark that a new leader waits for."""
    UNKNOWN = ""
    """Deleted by something that is not gozo."""


@dataclass(frozen=True, slots=True)
class Marker:
    """A delete marker."""

    reason: Reason
    ttl_us: int
    """How long the server keeps the marker; 0: for ever."""
    by_client: bool = False
    """Whether a client cancelled the schedule, in the bucket itself."""


@dataclass(slots=True)
class Outgoing:
    """A message ready to be sent; not frozen, because millions are made."""

    subject: bytes
    headers: bytes
    payload: bytes
    due_us: int
    """Its nominal time, however late it is tried."""
    confirm: bool = False
    """Whether a stream has to acknowledge it."""
    counted: bool = False
    """Whether it is sent a limited number of times."""
    entry: Entry | None = None
    """What it was made from, where the schedule has a spec: it is looked at when it is due."""

    @property
    def size(self) -> int:
        """Bytes that count against the server's `max_payload`."""
        return len(self.headers) + len(self.payload)
