"""When schedules succeeded last, for the metrics."""

from __future__ import annotations

from gozo.schedule import record
from gozo.schedule.model import Confirm, Confirmation, Entry, Run, ScheduleSpec
from gozo.schedule.outcome import Outcome, Result
from gozo.store.successes import MOST, Successes

ENTRY = Entry(
    *("backup-1", "jobs", "@every 1h", 10, 0),
    spec=ScheduleSpec(recurs=True),
    confirmation=Confirmation(Confirm.REPLY),
)


def after(entry: Entry, result: Result, ended_us: int) -> Entry:
    """Return the entry once an occurrence has ended."""
    outcome = Outcome(entry.id, "a", "jobs", "1", result, entry.due_us, ended_us)
    return record.recorded(entry, outcome, entry.due_us)


def test_failures_do_not_hide_it() -> None:
    """The entry keeps the last success until the next one, whatever follows."""
    successes = Successes(["backup-?", "other*"])
    entry = after(ENTRY, Result.FAILED, 5)
    successes.note("a", entry)
    assert list(successes) == []
    for result, ended_us, last_us in (
        (Result.SUCCEEDED, 10, 10),
        (Result.FAILED, 20, 10),
        (Result.SKIPPED, 30, 10),
        (Result.SUCCEEDED, 40, 40),
        (Result.UNANSWERED, 50, 40),
    ):
        entry = after(entry, result, ended_us)
        successes.note("a", entry)
        assert list(successes) == [("backup-1", last_us)]
    successes.note("b", entry)
    successes.note("run", entry._replace(run=Run("a", "1")))
    assert list(successes) == [("backup-1", 40)], "an id is there once"
    successes.note("a", None)
    successes.note("b", None)
    assert list(successes) == []


def test_bounded_and_by_pattern() -> None:
    """Only ids that match, and no more than the limit: each is a time series."""
    done = after(ENTRY, Result.SUCCEEDED, 10)
    successes = Successes(["backup-*"])
    for number in range(MOST + 5):
        successes.note(f"backup-{number}", done._replace(id=f"backup-{number}"))
        successes.note(f"other-{number}", done._replace(id=f"other-{number}"))
    assert {id_ for id_, _ in successes} == {f"backup-{number}" for number in range(MOST)}
    none = Successes()
    none.note("a", done)
    assert list(none) == []
