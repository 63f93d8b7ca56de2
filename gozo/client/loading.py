"""Loads the latest message of each key of the bucket: all keys, or those listed by the leader.

If most of the bucket is delete markers, the keys listed by the leader are read, each at its
revision, and then everything stored after the leader's position. So no schedule is missed: either
it has not changed since the leader listed it, or it was stored later.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import NamedTuple

from gozo.client.decoding import is_hidden
from gozo.client.keys import Keys
from gozo.errors import JetStreamError, NoServerError, NotAllowedError
from gozo.runtime.clock import steady
from gozo.store.bucket import Bucket, BucketState
from gozo.store.marker_codec import plain_marker
from gozo.store.ordered_consumer import BATCH, HEARTBEAT, Consumer
from gozo.store.run_codec import RUN_PREFIX
from gozo.transport.batched_get import MOST_SUBJECTS, latest_messages
from gozo.transport.connection import Connection
from gozo.transport.jetstream import JetStream, StoredMessage

CHASE = 100_000  # messages read beyond the initial ones, plus as many as there are keys
GRACE = 0.1  # seconds within which a stored message arrives
LAG = 5.0  # seconds for a replica of the stream to catch up with its leader

FEW = 2_000  # messages read in less time than asking a leader takes
WORTH = 8  # reading one key at its revision may take as long as this many messages of a full load
PAGE = 2_000  # keys requested from the leader at a time
AT_ONCE = MOST_SUBJECTS  # messages requested at a time
MOST_BYTES = 16 * 1024 * 1024  # of large payloads in a page: single reads include payloads
ANSWER_TIME = 5.0  # seconds


class Raw(NamedTuple):
    """A message of the bucket as received, without its value."""

    key: str
    revision: int
    stored_us: int
    headers: bytes | None


class Named:
    """Reads the keys listed by the leader, if that is faster."""

    def __init__(self, js: JetStream, bucket: Bucket, keys: Keys, state: BucketState) -> None:
        self.after: int | None = None
        """Everything up to this sequence that has not changed since was read; None: a full load is
        necessary."""
        self._js = js
        self._bucket = bucket
        self._keys = keys
        self._state = state
        self._in_batches = bucket.direct
        """Whether many keys are read with one request."""

    async def messages(self, prefix: str) -> AsyncIterator[Raw]:
        """Iterate over the messages of keys that begin with `prefix`; then look at `after`.

        So do the keys of the schedules of which runs are read.
        """
        if self._state.keys <= FEW:
            return
        page = await self._keys.page(prefix, "", 0)
        if page is None or not (prefix or page.schedules * WORTH <= self._state.keys):
            return
        after, last = page.position, ""
        prefixes = [RUN_PREFIX + prefix, prefix] if prefix else [""]
        while prefixes:
            page = await self._keys.page(prefixes[-1], last, PAGE)
            if page is None or page.created != self._state.created or page.large > MOST_BYTES:
                return
            after = min(after, page.position)  # another leader may lag behind the previous one
            for start in range(0, len(page.keys), AT_ONCE):
                some = page.keys[start : start + AT_ONCE]
                found = await self._read(some, max(page.position, self._state.last_sequence))
                if found is None:
                    return
                for raw in found:
                    yield raw
            last = page.keys[-1][0] if page.more else ""
            if not page.more:
                prefixes.pop()
        self.after = after

    async def _read(self, keys: list[tuple[str, int]], position: int) -> list[Raw] | None:
        """Read keys at their revisions; omits those that have changed since.

        None: a read failed, or the bucket differs from the leader's report.
        """
        try:
            found = await self._read_batch(keys, position) if self._in_batches else {}
            left = [revision for _, revision in keys if revision not in found]
            if left:
                messages = await self._js.messages(self._bucket.stream, left, timeout=ANSWER_TIME)
                found |= {message.sequence: message for message in messages if message is not None}
        except (JetStreamError, NoServerError, NotAllowedError):
            return None
        raws: list[Raw] = []
        for key, revision in keys:
            message = found.get(revision)
            if message is None:
                continue
            if message.subject != self._bucket.prefix + key:
                return None
            if not is_hidden(key):
                headers = _sized(message.headers, len(message.payload))
                raws.append(Raw(key, revision, message.stored_us, headers))
        return raws

    async def _read_batch(
        self, keys: list[tuple[str, int]], position: int
    ) -> dict[int, StoredMessage]:
        """Read keys with one request; returns messages by revision.

        Nothing if the server cannot do that, or if its replica of the stream has not reached
        `position`: a message may have changed since.
        """
        subjects = [self._bucket.prefix + key for key, _ in keys]
        try:
            batch = await latest_messages(self._js, self._bucket.stream, subjects, ANSWER_TIME)
        except NotAllowedError:
            batch = None  # single messages may be permitted
        if batch is None or batch.position < position:
            self._in_batches = False
            return {}
        return {message.sequence: message for message in batch.messages}


def _sized(headers: bytes | None, size: int) -> bytes:
    """Return the header block of a message received without its value: with the value's size."""
    return b"%bNats-Msg-Size: %d\r\n\r\n" % ((headers or b"NATS/1.0\r\n\r\n")[:-2], size)


