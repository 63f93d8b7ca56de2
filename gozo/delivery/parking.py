"""Parked items: due, and waiting until fewer messages are unacknowledged. Pure.

Schedules whose last message was not acknowledged in time are called silent. They wait in their own
queue, for a share of the room: each occupies its place for seconds, and any client can create
thousands of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice

from gozo.delivery.source import Due
from gozo.schedule.timetable import Item

MOST_SILENT = 100_000  # silent schedules that are remembered


class Parking:
    """The parked items, in two queues."""

    def __init__(self) -> None:
        self._queues: dict[bool, OrderedDict[str, Due]] = {
            False: OrderedDict(),
            True: OrderedDict(),
        }
        self._silent: set[str] = set()

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def __iter__(self) -> Iterator[Due]:
        for queue in self._queues.values():
            yield from queue.values()

    def __contains__(self, due: Due) -> bool:
        return any(queue.get(due[0].key) is due for queue in self._queues.values())

    # Choosing the queue

    def is_silent(self, item: Item) -> bool:
        """Tell whether the last message of an item's schedule was not acknowledged in time."""
        return item.key in self._silent

    def note(self, item: Item, *, silent: bool) -> None:
        """Note whether the message of an item was acknowledged in time."""
        if not silent:
            self._silent.discard(item.key)
            return
        if len(self._silent) >= MOST_SILENT:
            self._silent.clear()
        self._silent.add(item.key)

    # Waiting

    def waiting(self, *, silent: bool) -> int:
        """How many are parked in a queue."""
        return len(self._queues[silent])

    def add(self, due: Due) -> None:
        """Park an item behind the others, or before them if it is due before the first."""
        item = due[0]
        queue = self._queues[self.is_silent(item)]
        first = next(iter(queue.values()), due)
        queue[item.key] = due
        if item < first[0]:  # It was parked before.
            queue.move_to_end(item.key, last=False)

    def first(self, most: int, *, silent: bool) -> list[Due]:
        """The first items of a queue."""
        return list(islice(self._queues[silent].values(), max(most, 0)))

    def take(self, key: str) -> Due | None:
        """Remove and return the parked item of a key; None without one."""
        for queue in self._queues.values():
            due = queue.pop(key, None)
            if due is not None:
                return due
        return None

    def clear(self) -> list[Due]:
        """Remove and return all items."""
        parked = list(self)
        for queue in self._queues.values():
            queue.clear()
        return parked
