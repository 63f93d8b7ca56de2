"""Gives memory back that a burst took.

Dictionaries and sets do not shrink when they are emptied, and the C library keeps what was freed
amid what is still in use. Both are seen to in quiet moments, since they take some milliseconds.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

INTERVAL = 10.0  # seconds between looks
TRIM = 30.0  # seconds between quiet moments in which the C library gives memory back
PATIENCE = 60.0  # seconds for which a quiet moment is waited for after a burst
SMALL = 64 * 1024  # bytes that a container may take, whatever it holds
ENTRY = 250  # bytes for each entry beyond which one is sparse: without gaps it takes 30 to 110
FEW = 20_000  # entries that are copied within a millisecond or two


def _trim() -> None:
    """Have the C library give back what is free: only glibc must be asked."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class Memory:
    """What some objects keep in their attributes. There is one in a process."""

    def __init__(self, parts: Sequence[object], trim: Callable[[], None] = _trim) -> None:
        self._parts = parts
        self._trim = trim
        self._looked_at = self._trimmed_at = 0.0

    def give_back(self, at: float, *, quiet: bool) -> None:
        """Give back what can be, `at` seconds of a steady clock; to be called now and then.

        `quiet`: nothing else is to be done.
        """
        if at - self._looked_at < INTERVAL:
            return
        self._looked_at = at
        sparse = [one for one in self._containers() if is_sparse(one)]
        for container in sparse:
            if quiet or len(container) <= FEW:
                rebuild(container)
        if at - self._trimmed_at >= (TRIM if quiet else PATIENCE) and (quiet or sparse):
            self._trim()
            self._trimmed_at = at

    def _containers(self) -> Iterator[dict[Any, Any] | set[Any]]:
        for part in self._parts:
            # Not `vars`: that makes a dictionary for each part, and Python is slower with it then.
            for value in gc.get_referents(part):
                if isinstance(value, (dict, set)):
                    yield value


def is_sparse(container: dict[Any, Any] | set[Any]) -> bool:
    """Tell whether a container takes much more memory than what it holds needs."""
    return sys.getsizeof(container) > SMALL + ENTRY * len(container)


def rebuild(container: dict[Any, Any] | set[Any]) -> None:
    """Make a container as small as it can be; it stays the same object, in the same order."""
    held = container.copy()
    container.clear()
    container.update(held)
