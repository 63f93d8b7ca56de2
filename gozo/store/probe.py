"""Whether this replica could write the bucket, found out without writing anything.

It requests a write to a key that no id can produce, expecting a revision that no key has. The
server refuses it, but only after checking the permissions and the stream. A disk that was full is
not detected this way: see `Writer.is_silent`.
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
NO_REVISION = 1 << 52  # which no key has
EVERY, SOON = 1.0, 0.25  # seconds until it asks again: where all is well, and where not
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
        """Why the bucket could not be written when last tried; empty if it could."""
        self.mute = ""
        """Why it could not publish to its own inbox, which is how it confirms deliveries; empty if
        it could, or if the connection does not answer at all."""
        self.tried = asyncio.Event()
        """Set once it is known."""

    async def run(self) -> NoReturn:
        """Probe periodically; runs until it is cancelled."""
        while True:
            self.problem = await self._ask()
            self.mute = await self._listen()
            self.tried.set()
            await asyncio.sleep(SOON if self.problem else EVERY)
            if self._writer.is_silent and not self.problem:
                # Else nobody would notice that the bucket takes writes again.
                try:
                    await self._barrier.attempt()
                except TimeoutError:
                    continue

    async def _listen(self) -> str:
        try:
            await self._connection.echo(ANSWER_TIME)
        except NotAllowedError as error:
            return str(error)
        except NoServerError:  # which others tell
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
        # Where there is no room, what is due is delivered and settled all the same.
        return "" if ack.code in CONFLICTS | NO_ROOM else ack.words
