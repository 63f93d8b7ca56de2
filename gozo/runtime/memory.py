"""Gives back memory after a burst.

Dictionaries and sets do not shrink when they are emptied, and the C library keeps memory that was
freed between blocks still in use. Both are dealt with in quiet moments, since that takes some
milliseconds. Without quiet moments, only what takes two milliseconds is done.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

INTERVAL = 10.0  # seconds between checks
TRIM_INTERVAL = 30.0  # seconds between trims of the C library's memory in quiet moments
TRIM_DEADLINE = 60.0  # seconds between trims without quiet moments
SMALL = 64 * 1024  # bytes that a container may take whatever it contains
SPARSE = 250  # bytes per entry above which a container is sparse; without gaps it is 30 to 110
FEW = 20_000  # entries that are copied within a millisecond or two


def _trim() -> None:
    """Make the C library return free memory to the system: only glibc needs that."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class Memory:
    """The containers in some objects, and in gozo's objects that these refer to.

    There is one in a process.
    """

    def __init__(self, roots: Sequence[object], trim: Callable[[], None] = _trim) -> None:
        self._roots = roots
        self._trim = trim
        self._looked_at = self._trimmed_at = 0.0

    def give_back(self, at: float, *, quiet: bool) -> None:
        """Give back free memory, `at` seconds of a steady clock; call it periodically.

        `quiet`: there is nothing else to do.
        """
        if at - self._looked_at < INTERVAL:
            return
        self._looked_at = at
        for container in [one for one in self._containers() if is_sparse(one)]:
            if quiet or len(container) <= FEW:
                rebuild(container)
        if at - self._trimmed_at >= (TRIM_INTERVAL if quiet else TRIM_DEADLINE):
            self._trim()
            self._trimmed_at = at

    def _containers(self) -> Iterator[dict[Any, Any] | set[Any]]:
        seen = {id(one) for one in self._roots}
        left = list(self._roots)
        while left:
            # Not `vars`: that gives the object a dictionary, which slows Python down from then on.
            for value in gc.get_referents(left.pop()):
                if id(value) in seen:
                    continue
                seen.add(id(value))
                if isinstance(value, (dict, set)):
                    yield value
                elif type(value).__module__.startswith("gozo."):
                    left.append(value)


def is_sparse(container: dict[Any, Any] | set[Any]) -> bool:
    """Tell whether a container takes much more memory than its entries need."""
    return sys.getsizeof(container) > SMALL + SPARSE * len(container)


def rebuild(container: dict[Any, Any] | set[Any]) -> None:
    """Shrink a container as far as possible; it stays the same object, in the same order."""
    held = container.copy()
    container.clear()
    container.update(held)