class Load:
    """Reads the latest message of each key, each key once.

    A schedule that is replaced meanwhile moves to the end of the stream. So reading continues
    until no messages are pending. The server may report that too early: it counts a replaced
    message as gone before it counts the new one, or a lagging replica answers. So the stream's
    leader is asked whether there are later messages. If messages are written faster than they
    are read, reading ends at a limit (`CHASE`).
    """

    def __init__(
        self,
        connection: Connection,
        bucket: Bucket,
        state: BucketState,
        *,
        seen: set[str],
        after: int | None,
    ) -> None:
        """`seen` has the keys already read; `after` is as for `Named`."""
        self._bucket = bucket
        self._queue: deque[Raw] = deque()
        self._news = asyncio.Event()
        self._consumer = Consumer(
            connection, bucket, self._on_message, self._on_broken, self._wants_more
        )
        self._keys = seen
        self._after = after
        self._end = self._needed = state.last_sequence
        """Messages after the first count as new; up to the second, none may be missed."""
        self._position = self._beyond = 0
        self._lags_until: float | None = None
        self._within = len(seen)
        self._nothing_to_come = self._done = False
        self._problem = ""

    async def start(self) -> None:
        """Start.

        Raises:
            JetStreamError, NoServerError, NotAllowedError: as for `JetStream.call`.
        """
        if self._after is not None:
            last = (await self._bucket.state()).last_sequence
            if last < self._after:
                self._after = None  # the bucket was restored from an older backup
            else:
                self._end, self._done = self._after, last == self._after
                self._position, self._needed = self._after, last
        if not self._done:
            self._nothing_to_come = await self._consumer.start(self._after) == 0

    def stop(self) -> None:
        """Stop."""
        self._consumer.stop()

    async def messages(self) -> AsyncIterator[Raw]:
        """Iterate over the messages, without gozo's delete markers.

        Raises:
            NoServerError: the bucket could not be read completely.
        """
        while True:
            while self._queue:
                yield self._queue.popleft()
            if self._nothing_to_come and not self._done:
                await self._check()
            elif self._done:
                return
            elif self._problem:
                raise NoServerError(
                    f"the schedules could not be read completely ({self._problem}): try again"
                )
            else:
                await self._wait(HEARTBEAT)
                if self._consumer.is_silent:
                    self._problem = "the server stopped answering"
                elif self._consumer.stalls:
                    self._nothing_to_come = True

    async def _check(self) -> None:
        """Find out whether no messages are really pending."""
        bucket, pattern = self._bucket, f"{self._bucket.prefix}>"
        left = await bucket.js.next_message(bucket.stream, pattern, self._position + 1)
        if left is None:
            self._done = True
            return
        # The announced message will arrive, unless it has been removed.
        self._nothing_to_come = False
        if self._queue or await self._wait(GRACE):
            self._lags_until = None
        elif left.sequence > self._needed:
            self._done = True
        else:
            self._lags_until = self._lags_until or steady() + LAG
            self._nothing_to_come = steady() < self._lags_until
            if not self._nothing_to_come:
                self._problem = "a replica of the stream lags behind"

    async def _wait(self, timeout: float) -> bool:
        """Wait for a message; False if none came in time."""
        self._consumer.refill()
        self._news.clear()
        try:
            async with asyncio.timeout(timeout):
                return await self._news.wait()
        except TimeoutError:
            return False

    def _wants_more(self) -> bool:
        return not self._done and len(self._queue) < BATCH

    def _on_broken(self, reason: str) -> None:
        self._problem = reason
        self._news.set()

    def _on_message(
        self, key: str, revision: int, stored_us: int, headers: bytes | None, pending: int
    ) -> None:
        if self._done:
            return
        self._position = revision
        if revision > self._end:
            self._beyond += 1
        else:
            self._within += 1
        is_marker = plain_marker(headers) is not None
        if not is_marker and key not in self._keys and not is_hidden(key):
            self._keys.add(key)
            self._queue.append(Raw(key, revision, stored_us, headers))
        self._nothing_to_come = not pending
        self._done = self._beyond > self._within + CHASE
        self._news.set()
