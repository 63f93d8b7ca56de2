"""Makes further attempts of runs a few at a time.

Thousands may be due at once, where a receiver is away that many schedules have in common. They
must not hold up what is due for the first time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from gozo.delivery.source import Due, give_back
from gozo.schedule.model import Outgoing

AT_ONCE = 20  # attempts before others get a turn


class RunPace:
    """Runs whose next attempt is due, in order."""

    def __init__(
        self, attempt: Callable[[Due, Outgoing], None], may_act: Callable[[], bool]
    ) -> None:
        """`attempt` makes an attempt, while this replica `may_act`."""
        self._attempt = attempt
        self._may_act = may_act
        self._waiting: deque[Due] = deque()
        self._goes_on = False

    def add(self, due: Due) -> None:
        """Make an attempt soon."""
        self._waiting.append(due)
        self._go_on_soon()

    def clear(self) -> None:
        """Give all runs back."""
        give_back([*self._waiting])
        self._waiting.clear()

    def _go_on_soon(self) -> None:
        if not self._goes_on:
            self._goes_on = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._goes_on = False
        if not self._may_act():
            self.clear()
            return
        for _ in range(min(AT_ONCE, len(self._waiting))):
            item, source = due = self._waiting.popleft()
            if not source.is_current(item):
                source.let_go(item)
            elif (message := source.message(item)) is None:
                source.give_back(item)
            else:
                self._attempt(due, message)
        if self._waiting:
            self._go_on_soon()
