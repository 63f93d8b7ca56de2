"""Purges delete markers that the server would keep for ever.

Servers before 2.11, buckets that gozo did not create, and other tools leave markers without a
time to live. Once their time is over, the leader purges them, each no further than its own
revision: a purge without that bound can remove a schedule that was stored a moment ago.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NoReturn

from gozo.errors import GozoError
from gozo.logs import get_logger
from gozo.schedule import MICROSECONDS
from gozo.store.bucket import Bucket
from gozo.store.mirror import Mirror

INTERVAL = 10.0  # seconds between looks
LEADERS_TIME_US = 120 * MICROSECONDS  # after which a standby takes a marker for purged
SLICE = 500  # markers purged before others get a turn

log = get_logger("gozo.store")


class Cleaner:
    """Keeps the bucket free of old markers."""

    def __init__(self, bucket: Bucket, mirror: Mirror) -> None:
        self._bucket = bucket
        self._mirror = mirror
        self._timetable = mirror.timetable

    async def run(self, leads: Callable[[], bool]) -> NoReturn:
        """Purge now and then, while `leads`; runs until it is cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                while leads() and await self.purge(self._mirror.server_us()):
                    pass
            except GozoError as error:
                log.repeated("info", "cleaner.waiting", reason=str(error))
            if not leads():
                self.forget(self._mirror.server_us() - LEADERS_TIME_US)

    async def purge(self, before_us: int) -> int:
        """Purge some markers whose time ended before `before_us`; returns how many.

        Raises:
            JetStreamError, NoServerError, NotAllowedError: as for `JetStream.call`.
        """
        ended = self._timetable.pop_lasting(before_us, SLICE)
        purged = 0
        try:
            for key, revision in ended:
                await self._bucket.purge(key, revision)
                purged += 1
                if self._timetable.revision(key) == revision:
                    self._timetable.forget(key)
        finally:
            self._timetable.put_back_lasting(ended[purged:])
        if ended:
            log.debug("cleaner.purged", markers=len(ended))
        return len(ended)

    def forget(self, before_us: int) -> None:
        """Forget markers that the leader has purged by now: a purge leaves no other trace."""
        while ended := self._timetable.pop_lasting(before_us, SLICE):
            for key, _ in ended:
                self._timetable.forget(key)
