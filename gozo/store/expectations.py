"""When schedules, and runs, are overdue because none has succeeded in time. Pure.

See `gozo.schedule.record` for what counts.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from gozo.schedule.model import MICROSECONDS, NEVER, Entry
from gozo.schedule.record import is_announced, overdue_us

AGAIN_US = 5 * MICROSECONDS
"""Microseconds after which one is returned again that is still overdue and not announced."""


class Expectations:
    """The schedules and runs with `Gozo-Expect`, by key."""

    def __init__(self) -> None:
        self._at: dict[str, int] = {}
        self._heap: list[tuple[int, str]] = []
        """What `_at` does not have is outdated, and ignored."""

    def __len__(self) -> int:
        return len(self._at)

    def note(self, key: str, entry: Entry | None) -> None:
        """Note the latest version of a key; None if there is none."""
        at_us = NEVER if entry is None or is_announced(entry) else overdue_us(entry)
        if at_us == NEVER:
            if self._at:
                self._at.pop(key, None)
        elif self._at.get(key) != at_us:
            self._set(key, at_us)

    def late(self, now_us: int, most: int) -> list[str]:
        """Return up to `most` keys that are overdue; those not announced are returned again."""
        late: list[str] = []
        heap = self._heap
        while heap and heap[0][0] <= now_us and len(late) < most:
            at_us, key = heappop(heap)
            if self._at.get(key) == at_us:
                self._set(key, now_us + AGAIN_US)
                late.append(key)
        return late

    def _set(self, key: str, at_us: int) -> None:
        self._at[key] = at_us
        heappush(self._heap, (at_us, key))
        if len(self._heap) > 2 * len(self._at) + 1_000:
            self._heap = [(at_us, key) for key, at_us in self._at.items()]
            heapify(self._heap)
