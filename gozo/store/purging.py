"""Purges versions of many keys at the same time, each no further than its own revision."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial

from gozo.errors import DisconnectedError, GozoError, NoServerError
from gozo.store.bucket import Bucket
from gozo.transport.commands import Reply
from gozo.transport.jetstream import ANSWER_TIME, read_answer

READ_EACH = 50  # purges; see `Purging._read`


class Purging:
    """A batch of purges, sent together, and their results."""

    def __init__(
        self, bucket: Bucket, versions: dict[str, int], on_purged: Callable[[str, int], None]
    ) -> None:
        """`versions`: revisions by key, at least one; `on_purged` is called for each purged one."""
        self.left = dict(versions)
        """Revisions that are not known to be purged, by key."""
        self._bucket = bucket
        self._connection = bucket.js.connection
        self._on_purged = on_purged
        self._unanswered = len(versions)
        self._failure: GozoError | None = None
        self._tokens: list[bytes] = []
        self._over: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Send the purges, and wait until each is answered.

        Raises:
            JetStreamError, NoServerError, NotAllowedError: as for `JetStream.call`, of one purge.
        """
        subject = f"{self._bucket.js.prefix}.STREAM.PURGE.{self._bucket.stream}"
        try:
            with self._connection.failing_if_denied(subject, self._over):
                for number, (key, revision) in enumerate(list(self.left.items())):
                    if number % READ_EACH == 0:
                        self._read(revision)
                    on_reply = partial(self._on_reply, key, revision)
                    body = json.dumps(self._bucket.purge_body(key, revision)).encode()
                    self._tokens.append(self._connection.call(subject.encode(), body, on_reply))
                async with asyncio.timeout(ANSWER_TIME):
                    await self._over
        except TimeoutError as error:
            raise NoServerError(f"no answer on {subject} within {ANSWER_TIME:g} s") from error
        finally:
            for token in self._tokens:
                self._connection.hang_up(token)
        if self._failure is not None:
            raise self._failure

    def _read(self, revision: int) -> None:
        """Read a version first, so that the server keeps its block in memory.

        A stream consists of blocks of some megabytes. To purge in a block that is not in memory,
        nats-server 2.10 reads it from disk, which takes a millisecond, and drops it again; after
        a read it stays for a while. Each replica has its own blocks, and any replica may answer, so
        this is repeated often.
        """
        js, stream = self._bucket.js, self._bucket.stream
        verb = "DIRECT.GET" if self._bucket.direct else "STREAM.MSG.GET"
        subject = f"{js.prefix}.{verb}.{stream}".encode()
        body = b'{"seq":%d}' % revision
        self._tokens.append(self._connection.call(subject, body, lambda *_: None))

    def _on_reply(
        self, key: str, revision: int, headers: bytes | None, payload: bytes | None
    ) -> None:
        try:
            if payload is None:
                raise DisconnectedError("the connection to NATS was lost")
            read_answer("STREAM.PURGE", Reply(headers, payload))
        except GozoError as error:
            self._failure = self._failure or error
        else:
            del self.left[key]
            self._on_purged(key, revision)
        self._unanswered -= 1
        if not self._unanswered and not self._over.done():
            self._over.set_result(Reply(headers, payload or b""))
