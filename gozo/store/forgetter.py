"""Forgets what is over: tombstones soon after their markers, and outcomes after ten minutes.

A standby drops what others delivered from its timetable here, since it pops nothing itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NoReturn

from gozo.runtime.clock import steady
from gozo.schedule.model import MICROSECONDS
from gozo.schedule.timetable import Timetable

INTERVAL = 0.25  # seconds: what 2,000 deliveries a second leave is forgotten within a millisecond
SLICE = 100  # tombstones forgotten before others get a turn
SLACK_US = 3 * MICROSECONDS
"""How long after its marker a tombstone goes: the server removes markers a second late or two.
One that goes too early, or too late, costs a write with a wrong expectation."""


class Forgetter:
    """Keeps a timetable free of tombstones whose markers are gone."""

    def __init__(self, timetable: Timetable, server_us: Callable[[], int]) -> None:
        self._timetable = timetable
        self._server_us = server_us

    async def run(self) -> NoReturn:
        """Forget; runs until it is cancelled."""
        while True:
            before_us = self._server_us() - SLACK_US
            more = self._timetable.forget_ended(before_us, SLICE)
            more |= self._timetable.drop_outdated(SLICE)
            if not more:
                self._timetable.outcomes.turn(steady())
            await asyncio.sleep(0 if more else INTERVAL)
