"""Announces, once, that no occurrence of a schedule has succeeded in time: `Gozo-Expect`."""

from __future__ import annotations

from functools import partial

from gozo.delivery.outcome_recorder import OutcomeRecorder
from gozo.delivery.run_changes import RunChanges
from gozo.runtime.clock_watch import ClockWatch
from gozo.runtime.logs import get_logger
from gozo.schedule.expression import print_rfc3339
from gozo.schedule.model import Entry
from gozo.schedule.record import announced, awaited_us, is_announced, overdue_us
from gozo.schedule.timetable import Timetable
from gozo.store.run_index import RunIndex
from gozo.store.traits import Traits
from gozo.telemetry.events import EventSink

MOST_AT_ONCE = 100
"""Overdue schedules that are announced at a time."""

log = get_logger("gozo.runs")


class OverdueWatch:
    """Looks for overdue schedules while this replica leads.

    The entry says so before it is published: a later leader does not announce it again.
    """

    def __init__(
        self,
        traits: Traits,
        timetable: Timetable,
        changes: RunChanges,
        recorder: OutcomeRecorder,
        clock: ClockWatch,
        events: EventSink,
    ) -> None:
        self._expectations = traits.expectations
        self._runs: RunIndex = traits.runs
        self._timetable = timetable
        self._changes = changes
        self._recorder = recorder
        self._clock = clock
        self._events = events

    def look(self) -> None:
        """Announce what is overdue by now."""
        if not len(self._expectations):
            return
        now_us = self._clock.now_us()
        for key in self._expectations.late(now_us, MOST_AT_ONCE):
            run = self._runs.get(key)
            if run is None:
                self._announce_schedule(key, now_us)
            elif run.run is not None and run.run.key not in self._timetable:
                self._changes.after(key, partial(self._announce_run, key, now_us))

    def _announce_schedule(self, key: str, now_us: int) -> None:
        found: list[Entry] = []

        def note(entry: Entry) -> Entry:
            found.clear()
            if not _is_news(entry, now_us):
                return entry
            found.append(entry)
            return announced(entry)

        def then() -> None:
            for entry in found:
                self._publish(entry)

        self._recorder.note(key, note, then)

    def _announce_run(self, key: str, now_us: int) -> None:
        run = self._runs.get(key)
        if run is not None and _is_news(run, now_us):
            self._changes.change(key, announced, self._publish, _nothing)

    def _publish(self, entry: Entry) -> None:
        due_us = awaited_us(entry)
        log.limited(
            "warning",
            "schedule.overdue",
            id=entry.id,
            subject=entry.subject,
            due=print_rfc3339(due_us),
        )
        self._events.overdue(entry, due_us)


def _is_news(entry: Entry, now_us: int) -> bool:
    return overdue_us(entry) <= now_us and not is_announced(entry)


def _nothing() -> None:
    """Look again later."""
