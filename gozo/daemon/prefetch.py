"""Prefetches the messages of schedules that are due soon."""

from __future__ import annotations

import asyncio
from typing import NoReturn

from gozo.leadership.tenure import Tenure
from gozo.runtime.clock_watch import ClockWatch
from gozo.schedule.model import MICROSECONDS
from gozo.schedule.timetable import Timetable
from gozo.store.message_cache import MessageCache

INTERVAL = 0.25  # seconds between checks for soon-due schedules
BATCH = 30  # messages fetched before other tasks get a turn
AHEAD_US = 5 * MICROSECONDS  # how long before it is due a message is fetched


class Prefetch:
    """Fills the cache of a leader."""

    def __init__(
        self, tenure: Tenure, clock: ClockWatch, timetable: Timetable, cache: MessageCache
    ) -> None:
        self._tenure = tenure
        self._clock = clock
        self._timetable = timetable
        self._cache = cache

    async def run(self) -> NoReturn:
        """Prefetch soon-due messages, yielding between batches; runs until it is cancelled.

        Catching up may take seconds while many soon-due requests arrive.
        """
        horizon_us, lags = 0, False
        while True:
            if not self._tenure.is_active:
                lags = False
            else:
                if not lags:  # otherwise new schedules would keep it from catching up
                    horizon_us = self._clock.now_us() + AHEAD_US
                self._fetch(horizon_us)
                lags = self._timetable.lags
            await asyncio.sleep(0 if lags else INTERVAL)

    def begin(self) -> None:
        """Fetch the first messages of a new leader, which does not wait for the others."""
        self._fetch(self._clock.now_us() + AHEAD_US)

    def clear(self) -> None:
        """Forget all messages: this replica no longer leads."""
        self._cache.clear()

    def _fetch(self, horizon_us: int) -> None:
        self._cache.prepare(self._timetable.approach(horizon_us, BATCH))
