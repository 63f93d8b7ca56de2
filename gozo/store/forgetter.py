"""Forgets tombstones soon after their markers, and departures after ten minutes.

On a standby, this also drops delivered schedules from the timetable, since it pops none itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NoReturn

from gozo.runtime.clock import steady
from gozo.schedule.model import MICROSECONDS
from gozo.schedule.timetable import Timetable

INTERVAL = 0.25  # seconds; at 2,000 deliveries a second, forgetting takes a millisecond
SLICE = 100  # tombstones forgotten before others get a turn
SLACK_US = 3 * MICROSECONDS
"""How long a tombstone outlives its marker: the server removes markers up to two seconds late.
A tombstone forgotten too early or too late costs a write with a wrong expectation."""


class Forgetter:
    """Keeps a timetable free of tombstones whose markers are gone."""

    def __init__(self, timetable: Timetable, server_us: Callable[[], int]) -> None:
        self._timetable = timetable
        self._server_us = server_us

    async def run(self) -> NoReturn:
        """Forget periodically; runs until it is cancelled."""
        while True:
            before_us = self._server_us() - SLACK_US
            more = self._timetable.forget_ended(before_us, SLICE)
            more |= self._timetable.drop_outdated(SLICE)
            if not more:
                self._timetable.departures.turn(steady())
            await asyncio.sleep(0 if more else INTERVAL)
