"""Outcomes as the client shows them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gozo.schedule import outcome as recorded
from gozo.schedule.outcome import ALERTING


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a schedule left the bucket, or how one of its runs ended.

    The fields from `id` on are for runs: occurrences that their receivers have to confirm.
    """

    reason: str
    """`delivered`, `cancelled`, `missed`, `failed`; empty if gozo did not remove it. For a run
    `succeeded`, `failed`, `unanswered`, `nobody`, `skipped` or `missed`."""
    at: datetime | None
    """None if only the daemon, which does not keep the time, knows the outcome."""
    id: str | None = None
    subject: str = ""
    occurrence: str = ""
    """The name of the occurrence, as in `Schedule.occurrence`; empty if unknown."""
    due: datetime | None = None
    started: datetime | None = None
    """When the last attempt was sent, was claimed, or began as its receiver says."""
    attempt: int = 0
    """The number of the last attempt; 0 if there was none."""
    detail: str = ""
    """Why it did not succeed."""
    host: str = ""
    """The host of the receiver, if it was named."""
    exit_status: int | None = None
    took: timedelta | None = None
    """How long the work took, as the receiver says; otherwise from `started` to `at`."""
    late: bool = False
    """Whether it succeeded after another attempt had begun, or after it was given up."""

    @property
    def is_failure(self) -> bool:
        """Whether people should hear of it: a run that neither succeeded nor was skipped."""
        return self.reason in ALERTING


def outcome_model(outcome: recorded.Outcome) -> Outcome:
    """Return an outcome as the client shows it."""
    took_us = outcome.took_us
    return Outcome(
        reason=str(outcome.result),
        at=moment(outcome.ended_us),
        id=outcome.id,
        subject=outcome.subject,
        occurrence=outcome.occurrence,
        due=moment(outcome.due_us),
        started=moment(outcome.started_us) if outcome.started_us else None,
        attempt=outcome.attempt,
        detail=outcome.reason,
        host=outcome.host,
        exit_status=outcome.exit_status,
        took=None if took_us is None else timedelta(microseconds=took_us),
        late=outcome.late,
    )


def moment(us: int) -> datetime:
    """Turn microseconds since 1970 into a moment."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=us)
