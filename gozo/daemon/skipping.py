"""Settles as missed those schedules in the bucket at the start that are too old to deliver."""

from __future__ import annotations

from functools import partial

from gozo.runtime.logs import get_logger
from gozo.schedule.expression import print_rfc3339
from gozo.schedule.model import Reason
from gozo.schedule.recurrence import not_before
from gozo.schedule.timetable import Item
from gozo.store.changes import Result
from gozo.store.index import BucketIndex
from gozo.store.legacy_entries import LegacyEntries
from gozo.store.schedule_store import ScheduleStore
from gozo.telemetry.events import EventSink, id_of
from gozo.telemetry.stats import Stats

log = get_logger("gozo.daemon")


class Skipping:
    """Applies `--skip-due-before` once, when this replica leads for the first time."""

    def __init__(
        self,
        index: BucketIndex,
        store: ScheduleStore,
        legacy_entries: LegacyEntries,
        stats: Stats,
        events: EventSink,
        before_us: int | None,
    ) -> None:
        """`before_us`: schedules due earlier are skipped; None: nothing is skipped."""
        self._index = index
        self._store = store
        self._legacy_entries = legacy_entries
        self._stats = stats
        self._events = events
        self._before_us = before_us
        self._until = 0

    def begin(self, revision: int) -> None:
        """Never skip entries after this revision, up to which the bucket was loaded."""
        self._until = revision

    async def run(self) -> None:
        """Skip the schedules due earlier; later calls do nothing."""
        if self._before_us is None:
            return
        await self._legacy_entries.all_read()
        skipped = 0
        for item in self._index.timetable.due_before(self._before_us):
            if item.revision > self._until or item.key in self._index.traits.dead_letters:
                continue
            while not self._store.has_room:
                await self._store.progress()
            due = print_rfc3339(item.due_us)
            log.debug("schedule.missed", key=item.key, revision=item.revision, due=due)
            if item.key in self._index.traits.recurring:
                later = partial(not_before, moment_us=self._before_us)
                self._store.rewrite(item, later, partial(self._on_moved, item))
            else:
                self._store.settle(item, Reason.MISSED, partial(self._on_settled, item))
            skipped += 1
        log.warning("daemon.skipped", schedules=skipped, due_before=print_rfc3339(self._before_us))
        self._before_us = None

    def _on_settled(self, item: Item, result: Result, words: str) -> None:
        if result in (Result.SETTLED, Result.STORED, Result.REPLACED):
            self._stats.missed += 1
            self._events.missed(id_of(item.key), item.due_us)

    def _on_moved(self, item: Item, result: Result, words: str) -> None:
        if result is Result.REFUSED:
            # It has no later occurrence.
            self._store.settle(item, Reason.MISSED, partial(self._on_settled, item))
        else:
            self._on_settled(item, result, words)
