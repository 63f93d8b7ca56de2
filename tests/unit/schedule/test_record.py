"""What the entry of a schedule says about its occurrences."""

from __future__ import annotations

from dataclasses import replace

from gozo.schedule import record, runs
from gozo.schedule.model import (
    MICROSECONDS,
    NEVER,
    Confirm,
    Confirmation,
    Entry,
    Run,
    ScheduleSpec,
    State,
)
from gozo.schedule.outcome import Outcome, Record, Result
from gozo.schedule.recurrence import onward, paused, rescheduled

HOUR = 3_600 * MICROSECONDS
EXPECTING = Entry(
    "a",
    "jobs",
    "@every 1h",
    10 * HOUR,
    0,
    spec=ScheduleSpec(recurs=True),
    confirmation=Confirmation(Confirm.REPLY, expect_us=2 * HOUR),
)


def ended(due_us: int, result: Result = Result.SUCCEEDED) -> Outcome:
    """Return the outcome of an occurrence, with a reason."""
    return Outcome("a", "a", "jobs", "1", result, due_us, due_us + MICROSECONDS, reason="why")


def begun(entry: Entry, *, sent: bool = True) -> Entry:
    """Return the entry once its occurrence has begun, or is skipped."""
    entry_after = onward(entry, entry.due_us, sent=sent)
    assert entry_after is not None
    return entry_after


def test_the_first_occurrence_without_success_counts() -> None:
    """Also if it was skipped, and however many follow it."""
    assert record.awaited_us(begun(EXPECTING, sent=False)) == 10 * HOUR
    entry = begun(begun(EXPECTING))
    assert record.awaited_us(entry) == 10 * HOUR
    assert record.overdue_us(entry) == 12 * HOUR
    failed = record.recorded(entry, ended(10 * HOUR, Result.FAILED), 11 * HOUR)
    assert record.overdue_us(failed) == 12 * HOUR
    assert failed.record is not None
    assert failed.record.last == replace(ended(10 * HOUR, Result.FAILED), reason="")


def test_a_success_ends_the_wait() -> None:
    """What began after the one that succeeded is awaited from then on; else what is due next."""
    entry = begun(begun(EXPECTING))
    first = record.recorded(record.announced(entry), ended(10 * HOUR), 11 * HOUR)
    assert (record.awaited_us(first), record.is_announced(first)) == (11 * HOUR, False)
    second = record.recorded(first, ended(11 * HOUR), 12 * HOUR)
    assert record.overdue_us(second) == 14 * HOUR
    assert second.record is not None
    assert second.record.awaited_us == 0
    late = record.recorded(first, ended(10 * HOUR), 11 * HOUR)
    assert record.awaited_us(late) == 11 * HOUR, "that of an earlier one is known"


def test_an_announcement_lasts_until_the_next_success() -> None:
    """Once announced, it is announced no more; failures and later occurrences change nothing."""
    entry = record.announced(begun(EXPECTING))
    assert record.is_announced(entry)
    entry = begun(record.recorded(entry, ended(10 * HOUR, Result.FAILED), 11 * HOUR))
    assert record.is_announced(entry)
    assert record.awaited_us(entry) == 10 * HOUR


def test_what_is_paused_or_moved_is_not_overdue() -> None:
    """Nor for what was due before, later on; the last outcome stays."""
    entry = record.announced(record.recorded(begun(EXPECTING), ended(9 * HOUR, Result.MISSED), 0))
    for moved in (paused(entry), rescheduled(entry, "@every 1h", 20 * HOUR)):
        assert not record.is_announced(moved)
        assert record.awaited_us(moved) == moved.due_us
        assert moved.record is not None
        assert moved.record.last is not None
    assert record.overdue_us(paused(entry)) == NEVER


def test_what_cannot_be_overdue() -> None:
    """A schedule without the option, a run that failed, and one that is not tried again."""
    run = EXPECTING._replace(spec=None, run=Run("a", "1"))
    assert record.overdue_us(run) == 12 * HOUR
    assert record.overdue_us(run._replace(state=State.FAILED)) == NEVER
    assert record.overdue_us(run._replace(run=Run("a", "1", is_last=True))) == NEVER
    plain = EXPECTING._replace(confirmation=Confirmation(Confirm.REPLY))
    assert record.overdue_us(plain) == NEVER
    assert begun(plain).record is None, "its entry is as it was"
    assert record.not_awaiting(plain) is plain


def test_a_single_schedule_is_announced_once() -> None:
    """Before or after its run has begun; a recurring one has its own record."""
    for spec, stays in ((None, True), (ScheduleSpec(recurs=True), False)):
        entry = record.announced(EXPECTING._replace(spec=spec, when="@daily"))
        assert record.is_announced(runs.begun(entry, "a", "1", b"", 10 * HOUR)) is stays


def test_jitter_does_not_make_it_overdue() -> None:
    """An occurrence may be delayed by it before it is sent."""
    entry = EXPECTING._replace(spec=ScheduleSpec(recurs=True, jitter_us=HOUR))
    assert record.overdue_us(entry) == 13 * HOUR


def test_how_long_it_took() -> None:
    """As the receiver says, or from when it was sent to its end."""
    outcome = ended(10 * HOUR)
    assert outcome.took_us is None
    outcome = replace(outcome, started_us=outcome.ended_us - 5)
    assert outcome.took_us == 5
    assert replace(outcome, duration_us=3).took_us == 3
    assert replace(outcome, started_us=outcome.ended_us + 9).took_us == 0
    assert Record().last is None
