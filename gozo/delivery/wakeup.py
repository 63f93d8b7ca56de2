"""Runs the delivery loop in the next turn of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Wakeup:
    """One pending run, however many callers request it."""

    def __init__(self, run: Callable[[], None]) -> None:
        self._run = run
        self._loop = asyncio.get_running_loop()
        self.is_pending = False
        """Whether there is more to send now, which has priority over settling."""

    def soon(self) -> None:
        """Run in the next turn of the event loop."""
        if not self.is_pending:
            self.is_pending = True
            self._loop.call_soon(self._wake)

    def _wake(self) -> None:
        self.is_pending = False
        self._run()
