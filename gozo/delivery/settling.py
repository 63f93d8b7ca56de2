"""Settles delivered schedules: removes them from their sources when sending leaves time."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from gozo.delivery.failures import Failures
from gozo.delivery.source import Due
from gozo.delivery.wakeup import Wakeup
from gozo.schedule.model import Outgoing
from gozo.schedule.timetable import Item
from gozo.store.schedule_store import ScheduleStore
from gozo.telemetry.events import EventSink
from gozo.telemetry.stats import Stats

SETTLE_SLICE = 50  # entries settled before others get a turn
SETTLE_LATER = 200_000  # delivered messages that may wait for a burst to end
SETTLE_DELAY = 0.005  # seconds that delivered messages wait for others, to be settled together
ROOM_WAIT = 0.002  # seconds between checks for room in the store


class Settled(Protocol):
    """A source whose items are settled here."""

    def settle(self, item: Item) -> None:
        """Remove a delivered item."""


class Settling:
    """Delivered items that are not settled yet, in order."""

    def __init__(
        self,
        store: ScheduleStore,
        failures: Failures,
        wakeup: Wakeup,
        stats: Stats,
        events: EventSink,
    ) -> None:
        self._store = store
        self._failures = failures
        self._wakeup = wakeup
        self._stats = stats
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._delivered: deque[tuple[Item, Settled]] = deque()
        self._is_set = False
        self.add = self._delivered.append
        """Add an item and its source, to be settled; `settle_soon` must follow."""

    def __len__(self) -> int:
        return len(self._delivered)

    def delivered(self, batch: list[Due], messages: list[Outgoing]) -> None:
        """Count messages that the server, or a stream, has; publish events; notify the sources."""
        self._stats.delivered += len(batch)
        if self._events.enabled:
            for message in messages:
                self._events.delivered(message)
        for item, source in batch:
            source.delivered(item)
        self.settle_soon()

    def buried(self, due: Due) -> None:
        """Count a dead letter that a stream has stored; its failure was counted before."""
        self._stats.dead_letters += 1
        item, source = due
        source.delivered(item)
        self.settle_soon()

    def settle_soon(self) -> None:
        """Continue settling when there is time."""
        if self._delivered and not self._is_set:
            self._is_set = True
            if len(self._delivered) < SETTLE_SLICE:
                self._loop.call_later(SETTLE_DELAY, self._settle)
            else:
                self._loop.call_soon(self._settle)

    def settle_now(self, source: Settled) -> None:
        """Settle at once the items of a source that needs no room in the store."""
        for item, owner in list(self._delivered):
            if owner is source:
                source.settle(item)

    def _settle(self) -> None:
        self._is_set = False
        delivered = self._delivered
        if self._wakeup.is_pending and len(delivered) < SETTLE_LATER:
            return
        # Checked once, not for each item: a slice is small compared with the room in the store.
        if delivered and not self._store.has_room:
            self._is_set = True
            self._loop.call_later(ROOM_WAIT, self._settle)
            return
        any_postponed = bool(self._failures)
        for _ in range(min(SETTLE_SLICE, len(delivered))):
            item, source = delivered.popleft()
            if any_postponed:
                self._failures.forget(item)
            source.settle(item)
        self.settle_soon()
