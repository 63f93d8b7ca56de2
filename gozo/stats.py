"""What a daemon has done so far, counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Stats:
    """Counts since the start of the process."""

    accepted: int = 0
    """Requests taken: to schedule and to cancel."""
    delivered: int = 0
    """Messages that the server confirmed to have."""
    refused: Counter[str] = field(default_factory=Counter)
    """Requests refused, by the code of the reason."""
    undeliverable: int = 0
    """Attempts that the server did not permit, or that do not fit."""
    latest_us: int = 0
    """The greatest lateness of a delivery, in microseconds."""
