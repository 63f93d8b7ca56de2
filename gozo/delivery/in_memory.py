"""Schedules that live in the leader's memory only: without an id, or triggered just now.

They have a timetable of their own, so that what is known of the bucket is never mixed with
what is not in it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from gozo.protocol.heard import Heard
from gozo.protocol.requests import delivery
from gozo.schedule.keys import IN_MEMORY
from gozo.schedule.model import Entry, Outgoing, ScheduleRequest
from gozo.schedule.timetable import Item, Timetable


class Sent(StrEnum):
    """What became of something triggered."""

    TRIGGERED = "triggered"
    """The server has it, or the stream where that is asked for."""
    FAILED = "failed"
    """It was refused: the reason is given besides."""
    DROPPED = "dropped"
    """This replica does not lead any more, and another may have the request."""


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
        """Its number among all that were heard here."""
        return self.heard.position


class Triggered(NamedTuple):
    """A schedule that was triggered; no other replica knows of it."""

    request: ScheduleRequest
    on_sent: OnSent
    """Called with what became of it."""


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
        """Take on a request, given as it was heard too."""
        self._add(Taken(request, heard))

    def add_triggered(self, request: ScheduleRequest, on_sent: OnSent) -> None:
        """Take on what is sent at once: it is tried once, and not handed over."""
        self._add(Triggered(request, on_sent))

    def _add(self, taken: Taken | Triggered) -> None:
        self._count += 1
        key = f"{IN_MEMORY}{self._count}"
        self._requests[key] = taken
        self.timetable.put(key, taken.request.entry.due_us, self._count)

    def get(self, item: Item) -> Outgoing:
        """The message to send."""
        request = self._requests[item.key].request
        return delivery(request.entry, request.payload)

    def entry(self, item: Item) -> Entry | None:
        """What was asked for, if it is still here."""
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
        """Forget what was sent in vain; False if it is to be tried again."""
        taken = self._requests.get(item.key)
        if not isinstance(taken, Triggered):
            return False
        del self._requests[item.key]
        self.timetable.forget(item.key)
        taken.on_sent(Sent.FAILED, reason)
        return True

    @property
    def requests(self) -> list[Heard]:
        """All requests, as they were heard; nothing that was triggered."""
        return [taken.heard for taken in self._requests.values() if isinstance(taken, Taken)]

    def take_all(self) -> list[Taken]:
        """Take out all but those just being sent, soonest first: others look after them now.

        What was triggered is dropped.
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
