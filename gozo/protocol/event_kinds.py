"""What events tell, by a word each."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """What an event tells."""

    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    RETRYING = "retrying"
    FAILED = "failed"
    MISSED = "missed"
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
        *(Kind.RESCHEDULED, Kind.PAUSED, Kind.RESUMED, Kind.TRIGGERED),
    )
)
"""Those that say what a schedule is sent to."""
