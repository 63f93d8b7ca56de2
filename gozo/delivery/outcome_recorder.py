"""Records how occurrences ended: in the streams, in the entry of their schedule, and as events."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from gozo.runtime.clock_watch import ClockWatch
from gozo.schedule.model import NEVER, Entry
from gozo.schedule.outcome import Outcome, Result
from gozo.schedule.record import recorded
from gozo.schedule.recurrence import due_times
from gozo.schedule.runs import left_out
from gozo.store.outcome_writer import OutcomeWriter
from gozo.store.record_store import RecordStore
from gozo.store.traits import Traits
from gozo.telemetry.events import EventSink
from gozo.telemetry.stats import Stats


class UnderWay(Protocol):
    """The recurring schedules whose latest states are in memory."""

    def amend(self, key: str, change: Callable[[Entry], Entry]) -> None:
        """Change the state of a schedule whose occurrence is about to be skipped."""

    def take_note(self, key: str, change: Callable[[Entry], Entry]) -> bool:
        """Change the state of a schedule, and store it; False if it is not in memory."""


class OutcomeRecorder:
    """Records outcomes while this replica leads."""

    def __init__(
        self,
        traits: Traits,
        writer: OutcomeWriter,
        records: RecordStore,
        under_way: UnderWay,
        clock: ClockWatch,
        stats: Stats,
        events: EventSink,
    ) -> None:
        self._traits = traits
        self._writer = writer
        self._records = records
        self._under_way = under_way
        self._clock = clock
        self._stats = stats
        self._events = events

    def __len__(self) -> int:
        """How many outcomes are being stored."""
        return len(self._writer) + len(self._records)

    def record(self, run: Entry, outcome: Outcome, output: bytes, then: Callable[[], None]) -> None:
        """Store the outcome of a run that ends; `then` is called once that is done.

        See `OutcomeWriter.write`: it may not be possible. `announce` has to follow.
        """
        recurs = outcome.key in self._traits.recurring
        left = 1 + recurs

        def done() -> None:
            nonlocal left
            left -= 1
            if not left:
                then()

        assert run.run is not None
        is_occurrence_of_many = recurs or bool(run.run.number)
        keeps = run.confirmation is not None and run.confirmation.keep_output
        if keeps and output:
            self._writer.write_output(outcome, output, recurs=is_occurrence_of_many)
        if recurs:
            self.note(outcome.key, partial(noted, outcome), done)
        self._writer.write(outcome, recurs=is_occurrence_of_many, then=done)

    def note(self, key: str, change: Callable[[Entry], Entry], then: Callable[[], None]) -> None:
        """Store something about a recurring schedule; `then` is called once that is done."""
        if self._under_way.take_note(key, change):
            then()
        else:
            self._records.add(key, change, then)

    def announce(self, outcome: Outcome) -> None:
        """Count an outcome that is stored, and publish it."""
        self._stats.outcomes[outcome.result] += 1
        self._events.ended(outcome)

    def leave_out(self, key: str, entry: Entry, result: Result, reason: str = "") -> None:
        """Record that the occurrence for which a schedule is due is not sent.

        It is part of the schedule's next state, which has to be stored after this.
        """
        outcome = left_out(entry, key, result, self._clock.now_us(), reason)
        self._under_way.amend(key, partial(noted, outcome))
        self.write_left_out(outcome, recurs=entry.recurs)

    def write_left_out(self, outcome: Outcome, *, recurs: bool) -> None:
        """Store, count and publish the outcome of an occurrence that is not sent."""
        self._writer.write(outcome, recurs=recurs, then=_nothing)
        self.announce(outcome)


def noted(outcome: Outcome, entry: Entry) -> Entry:
    """Return the entry of a schedule with the outcome of one of its occurrences."""
    return recorded(entry, outcome, next(due_times(entry, outcome.due_us), NEVER))


def _nothing() -> None:
    """Wait for nothing."""
