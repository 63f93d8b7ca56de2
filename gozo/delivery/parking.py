"""What is due and waits until there is room for another message without an acknowledgement. Pure.

Schedules whose last message nobody acknowledged in time wait apart from the others, and have a
part of the room only: each takes it for seconds, and any client can make thousands of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice

from gozo.schedule.timetable import Item

MOST_SILENT = 100_000  # schedules of which it is remembered that nobody acknowledged them


class Parking:
    """The items, in two queues."""

    def __init__(self) -> None:
        self._queues: dict[bool, OrderedDict[str, Item]] = {
            False: OrderedDict(),
            True: OrderedDict(),
        }
        self._silent: set[str] = set()

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def __iter__(self) -> Iterator[Item]:
        for queue in self._queues.values():
            yield from queue.values()

    def __contains__(self, item: Item) -> bool:
        return any(queue.get(item.key) is item for queue in self._queues.values())

    # Which of the two

    def is_silent(self, item: Item) -> bool:
        """Tell whether nobody acknowledged the last message of an item's schedule in time."""
        return _schedule(item) in self._silent

    def note(self, item: Item, *, silent: bool) -> None:
        """Note whether a message was acknowledged in time."""
        if not silent:
            self._silent.discard(_schedule(item))
            return
        if len(self._silent) >= MOST_SILENT:
            self._silent.clear()
        self._silent.add(_schedule(item))

    # Waiting

    def waiting(self, *, silent: bool) -> int:
        """How many wait in a queue."""
        return len(self._queues[silent])

    def add(self, item: Item) -> None:
        """Let an item wait behind the others; before them if it is due before the first."""
        queue = self._queues[self.is_silent(item)]
        first = next(iter(queue.values()), item)
        queue[item.key] = item
        if item < first:  # It had been here before.
            queue.move_to_end(item.key, last=False)

    def first(self, most: int, *, silent: bool) -> list[Item]:
        """The first of a queue."""
        return list(islice(self._queues[silent].values(), max(most, 0)))

    def take(self, key: str) -> Item | None:
        """Take out what waits under a key; None if nothing does."""
        for queue in self._queues.values():
            item = queue.pop(key, None)
            if item is not None:
                return item
        return None

    def clear(self) -> list[Item]:
        """Take all out."""
        items = list(self)
        for queue in self._queues.values():
            queue.clear()
        return items


def _schedule(item: Item) -> str:
    return item.key.removeprefix("\1")
