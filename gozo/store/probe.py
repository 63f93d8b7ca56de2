"""Tests whether this replica could write the bucket, without writing anything.

The probe requests a write to a key that no id can produce, and expects a revision that no key has.
The server refuses it, but only after checking the permissions and the stream. A disk that was full
is not detected this way: see `Writer.is_silent`.
"""

from __future__ import annotations

import asyncio
from typing import NoReturn

from gozo.errors import DisconnectedError, NoServerError, NotAllowedError
from gozo.protocol.headers import block
from gozo.protocol.ids import RESERVED
from gozo.store.barrier import Barrier
from gozo.store.bucket import Bucket
from gozo.store.writer import Writer
from gozo.transport.connection import Connection
from gozo.transport.jetstream import CONFLICTS, NO_ROOM, read_ack

KEY = f"{RESERVED}check"
"""A key that no id can produce, and that is never stored."""
NO_REVISION = 1 << 52  # a revision that no key has
EVERY, SOON = 1.0, 0.25  # seconds between probes: if all is well, and if not
ANSWER_TIME = 2.0  # seconds


class Probe:
    """Probes the bucket periodically."""

    def __init__(
        self, connection: Connection, bucket: Bucket, writer: Writer, barrier: Barrier
    ) -> None:
        self._connection = connection
        self._subject = f"{bucket.entrance}{KEY}"
        self._headers = block(b"", NO_REVISION)
        self._writer = writer
        self._barrier = barrier
        self.problem = "not tried yet"
        """Why the last probe failed; empty if it succeeded."""
        self.mute = ""
        """Why the daemon could not publish to its own inbox, which confirms deliveries; empty if it
        could, or if the connection does not answer at all."""
        self.tried = asyncio.Event()
        """Set after the first probe."""

    async def run(self) -> NoReturn:
        """Probe periodically; runs until it is cancelled."""
        while True:
            self.problem = await self._ask()
            self.mute = await self._listen()
            self.tried.set()
            await asyncio.sleep(SOON if self.problem else EVERY)
            if self._writer.is_silent and not self.problem:
                # Otherwise nothing would notice that the bucket accepts writes again.
                try:
                    await self._barrier.attempt()
                except TimeoutError:
                    continue

    async def _listen(self) -> str:
        try:
            await self._connection.echo(ANSWER_TIME)
        except NotAllowedError as error:
            return str(error)
        except NoServerError:  # reported elsewhere
            return ""
        return ""

    async def _ask(self) -> str:
        try:
            reply = await self._connection.request(
                self._subject, headers=self._headers, timeout=ANSWER_TIME
            )
        except NotAllowedError as error:
            return str(error)
        except DisconnectedError:
            return ""  # reported by the connection itself
        except NoServerError:
            return "no answer"
        ack = read_ack(reply.headers, reply.payload)
        # With the storage full, due schedules are still delivered and settled.
        return "" if ack.code in CONFLICTS | NO_ROOM else ack.words
