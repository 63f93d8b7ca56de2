"""Keeps the garbage collector (Python's `gc`) from making deliveries late.

While it looks for objects that only hold on to each other, everything waits, for as long as
there are objects to look at: a tenth of a second for a million schedules. Nearly all memory is
freed without it. So what is new is looked at once, little at a time, and what has grown old only
at leisure, when nothing is due.
"""

from __future__ import annotations

import gc

YOUNG = 5_000  # new objects after which they are looked at, within a fifth of a millisecond
LEISURE = 600.0  # seconds after which what has grown old since is looked at, at leisure
LONGEST = 4 * 3600.0  # seconds after which that is done anyway
_NEVER = 1_000_000_000


class GcControl:
    """When the collector runs. There is one in a process."""

    def __init__(self) -> None:
        self._looked_at = 0.0
        self._links = 0

    def begin_loading(self) -> None:
        """Look at nothing: what is loaded stays, and would be looked at again and again."""
        gc.disable()

    def end_loading(self, at: float) -> None:
        """Look at what is new from now on, `at` seconds of a steady clock."""
        gc.freeze()
        gc.set_threshold(YOUNG, _NEVER, _NEVER)
        gc.enable()
        self._looked_at = at

    def is_due(self, at: float, *, leisure: bool) -> bool:
        """Tell whether it is time for `look_at_old`; `leisure`: nothing else is to be done."""
        return at - self._looked_at > (LEISURE if leisure else LONGEST)

    def look_at_old(self, at: float, links: int) -> None:
        """Look at what has grown old since the last time, and at everything after a lost link.

        Links that were lost, of which there were so many, are what leaves circles of old objects.
        """
        if links != self._links:
            gc.unfreeze()
        gc.collect()
        gc.freeze()
        self._looked_at, self._links = at, links
