"""How many messages a second are sent at most. Pure: callers pass the time in.

What is over the bound waits: nothing is lost, and the order stays.
"""

from __future__ import annotations

BURST = 0.1  # seconds' worth of messages that may go out at once
GATHER = 0.01  # seconds for which at least is waited, so that thousands go out in batches


class Pace:
    """So many messages in a second, or any number."""

    def __init__(self, most: float | None = None) -> None:
        self.most = most
        """Messages in a second; None: any number."""
        self._burst = max((most or 0.0) * BURST, 1.0)
        self._room = self._burst
        self._seen = 0.0

    def room(self, at: float) -> int:
        """How many may be sent now; not for any number."""
        self._refill(at)
        return int(self._room)

    def sent(self, number: int) -> None:
        """Count messages that were sent."""
        self._room -= number

    def wait(self, at: float) -> float:
        """How many seconds nothing is to be sent; 0: something may be now."""
        if self.most is None:
            return 0.0
        self._refill(at)
        return 0.0 if self._room >= 1 else max((1 - self._room) / self.most, GATHER)

    def _refill(self, at: float) -> None:
        self._room = min(self._burst, self._room + (at - self._seen) * (self.most or 0.0))
        self._seen = at
