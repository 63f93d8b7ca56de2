"""Reads the entries of the original gozo, which have no headers.

The follower reads only headers. The values of entries without headers are read here, in the
background; an entry that is not a schedule is set aside as invalid.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import NoReturn

from gozo.errors import GozoError
from gozo.runtime.logs import get_logger
from gozo.store.bucket import Bucket
from gozo.store.index import BucketIndex

INTERVAL = 0.1  # seconds between searches for entries to read
AT_ONCE = 100  # entries read at the same time

log = get_logger("gozo.store")


class LegacyEntries:
    """Reads every entry without headers."""

    def __init__(self, bucket: Bucket, index: BucketIndex) -> None:
        self._bucket = bucket
        self._index = index
        self._progress = asyncio.Event()

    async def all_read(self) -> None:
        """Wait until all such entries are read."""
        while self._index.bare:
            self._progress.clear()
            await self._progress.wait()

    async def run(self) -> NoReturn:
        """Read such entries as they appear; runs until it is cancelled."""
        bare = self._index.bare
        while True:
            while bare:
                some = list(islice(bare.items(), AT_ONCE))
                await asyncio.gather(*(self._read(key, *version) for key, version in some))
                self._progress.set()
            await asyncio.sleep(INTERVAL)

    async def _read(self, key: str, revision: int, stored_us: int) -> None:
        try:
            message = await self._bucket.js.message(self._bucket.stream, revision)
        except GozoError as error:
            log.repeated("warning", "entry.unread", reason=str(error))
            await asyncio.sleep(INTERVAL)
            return
        if message is not None:
            self._index.take_value(key, revision, stored_us, message.payload)
        elif self._index.bare.get(key) == (revision, stored_us):
            # Removed or replaced meanwhile: the follower will notice.
            del self._index.bare[key]
