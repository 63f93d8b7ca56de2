"""Outcomes as the client shows them. Pure."""

from __future__ import annotations

from datetime import timedelta

from gozo.client.arguments import moment
from gozo.client.models import Outcome
from gozo.schedule import outcome as recorded


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
