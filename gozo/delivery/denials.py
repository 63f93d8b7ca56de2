"""Which of the messages in flight the server refused to publish. Pure.

The server names a subject and nothing else, in the order in which it read the messages. So each
refusal is that of the first message to its subject that has none yet. Nothing is looked at twice,
however many are refused: any client can have thousands sent where the daemon may not publish.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from gozo.schedule.timetable import Item


class Denials:
    """The refusals of what was sent and is not confirmed."""

    def __init__(self, find: Callable[[int], tuple[Item, bytes] | None]) -> None:
        """`find` returns the item at a place of what is in flight, in the order of sending.

        With it comes its subject; None at the end.
        """
        self._find = find
        self._subjects: dict[Item, str] = {}
        self._place = 0
        """Up to where was looked."""
        self._passed: dict[bytes, deque[Item]] = {}
        """What was passed over on the way there, by subject."""

    def __len__(self) -> int:
        return len(self._subjects)

    def __contains__(self, item: Item) -> bool:
        return item in self._subjects

    def add(self, subject: str) -> None:
        """Take in a refusal; it may be of something else that was sent."""
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
        """Return the subject of an item that was refused, and forget it; None if it was not."""
        return self._subjects.pop(item, None)

    def restart(self) -> None:
        """Look from the beginning again: other messages are in flight now."""
        self._place = 0
        self._passed.clear()

    def clear(self) -> None:
        """Forget all."""
        self._subjects.clear()
        self.restart()
