"""Schedules without an id: they live in the leader's memory, and nowhere else.

They have a timetable of their own, so that what is known of the bucket is never mixed with
what is not in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from gozo.protocol import delivery
from gozo.schedule import Outgoing, ScheduleRequest
from gozo.timetable import Item, Timetable

PREFIX = "\0"
"""How their keys begin; no key of a bucket does."""


class Taken(NamedTuple):
    """A request, and what other replicas know it by."""

    request: ScheduleRequest
    digest: bytes
    taking: int
    """The number under which it was taken."""


class Volatile:
    """The requests, until they are delivered or handed over."""

    def __init__(self) -> None:
        self.timetable = Timetable()
        self.on_removed: Callable[[bytes, int], None] = lambda digest, taking: None
        """Told the digest and the number of each that was delivered."""
        self._requests: dict[str, Taken] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, request: ScheduleRequest, digest: bytes, taking: int) -> None:
        """Take a request on, with what other replicas know it by."""
        self._count += 1
        key = f"{PREFIX}{self._count}"
        self._requests[key] = Taken(request, digest, taking)
        self.timetable.put(key, request.entry.due_us, self._count)

    def get(self, item: Item) -> Outgoing:
        """The message to send."""
        request = self._requests[item.key].request
        return delivery(request.entry, request.payload)

    def remove(self, item: Item) -> None:
        """Forget a schedule that was delivered."""
        removed = self._requests.pop(item.key, None)
        self.timetable.forget(item.key)
        if removed is not None:
            self.on_removed(removed.digest, removed.taking)

    def take_all(self) -> list[Taken]:
        """Take out all but those just being sent, soonest first: others look after them now."""
        waiting = [key for key in self._requests if not self.timetable.is_taken(key)]
        requests = [self._requests.pop(key) for key in waiting]
        for key in waiting:
            self.timetable.forget(key)
        return sorted(requests, key=lambda taken: taken.request.entry.due_us)


def is_volatile(item: Item) -> bool:
    """Tell an item of this timetable from one of the bucket's."""
    return item.key.startswith(PREFIX)
