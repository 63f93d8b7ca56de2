"""Changes that wait for earlier ones of the same key, in order. Pure.

Many may wait behind a slow change, and some are removed from the middle.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from gozo.store.changes import Change


class Behind:
    """The waiting changes, by key."""

    def __init__(self) -> None:
        self.queues: dict[str, OrderedDict[Change, None]] = {}
        """By key. Callers read it directly: each new change looks up its key."""
        self.count = 0
        """How many changes wait."""

    def __iter__(self) -> Iterator[Change]:
        for queue in self.queues.values():
            yield from queue

    def __contains__(self, change: Change) -> bool:
        return change in self.queues.get(change.key, ())

    def of(self, key: str) -> tuple[Change, ...]:
        """The changes of a key, the oldest first."""
        return tuple(self.queues.get(key, ()))

    def add(self, change: Change, *, first: bool = False) -> None:
        """Let a change wait behind the others of its key, or before them."""
        queue = self.queues.setdefault(change.key, OrderedDict())
        queue[change] = None
        if first:
            queue.move_to_end(change, last=False)
        self.count += 1

    def take(self, key: str) -> Change:
        """Remove and return the oldest change of a key, which must exist."""
        queue = self.queues[key]
        change, _ = queue.popitem(last=False)
        self._taken(key, queue)
        return change

    def remove(self, change: Change) -> None:
        """Remove a change that waits."""
        queue = self.queues[change.key]
        del queue[change]
        self._taken(change.key, queue)

    def _taken(self, key: str, queue: OrderedDict[Change, None]) -> None:
        self.count -= 1
        if not queue:
            del self.queues[key]
