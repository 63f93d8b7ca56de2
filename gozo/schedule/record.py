"""What an entry says about the occurrences of its schedule. Pure."""

from __future__ import annotations

from dataclasses import replace

from gozo.schedule.model import NEVER, Entry, State
from gozo.schedule.outcome import ALERTING, Outcome, Record, Result

NO_RECORD = Record()


def recorded(entry: Entry, outcome: Outcome, next_us: int) -> Entry:
    """Return the entry of a schedule after one of its occurrences ended.

    `next_us` is when the occurrence after that one is, or was, due.
    """
    record = entry.record or NO_RECORD
    succeeded_us = 0 if outcome.result is Result.SUCCEEDED else record.last_success_us
    record = replace(record, last=replace(outcome, reason=""), succeeded_us=succeeded_us)
    if outcome.result is Result.SUCCEEDED and outcome.due_us >= record.awaited_us:
        awaited_us = next_us if next_us < entry.due_us else 0
        record = replace(record, awaited_us=awaited_us, overdue=False)
    return entry._replace(record=record)


def awaiting(entry: Entry) -> Entry:
    """Return the entry whose occurrence is due, and should succeed."""
    record = entry.record or NO_RECORD
    if not _expect_us(entry) or record.awaited_us:
        return entry
    return entry._replace(record=replace(record, awaited_us=entry.due_us))


def not_awaiting(entry: Entry) -> Entry:
    """Return the entry of a schedule that was paused or moved: what was due before is excused."""
    if entry.record is None or not (entry.record.awaited_us or entry.record.overdue):
        return entry
    return entry._replace(record=replace(entry.record, awaited_us=0, overdue=False))


def announced(entry: Entry) -> Entry:
    """Return the entry once it was announced that it is overdue."""
    record = replace(entry.record or NO_RECORD, awaited_us=awaited_us(entry), overdue=True)
    return entry._replace(record=record)


def awaited_us(entry: Entry) -> int:
    """Return when the first occurrence since the last success was, or will be, due."""
    return (entry.record or NO_RECORD).awaited_us or entry.due_us


def overdue_us(entry: Entry) -> int:
    """Return when a schedule, or a run, becomes overdue without success; `NEVER`: it cannot.

    That of a run counts only if its schedule is gone.
    """
    expect_us = _expect_us(entry)
    if not expect_us or entry.state in (State.PAUSED, State.FAILED):
        return NEVER
    if entry.run is not None and entry.run.is_last:
        return NEVER
    jitter_us = 0 if entry.spec is None else entry.spec.jitter_us
    return min(awaited_us(entry) + jitter_us + expect_us, NEVER)


def is_announced(entry: Entry) -> bool:
    """Tell whether it was announced that it is overdue."""
    return entry.record is not None and entry.record.overdue


def is_failing(entry: Entry) -> bool:
    """Tell whether the last occurrence of a schedule failed, or none succeeded in time.

    A run fails if it was given up. That counts only if its schedule is gone.
    """
    run = entry.run
    if is_announced(entry) and (run is None or not run.is_last):
        return True
    if run is not None:
        return entry.state is State.FAILED
    last = None if entry.record is None else entry.record.last
    return last is not None and last.result in ALERTING


def _expect_us(entry: Entry) -> int:
    return 0 if entry.confirmation is None else entry.confirmation.expect_us
