"""Limits the messages sent per second. Pure: callers pass the time in.

Messages over the limit wait: none is lost, and their order is kept.
"""

from __future__ import annotations

BURST = 0.1  # seconds' worth of messages that may be sent at once
SHORTEST_WAIT = 0.01  # seconds, so that thousands of messages are sent in batches


class Pace:
    """A rate of messages, or no limit."""

    def __init__(self, most: float | None = None) -> None:
        self.most = most
        """Messages per second; None: no limit."""
        self._burst = max((most or 0.0) * BURST, 1.0)
        self._room = self._burst
        self._seen = 0.0

    def room(self, at: float) -> int:
        """How many may be sent now; call it only if there is a limit."""
        self._refill(at)
        return int(self._room)

    def sent(self, number: int) -> None:
        """Count messages that were sent."""
        self._room -= number

    def wait(self, at: float) -> float:
        """Seconds until something may be sent; 0: now."""
        if self.most is None:
            return 0.0
        self._refill(at)
        return 0.0 if self._room >= 1 else max((1 - self._room) / self.most, SHORTEST_WAIT)

    def _refill(self, at: float) -> None:
        self._room = min(self._burst, self._room + (at - self._seen) * (self.most or 0.0))
        self._seen = at
