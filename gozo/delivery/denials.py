"""Finds which of the messages in flight the server refused to publish. Pure.

The server names only the subject, in the order in which it read the messages. So each refusal
applies to the first message on its subject without one. No message is examined twice, however many
are refused: any client can have thousands sent to subjects without permission.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from gozo.schedule.timetable import Item


class Denials:
    """Refusals of messages that were sent and are not confirmed."""

    def __init__(self, find: Callable[[int], tuple[Item, bytes] | None]) -> None:
        """`find` returns the item at a place in the order of sending, and its subject.

        After the last item it returns None.
        """
        self._find = find
        self._subjects: dict[Item, str] = {}
        self._place = 0
        """The first place that was not examined."""
        self._passed: dict[bytes, deque[Item]] = {}
        """Items before that place that are not refused so far, by subject."""

    def __len__(self) -> int:
        return len(self._subjects)

    def __contains__(self, item: Item) -> bool:
        return item in self._subjects

    def add(self, subject: str) -> None:
        """Record a refusal; it may concern another message of this connection."""
        name = subject.encode()
        passed = self._passed.get(name)
        if passed:
            self._subjects[passed.popleft()] = subject
            return
        while (found := self._find(self._place)) is not None:
            self._place += 1
            item, other = found
            if other == name:
                self._subjects[item] = subject
                return
            self._passed.setdefault(other, deque()).append(item)

    def take(self, item: Item) -> str | None:
        """Return the subject of a refused item, and forget it; None if it was not refused."""
        return self._subjects.pop(item, None)

    def restart(self) -> None:
        """Start from the beginning again: a batch is no longer in flight."""
        self._place = 0
        self._passed.clear()

    def clear(self) -> None:
        """Forget all refusals."""
        self._subjects.clear()
        self.restart()
