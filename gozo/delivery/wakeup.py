"""Runs the delivery loop once the event loop has a moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Wakeup:
    """One pending run, however many ask for it."""

    def __init__(self, run: Callable[[], None]) -> None:
        self._run = run
        self._loop = asyncio.get_running_loop()
        self.is_pending = False
        """Whether there is more to send at once: that goes before settling."""

    def soon(self) -> None:
        """Run once the event loop has a moment."""
        if not self.is_pending:
            self.is_pending = True
            self._loop.call_soon(self._wake)

    def _wake(self) -> None:
        self.is_pending = False
        self._run()
