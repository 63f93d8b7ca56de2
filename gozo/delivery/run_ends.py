"""The ends of runs: their outcomes are stored, then they are removed, or kept as failed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from gozo.delivery.outcome_recorder import OutcomeRecorder
from gozo.delivery.run_changes import RunChanges
from gozo.delivery.run_waits import RunWaits
from gozo.runtime.clock_watch import ClockWatch
from gozo.runtime.logs import get_logger
from gozo.schedule import runs
from gozo.schedule.model import Entry, Reason, State
from gozo.schedule.outcome import NO_WORK, Outcome, Result, Work
from gozo.store.run_index import RunIndex
from gozo.telemetry.stats import Stats

log = get_logger("gozo.runs")


class RunEnds:
    """Ends runs; meanwhile further answers to them wait."""

    def __init__(
        self,
        index: RunIndex,
        changes: RunChanges,
        waits: RunWaits,
        recorder: OutcomeRecorder,
        clock: ClockWatch,
        stats: Stats,
    ) -> None:
        self._index = index
        self._changes = changes
        self._waits = waits
        self._recorder = recorder
        self._clock = clock
        self._stats = stats
        self.on_taken: list[Callable[[str], None]] = []
        """Called with the key of a run that was claimed, or whose attempt has ended."""

    def take(self, key: str) -> None:
        """Note that a run was claimed, or that its attempt has ended."""
        for call in self.on_taken:
            call(key)

    def succeed(
        self,
        key: str,
        entry: Entry,
        attempt: int,
        work: Work,
        done: Callable[[], None],
        not_done: Callable[[], None],
    ) -> None:
        """Remove a run whose receiver has confirmed an attempt; `done` is called once it is gone.

        Also of an attempt that was given up: the work is done.
        """
        is_late = entry.state is State.FAILED or attempt <= entry.tried
        outcome = self._outcome(entry, Result.SUCCEEDED, attempt, work, is_late=is_late)

        def on_removed() -> None:
            self._stats.delivered += 1
            self._recorder.announce(outcome)
            done()
            self._forget_failed(outcome.key)

        remove = partial(self.remove, key, Reason.DELIVERED, on_removed, not_done)
        self._record(key, entry, outcome, work.output, remove, not_done)

    def give_up(
        self,
        key: str,
        entry: Entry,
        change: Callable[[Entry], Entry],
        work: Work,
        done: Callable[[], None],
        not_done: Callable[[], None],
    ) -> None:
        """Keep a run as failed; `change` gives it up, and `done` is called once it is stored."""
        after = change(entry)
        outcome = self._outcome(after, runs.result_of(after), after.tried, work)

        def on_stored(entry: Entry) -> None:
            done()
            self._stats.failed += 1
            log.limited(
                "warning",
                "run.failed",
                id=entry.id,
                subject=entry.subject,
                attempts=entry.tried,
                reason=entry.reason,
            )
            self._recorder.announce(outcome)
            self._forget_failed(outcome.key, but=key)

        store = partial(self._changes.change, key, change, on_stored, not_done)
        self._record(key, entry, outcome, work.output, store, not_done)

    def drop(self, key: str, entry: Entry, not_done: Callable[[], None]) -> None:
        """Remove a run that is not tried again, because its schedule was changed or cancelled.

        If it was tried, it has failed.
        """
        if not entry.tried or entry.state is State.FAILED:
            self.remove(key, Reason.CANCELLED, _nothing, not_done)
            return
        outcome = self._outcome(entry, runs.result_of(entry), entry.tried, NO_WORK)
        announce = partial(self._recorder.announce, outcome)
        remove = partial(self.remove, key, Reason.CANCELLED, announce, not_done)
        self._record(key, entry, outcome, b"", remove, not_done)

    def remove(
        self,
        key: str,
        reason: Reason,
        done: Callable[[], None],
        not_done: Callable[[], None],
    ) -> None:
        """Remove a run that is settled."""
        self._waits.end(key)
        self.take(key)
        self._changes.remove(key, reason, done, not_done)

    def _outcome(
        self, entry: Entry, result: Result, attempt: int, work: Work, *, is_late: bool = False
    ) -> Outcome:
        now_us = self._clock.now_us()
        return runs.outcome_of(entry, result, now_us, attempt=attempt, work=work, is_late=is_late)

    def _record(
        self,
        key: str,
        entry: Entry,
        outcome: Outcome,
        output: bytes,
        then: Callable[[], None],
        not_done: Callable[[], None],
    ) -> None:
        """Store the outcome of a run before its end, unless another leader changes it meanwhile."""

        def on_recorded() -> None:
            if self._index.get(key) is entry:
                then()
            else:
                not_done()
                self._changes.end(key)

        self._waits.end(key)
        self.take(key)
        self._changes.begin(key)
        self._recorder.record(entry, outcome, output, on_recorded)

    def _forget_failed(self, schedule_key: str, but: str = "") -> None:
        """Remove the failed runs of a schedule, except the one under a key."""
        for key, entry in self._index.of(schedule_key):
            if entry.state is State.FAILED and key != but and not entry.is_dead_letter:
                self.remove(key, Reason.FAILED, _nothing, _nothing)


def _nothing() -> None:
    """Do nothing more."""
