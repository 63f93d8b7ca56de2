"""Schedules that are only in the leader's memory: requests without an id, and triggered schedules.

They have their own timetable, separate from that of the bucket.
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
"""The prefix of keys in memory: no key of a bucket begins with it."""


class Sent(StrEnum):
    """The outcome of a triggered schedule."""

    TRIGGERED = "triggered"
    """The server has received it, or a stream has stored it if a stream must confirm it."""
    FAILED = "failed"
    """It was refused, for the reason given."""
    DROPPED = "dropped"
    """This replica no longer leads; another one may have the request."""


OnSent = Callable[[Sent, str], None]


class Taken(NamedTuple):
    """A request without an id."""

    request: ScheduleRequest
    heard: Heard

    @property
    def digest(self) -> bytes:
        """The digest that identifies it to other replicas."""
        return self.heard.digest

    @property
    def position(self) -> int:
        """Its number among all requests received by this replica."""
        return self.heard.position


class Triggered(NamedTuple):
    """A triggered schedule; no other replica knows of it."""

    request: ScheduleRequest
    on_sent: OnSent
    """Called with the outcome, and the reason if it failed."""


class InMemory:
    """Keeps requests and triggered schedules until they are delivered or handed over."""

    def __init__(self, report_handled: Callable[[bytes, int], None]) -> None:
        """`report_handled` takes digest and position of each delivered or stored request."""
        self.timetable = Timetable()
        self._report_handled = report_handled
        self._requests: dict[str, Taken | Triggered] = {}
        self.any = self._requests.keys()
        """True while there is a schedule: cheap to ask for each message."""
        self._count = 0

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, request: ScheduleRequest, heard: Heard) -> None:
        """Keep a request until it is delivered; `heard` is the request as received."""
        self._add(Taken(request, heard))

    def add_triggered(self, request: ScheduleRequest, on_sent: OnSent) -> None:
        """Send a triggered schedule, once; it is never handed over."""
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
        """The requested schedule, if it is still in memory."""
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
        """Note that the bucket has stored or refused a request from `take_all`."""
        self._report_handled(taken.digest, taken.position)

    def fail(self, item: Item, reason: str) -> bool:
        """Forget a triggered schedule that failed; False for a request, which is retried."""
        taken = self._requests.get(item.key)
        if not isinstance(taken, Triggered):
            return False
        del self._requests[item.key]
        self.timetable.forget(item.key)
        taken.on_sent(Sent.FAILED, reason)
        return True

    @property
    def requests(self) -> list[Heard]:
        """All requests as received, without triggered schedules."""
        return [taken.heard for taken in self._requests.values() if isinstance(taken, Taken)]

    def take_all(self) -> list[Taken]:
        """Remove and return all requests that are not being sent, soonest first, to hand them over.

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
    """Return a key as shown in logs, without its unprintable first character."""
    return f"memory:{key.removeprefix(_PREFIX)}"
