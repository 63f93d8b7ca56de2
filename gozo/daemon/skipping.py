"""Settles as missed those schedules in the bucket at the start that are too old to deliver."""

from __future__ import annotations

from functools import partial

from gozo.delivery.outcome_recorder import OutcomeRecorder, noted
from gozo.runtime.clock import wall_us
from gozo.runtime.logs import get_logger
from gozo.schedule.expression import print_rfc3339
from gozo.schedule.model import Entry, Reason
from gozo.schedule.outcome import Outcome
from gozo.schedule.outcome import Result as Ended
from gozo.schedule.recurrence import not_before
from gozo.schedule.runs import left_out
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
        recorder: OutcomeRecorder,
        stats: Stats,
        events: EventSink,
        before_us: int | None,
    ) -> None:
        """`before_us`: schedules due earlier are skipped; None: nothing is skipped."""
        self._index = index
        self._store = store
        self._legacy_entries = legacy_entries
        self._recorder = recorder
        self._outcomes: dict[str, Outcome] = {}
        """Of schedules that receivers have to confirm, by key, until this is stored."""
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
                later = partial(self._later, item.key, self._before_us)
                self._store.rewrite(item, later, partial(self._on_moved, item))
            else:
                if item.key in self._index.traits.answered:
                    # Its subject is in the bucket only.
                    missed = Entry(id_of(item.key), "", "", item.due_us, 0)
                    self._note_missed(item.key, missed)
                self._store.settle(item, Reason.MISSED, partial(self._on_settled, item))
            skipped += 1
        log.warning("daemon.skipped", schedules=skipped, due_before=print_rfc3339(self._before_us))
        self._before_us = None

    def _on_settled(self, item: Item, result: Result, words: str) -> None:
        outcome = self._outcomes.pop(item.key, None)
        if result not in (Result.SETTLED, Result.STORED, Result.REPLACED):
            return
        self._stats.missed += 1
        if outcome is None:
            self._events.missed(id_of(item.key), item.due_us)
        else:
            self._recorder.write_left_out(outcome, recurs=item.key in self._index.traits.recurring)

    def _later(self, key: str, moment_us: int, entry: Entry) -> Entry:
        later = not_before(entry, moment_us)
        return noted(self._note_missed(key, entry), later) if entry.is_answered else later

    def _note_missed(self, key: str, entry: Entry) -> Outcome:
        outcome = left_out(entry, key, Ended.MISSED, wall_us())
        self._outcomes[key] = outcome
        return outcome

    def _on_moved(self, item: Item, result: Result, words: str) -> None:
        if result is Result.REFUSED:
            # It has no later occurrence.
            self._store.settle(item, Reason.MISSED, partial(self._on_settled, item))
        else:
            self._on_settled(item, result, words)
