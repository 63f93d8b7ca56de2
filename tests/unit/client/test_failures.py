"""Which schedules fail, by what the bucket has."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from gozo.client import Outcome, Schedule
from gozo.client.failures import Failures
from gozo.schedule.runs import UNANSWERED, nobody
from gozo.store.run_codec import run_key

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
EARLIER, LATER = NOW - timedelta(hours=1), NOW + timedelta(hours=1)
BASE = Schedule("a", "a", "jobs", "@every 1h", EARLIER, EARLIER, 0, confirm="reply")
RUN = BASE._replace(key=run_key("a", "1"), occurrence="1", state="failed", reason="no disk")


def ended(reason: str) -> Schedule:
    """Return a schedule whose last run ended so."""
    return BASE._replace(outcome=Outcome(reason, NOW, "a", due=EARLIER, host="web1", exit_status=3))


def found(*schedules: Schedule) -> list[tuple[str | None, str, str]]:
    """Return the id, the result and the reason of those that fail."""
    failures = Failures(NOW)
    for one in schedules:
        failures.add(one)
    return [(one.id, one.result, one.reason) for one in failures.found()]


@pytest.mark.parametrize(
    ("schedule", "result"),
    [
        (BASE, None),
        (ended("succeeded"), None),
        (ended("skipped"), None),
        (ended("failed"), "failed"),
        (ended("unanswered"), "unanswered"),
        (ended("nobody"), "nobody"),
        (ended("missed"), "missed"),
        (ended("skipped")._replace(overdue_at=NOW), "overdue"),
        (ended("succeeded")._replace(overdue_at=LATER), None),
        (ended("failed")._replace(overdue_at=NOW), "failed"),
        (BASE._replace(confirm=True, state="failed"), "failed"),
        (BASE._replace(confirm=True, state="overdue"), None),
        (RUN._replace(state="retrying"), None),
        (RUN._replace(state="running", overdue_at=NOW), "overdue"),
        (RUN, "failed"),
        (RUN._replace(reason=UNANSWERED), "unanswered"),
        (RUN._replace(reason=nobody("jobs")), "nobody"),
    ],
)
def test_what_fails(schedule: Schedule, result: str | None) -> None:
    """By its last run, by being overdue, or by a run that outlived it."""
    assert [one[1] for one in found(schedule)] == ([] if result is None else [result])


def test_runs_count_where_their_schedule_is_gone() -> None:
    """Otherwise they say why, and each schedule is there once."""
    assert found(RUN, ended("skipped")) == found(ended("succeeded"), RUN) == []
    assert found(RUN, ended("failed")) == [("a", "failed", "no disk")]
    earlier = RUN._replace(due=EARLIER - timedelta(hours=1), reason="earlier")
    assert found(earlier, ended("failed"), RUN) == [("a", "failed", "no disk")]
    assert found(earlier, ended("failed")) == [("a", "failed", "")]
    other = RUN._replace(id=None, key=run_key("b.c", "1"))
    assert found(RUN, other) == [("a", "failed", "no disk"), (None, "failed", "no disk")]
