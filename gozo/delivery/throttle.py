"""How many messages `--max-deliver-rate` allows now, and how late messages are sent."""

from __future__ import annotations

from gozo.runtime.clock import steady
from gozo.runtime.logs import get_logger
from gozo.runtime.pace import Pace
from gozo.telemetry.stats import Stats

log = get_logger("gozo.delivery")


class Throttle:
    """Holds deliveries back if there is a limit, and counts for how long."""

    def __init__(self, pace: Pace, stats: Stats) -> None:
        self._pace = pace
        self._stats = stats
        self.is_set = pace.most is not None
        """Whether there is a limit at all."""
        self._held_since: float | None = None
        """Since when the limit has held back due messages."""

    def room(self, most: int) -> int:
        """How many of `most` messages may be sent now."""
        return min(most, self._pace.room(steady())) if self.is_set else most

    def wait(self) -> float:
        """Seconds until a message may be sent; 0: now."""
        now = steady()
        wait = self._pace.wait(now)
        if not wait and self._held_since is not None:
            self._stats.held_back += now - self._held_since
            self._held_since = None
        return wait

    def hold_back(self) -> None:
        """Note that due messages have to wait."""
        if self._held_since is None:
            self._held_since = steady()
            log.repeated("warning", "delivery.held_back", max_deliver_rate=self._pace.most)

    def note_sent(self, late: list[int]) -> None:
        """Record the lateness of sent messages, in microseconds."""
        self._pace.sent(len(late))
        self._stats.latest_us = max(self._stats.latest_us, *late)
        self._stats.lateness.note(late, steady())
