"""Finds the schedules that fail among all that the bucket has. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from gozo.client.models import Schedule
from gozo.schedule.runs import result_for
from gozo.store.run_codec import RUN_PREFIX


@dataclass(frozen=True, slots=True)
class Failing:
    """A schedule that fails: its last run did, or none has succeeded in time."""

    id: str | None
    key: str
    """Its key in the bucket, where it may be gone."""
    subject: str
    result: str
    """How its last run ended, as in `Outcome.reason`; or `overdue`."""
    due: datetime | None
    """When the run was due; of `overdue`, the first one since the last success."""
    at: datetime | None
    """When it ended, or became overdue; None if it is not known."""
    reason: str = ""
    """Why, if that is known."""
    host: str = ""
    exit_status: int | None = None


class Failures:
    """The schedules that fail, of those that were added."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._present: set[str] = set()
        """The keys of all schedules."""
        self._failing: dict[str, Failing] = {}
        self._runs: dict[str, Schedule] = {}
        """The latest run that fails of each schedule, by its key."""

    def add(self, one: Schedule) -> None:
        """Add a schedule, or a run."""
        if one.is_run:
            if one.state == "failed" or self._is_overdue(one):
                key = one.key.removeprefix(RUN_PREFIX).rpartition(".")[0]
                if key not in self._runs or self._runs[key].due < one.due:
                    self._runs[key] = one
            return
        self._present.add(one.key)
        if (found := self._schedule(one)) is not None:
            self._failing[one.key] = found

    def found(self) -> list[Failing]:
        """Return those that fail, by id."""
        found = dict(self._failing)
        for key, run in self._runs.items():
            if key not in self._present:
                found[key] = self._run(key, run)
            elif key in found and run.due == found[key].due:
                found[key] = replace(found[key], reason=run.reason)
        return sorted(found.values(), key=lambda one: (one.id is None, one.id or one.key))

    def _is_overdue(self, one: Schedule) -> bool:
        return one.overdue_at is not None and one.overdue_at <= self._now

    def _schedule(self, one: Schedule) -> Failing | None:
        last = one.outcome
        if last is not None and last.is_failure:
            return Failing(
                *(one.id, one.key, one.subject, last.reason, last.due, last.at),
                host=last.host,
                exit_status=last.exit_status,
            )
        if self._is_overdue(one):
            return _overdue(one, one.key)
        if one.state == "failed":
            return Failing(one.id, one.key, one.subject, "failed", one.due, None, one.reason)
        return None

    def _run(self, key: str, run: Schedule) -> Failing:
        if run.state != "failed":
            return _overdue(run, key)
        result = str(result_for(run.reason, run.subject))
        return Failing(run.id, key, run.subject, result, run.due, None, run.reason)


def _overdue(one: Schedule, key: str) -> Failing:
    """Return what is overdue, with when the first run since the last success was due."""
    assert one.overdue_at is not None
    expected_us = 0 if one.confirmation is None else one.confirmation.expect_us
    expected_us += 0 if one.spec is None else one.spec.jitter_us
    due = one.overdue_at - timedelta(microseconds=expected_us)
    return Failing(
        *(one.id, key, one.subject, "overdue", due, one.overdue_at),
        reason=one.reason or "no run has succeeded in time",
    )
