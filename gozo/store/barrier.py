"""The barrier: once a new leader has read back this marker, it has read everything before it."""

from __future__ import annotations

import asyncio

from gozo.errors import DisconnectedError
from gozo.runtime.logs import get_logger
from gozo.schedule.model import Reason
from gozo.store.bucket import Bucket
from gozo.store.entry_codec import BARRIER_KEY
from gozo.store.marker_codec import (
    MARKER_SECONDS,
    marker_headers,
)
from gozo.store.writer import SILENT, Writer, WriteResult

RETRY_WAIT = 0.25  # seconds

log = get_logger("gozo.lease")


class Barrier:
    """Writes the barrier of one bucket."""

    def __init__(self, writer: Writer, bucket: Bucket) -> None:
        self._writer = writer
        self._lines = marker_headers(Reason.BARRIER, MARKER_SECONDS * bucket.marker_ttl)
        self.problem = ""
        """Why the last attempt to store it failed."""

    async def written(self) -> int:
        """Write the barrier, retrying while the server cannot store it, and return its sequence.

        0 if the storage is full, the stream refuses it, or the server does not answer for `SILENT`
        seconds: after its disk was full, a server answers reads, but no writes until it is
        restarted. The caller must then reload the bucket to know what was written before.
        """
        while True:
            try:
                result, sequence, self.problem = await self.attempt()
            except TimeoutError:
                return 0
            if sequence:
                return sequence
            if result in (WriteResult.NO_ROOM, WriteResult.REFUSED):
                return 0
            await asyncio.sleep(RETRY_WAIT)

    async def attempt(self) -> tuple[WriteResult, int, str]:
        """Write the barrier once.

        Raises:
            TimeoutError: there was no answer for `SILENT` seconds.
        """
        done: asyncio.Future[tuple[WriteResult, int, str]]
        done = asyncio.get_running_loop().create_future()

        def on_done(result: WriteResult, sequence: int, words: str) -> None:
            if not done.done():
                done.set_result((result, sequence, words))

        try:
            self._writer.write(BARRIER_KEY, self._lines, b"", None, on_done)
        except DisconnectedError as error:
            return WriteResult.UNAVAILABLE, 0, str(error)
        try:
            async with asyncio.timeout(SILENT):
                result, sequence, words = await done
        except TimeoutError:
            self.problem = f"no answer within {SILENT:g} s"
            log.repeated("warning", "lease.barrier_failed", reason=self.problem)
            raise
        if not sequence:
            log.repeated("warning", "lease.barrier_failed", reason=words)
        return result, sequence, words
