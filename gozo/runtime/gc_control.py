"""Keeps the garbage collector (Python's `gc`) from making deliveries late.

While it looks for unreachable cycles, everything waits: a tenth of a second for the objects of a
million schedules. Nearly all memory is freed without it. So new objects are examined once, few at a
time, and old ones only when nothing is due.
"""

from __future__ import annotations

import gc

YOUNG = 5_000  # new objects examined at a time, which takes up to a fifth of a millisecond
LEISURE_INTERVAL = 600.0  # seconds between examinations of old objects when there is time
LONGEST_INTERVAL = 4 * 3600.0  # seconds after which they are examined in any case
_NEVER = 1_000_000_000


class GcControl:
    """Decides when the collector runs. There is one in a process."""

    def __init__(self) -> None:
        self._looked_at = 0.0
        self._links = 0

    def begin_loading(self) -> None:
        """Turn the collector off: it would examine the loaded objects again and again."""
        gc.disable()

    def end_loading(self, at: float) -> None:
        """Examine only new objects from now on, `at` seconds of a steady clock."""
        gc.freeze()
        gc.set_threshold(YOUNG, _NEVER, _NEVER)
        gc.enable()
        self._looked_at = at

    def is_due(self, at: float, *, leisure: bool) -> bool:
        """Tell whether it is time for `look_at_old`; `leisure`: there is nothing else to do."""
        return at - self._looked_at > (LEISURE_INTERVAL if leisure else LONGEST_INTERVAL)

    def look_at_old(self, at: float, links: int) -> None:
        """Examine the objects made since the last time; all of them if a link was lost.

        `links` counts the links made so far: only lost links leave cycles of old objects.
        """
        if links != self._links:
            gc.unfreeze()
        gc.collect()
        gc.freeze()
        self._looked_at, self._links = at, links
