"""Retries changes that the bucket did not accept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from gozo.runtime.clock import steady
from gozo.store.changes import NO_DEADLINE, Write
from gozo.store.waiting import FIRST_WAIT, LONGEST_WAIT, Waiting


class Retries:
    """Keeps changes until their next attempt."""

    def __init__(
        self, again: Callable[[Iterable[Write]], None], give_up: Callable[[Write, str], None]
    ) -> None:
        """`again` retries changes; `give_up` ends a change that has reached its deadline."""
        self._again = again
        self._give_up = give_up
        self.waiting = Waiting()
        self._delayed = 0
        """How many changes wait, each with its own timer, for another write to their keys."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    @property
    def count(self) -> int:
        """How many changes wait."""
        return len(self.waiting.queue) + self._delayed

    def add(self, change: Write, words: str) -> None:
        """Keep a change until its next attempt; `words` say why the last one failed."""
        self.waiting.add(change, words, steady())
        self._set_timer()

    def delay(self, change: Write) -> None:
        """Keep a change for a moment that only waits for another write to its key."""
        change.wait = min(2 * change.wait, LONGEST_WAIT) or FIRST_WAIT
        self._delayed += 1
        asyncio.get_running_loop().call_later(change.wait, self._end_delay, change)

    def _end_delay(self, change: Write) -> None:
        self._delayed -= 1
        self._again((change,))

    def _set_timer(self) -> None:
        at = self.waiting.next_at()
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
            self._timer = None
        if at == NO_DEADLINE:
            return
        self._timer_at = at
        wait = max(0.0, at - steady())
        self._timer = asyncio.get_running_loop().call_later(wait, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = steady()
        for change, words in self.waiting.late(now):
            self._give_up(change, words)
        due = self.waiting.due(now)
        self._set_timer()
        self._again(due)
