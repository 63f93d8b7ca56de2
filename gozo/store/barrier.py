"""The mark that a new leader writes: after reading it back, it has read everything before it."""

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
    """Writes the mark of one bucket."""

    def __init__(self, writer: Writer, bucket: Bucket) -> None:
        self._writer = writer
        self._lines = marker_headers(Reason.BARRIER, MARKER_SECONDS * bucket.marker_ttl)
        self.problem = ""
        """Why it was not stored when that was last tried."""

    async def written(self) -> int:
        """Write the mark and return its sequence; retried for as long as the server cannot take it.

        0 if there is no room for it, the stream will never take it, or the server does not answer
        for `SILENT` seconds: after its disk was full it answers reads, but no writes until it is
        restarted. Then only reading the bucket from now on shows what was done before.
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
        """Write the mark once.

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
