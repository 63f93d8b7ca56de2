"""The kinds of events."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """The kind of an event."""

    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    STARTED = "started"
    SUCCEEDED = "succeeded"
    SKIPPED = "skipped"
    RETRYING = "retrying"
    FAILED = "failed"
    MISSED = "missed"
    OVERDUE = "overdue"
    ALERT = "alert"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    RESCHEDULED = "rescheduled"
    PAUSED = "paused"
    RESUMED = "resumed"
    TRIGGERED = "triggered"
    INVALID = "invalid"
    LEADER = "leader"


NAME_A_SUBJECT = frozenset(
    (
        *(Kind.ACCEPTED, Kind.DELIVERED, Kind.RETRYING, Kind.FAILED),
        *(Kind.STARTED, Kind.SUCCEEDED, Kind.SKIPPED, Kind.OVERDUE, Kind.ALERT),
        *(Kind.RESCHEDULED, Kind.PAUSED, Kind.RESUMED, Kind.TRIGGERED),
    )
)
"""The kinds that name the subject of a schedule."""
