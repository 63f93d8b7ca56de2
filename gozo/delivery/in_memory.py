"""Schedules that are only in the leader's memory: requests without an id, and what is triggered.

They have a timetable of their own, apart from that of the bucket.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from gozo.protocol.deliveries import delivery
from gozo.protocol.heard import Heard
from gozo.schedule.model import Entry, Outgoing, ScheduleRequest
from gozo.schedule.timetable import Item, Timetable

_PREFIX = "\0"
"""How the keys begin here: no key of a bucket begins so."""


class Sent(StrEnum):
    """The outcome of a triggered schedule."""

    TRIGGERED = "triggered"
    """The server has it, or a stream if it is to be confirmed by one."""
    FAILED = "failed"
    """It was refused; a reason is given too."""
    DROPPED = "dropped"
    """This replica no longer leads, and another may have the request."""


OnSent = Callable[[Sent, str], None]


class Taken(NamedTuple):
    """A request without an id."""

    request: ScheduleRequest
    heard: Heard

    @property
    def digest(self) -> bytes:
        """The digest by which other replicas know it."""
        return self.heard.digest

    @property
    def position(self) -> int:
        """Its number among all requests that were heard here."""
        return self.heard.position


class Triggered(NamedTuple):
    """A schedule that was triggered; no other replica knows about it."""

    request: ScheduleRequest
    on_sent: OnSent
    """Called with the outcome, and the reason if it failed."""


class InMemory:
    """The requests, until they are delivered or handed over."""

    def __init__(self, report_handled: Callable[[bytes, int], None]) -> None:
        """Call `report_handled` with digest and position of each that is delivered or stored."""
        self.timetable = Timetable()
        self._report_handled = report_handled
        self._requests: dict[str, Taken | Triggered] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, request: ScheduleRequest, heard: Heard) -> None:
        """Keep a request until it is delivered; `heard`: as it came from the wire."""
        self._add(Taken(request, heard))

    def add_triggered(self, request: ScheduleRequest, on_sent: OnSent) -> None:
        """Send a triggered schedule: once, and it is not handed over."""
        self._add(Triggered(request, on_sent))

    def _add(self, taken: Taken | Triggered) -> None:
        self._count += 1
        key = f"{_PREFIX}{self._count}"
        self._requests[key] = taken
        self.timetable.put(key, taken.request.entry.due_us, self._count)

    def get(self, item: Item) -> Outgoing:
        """The message to send."""
        request = self._requests[item.key].request
        return delivery(request.entry, request.payload)

    def entry(self, item: Item) -> Entry | None:
        """The schedule that was requested, if it is still here."""
        taken = self._requests.get(item.key)
        return None if taken is None else taken.request.entry

    def remove(self, item: Item) -> None:
        """Forget a schedule that was delivered."""
        removed = self._requests.pop(item.key, None)
        self.timetable.forget(item.key)
        if isinstance(removed, Taken):
            self._report_handled(removed.digest, removed.position)
        elif removed is not None:
            removed.on_sent(Sent.TRIGGERED, "")

    def handed_over(self, taken: Taken) -> None:
        """Note that a request from `take_all` is settled: the bucket has it, or refused it."""
        self._report_handled(taken.digest, taken.position)

    def fail(self, item: Item, reason: str) -> bool:
        """Forget a triggered schedule that failed; False for a request, which is tried again."""
        taken = self._requests.get(item.key)
        if not isinstance(taken, Triggered):
            return False
        del self._requests[item.key]
        self.timetable.forget(item.key)
        taken.on_sent(Sent.FAILED, reason)
        return True

    @property
    def requests(self) -> list[Heard]:
        """All requests, as they were heard, without triggered schedules."""
        return [taken.heard for taken in self._requests.values() if isinstance(taken, Taken)]

    def take_all(self) -> list[Taken]:
        """Take out all requests but those being sent, soonest first, to hand them over.

        Triggered schedules are dropped.
        """
        waiting = [key for key in self._requests if not self.timetable.is_taken(key)]
        requests = [self._requests.pop(key) for key in waiting]
        for key in waiting:
            self.timetable.forget(key)
        for taken in requests:
            if isinstance(taken, Triggered):
                taken.on_sent(Sent.DROPPED, "")
        kept = (taken for taken in requests if isinstance(taken, Taken))
        return sorted(kept, key=lambda taken: taken.request.entry.due_us)


def shown_key(key: str) -> str:
    """What logs call a key: as it is, it begins with a character that does not print."""
    return f"memory:{key.removeprefix(_PREFIX)}"
