"""Purges delete markers that the server would keep forever.

Servers before 2.11, buckets that gozo did not create, and other tools leave markers without a
time to live. Once they are old enough, the leader purges them, each no further than its own
revision: a purge without that bound can remove a schedule that was just stored.

Purges are sent hundreds at a time: one by one they would not keep up with a busy daemon, and the
bucket would grow forever.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NoReturn

from gozo.errors import GozoError
from gozo.runtime.logs import get_logger
from gozo.schedule.model import MICROSECONDS
from gozo.schedule.timetable import Timetable
from gozo.store.bucket import Bucket
from gozo.store.purging import Purging

INTERVAL = 1.0  # seconds between purges
LEADERS_TIME_US = 120 * MICROSECONDS  # after which a standby assumes that a marker is purged
WINDOW = 500  # purges in flight; the server limits all pending API requests to 10,000

log = get_logger("gozo.store")


class Cleaner:
    """Keeps the bucket free of old markers."""

    def __init__(self, bucket: Bucket, timetable: Timetable, server_us: Callable[[], int]) -> None:
        self._bucket = bucket
        self._timetable = timetable
        self._server_us = server_us

    async def run(self, leads: Callable[[], bool]) -> NoReturn:
        """Purge periodically while `leads`; runs until it is cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                began = time.monotonic()
                while leads() and await self.purge(self._server_us()):
                    # Leave the server time for deliveries and requests.
                    await asyncio.sleep(time.monotonic() - began)
                    began = time.monotonic()
            except GozoError as error:
                log.repeated("info", "cleaner.waiting", reason=str(error))
            if not leads():
                self.forget(self._server_us() - LEADERS_TIME_US)

    async def purge(self, before_us: int) -> int:
        """Purge some markers whose time ended before `before_us`, and return how many.

        Raises:
            JetStreamError, NoServerError, NotAllowedError: as for `JetStream.call`. Some markers
            may be purged nevertheless.
        """
        ended = self._timetable.pop_lasting(before_us, WINDOW)
        if not ended:
            return 0
        purging = Purging(self._bucket, dict(ended), self._on_purged)
        try:
            await purging.run()
        finally:
            left = list(purging.left.items())
            self._timetable.put_back_lasting(left)
            log.debug("cleaner.purged", markers=len(ended) - len(left))
        return len(ended)

    def _on_purged(self, key: str, revision: int) -> None:
        if self._timetable.revision(key) == revision:
            self._timetable.forget(key)

    def forget(self, before_us: int) -> None:
        """Forget markers that the leader must have purged by now: a purge leaves no trace."""
        while ended := self._timetable.pop_lasting(before_us, WINDOW):
            for key, _ in ended:
                self._timetable.forget(key)
