"""The nouns of the field, as frozen data: a request, an entry of the bucket, a message to send.

Times are whole microseconds since the Unix epoch (suffix `_us`): exact to the year 9999,
where a float is not.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

MICROSECONDS = 1_000_000
"""Microseconds in a second."""


@dataclass(frozen=True, slots=True)
class ScheduleRequest:
    """Send `payload` to `subject` when it is due."""

    id: str | None
    subject: str
    when: str
    """The expression as the client wrote it."""
    due_us: int
    received_us: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class CancelRequest:
    """Forget the schedule with this id."""

    id: str


Request = ScheduleRequest | CancelRequest


class Reason(StrEnum):
    """Why a schedule left the bucket, as its delete marker says in `Gozo-Reason`."""

    DELIVERED = "delivered"
    CANCELLED = "cancelled"
    MISSED = "missed"
    BARRIER = "barrier"
    """Not a schedule: the mark that a new leader waits for."""
    UNKNOWN = ""
    """Deleted by something that is not gozo."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A schedule as the bucket's headers tell it; the payload stays where it is."""

    id: str | None
    subject: str
    due_us: int
    when: str
    created_us: int
    token: bytes
    """Tells the writer its own earlier attempt; empty where the entry came another way."""
    size: int = 0
    """Bytes of the payload, where the server told them without it."""


@dataclass(frozen=True, slots=True)
class Marker:
    """A delete marker."""

    reason: Reason
    ttl_us: int
    """How long the server keeps the marker; 0: for ever."""


@dataclass(slots=True)
class Outgoing:
    """A message ready to be sent; not frozen, because millions are made."""

    subject: bytes
    headers: bytes
    payload: bytes

    @property
    def size(self) -> int:
        """Bytes that count against the server's `max_payload`."""
        return len(self.headers) + len(self.payload)
