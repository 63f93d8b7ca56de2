"""Watches the changes of the bucket; keeps keys and revisions only."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator

from gozo.client.arguments import moment
from gozo.client.decoding import id_of, is_hidden
from gozo.client.loading import Raw
from gozo.client.models import Change
from gozo.client.reader import Reader
from gozo.errors import DisconnectedError, JetStreamError, NoServerError
from gozo.schedule.model import Marker
from gozo.store.bucket import Bucket
from gozo.store.ordered_consumer import BATCH, HEARTBEAT, Consumer
from gozo.transport.connection import Connection

RETRY_WAIT = 0.25  # seconds


class Watcher:
    """Yields every schedule once, then every change; reloads after an interruption."""

    def __init__(self, connection: Connection, reader: Reader) -> None:
        self._connection = connection
        self._reader = reader
        self._present: dict[str, tuple[int, str | None]] = {}
        """Revision and id of each schedule reported, by key."""
        self._current = False
        """Whether `current` was reported."""
        self._queue: deque[tuple[Raw, int]] = deque()
        self._news = asyncio.Event()
        self._broken = False

    async def changes(self) -> AsyncIterator[Change]:
        """Iterate without end; see `Client.watch`."""
        while True:
            try:
                bucket = await self._reader.bucket()
                if bucket is None:
                    for change in self._caught_up(set()):
                        yield change
                else:
                    async for change in self._follow(bucket):
                        yield change
            except NoServerError:
                if self._connection.closed:
                    raise DisconnectedError("the client was closed") from None
            except JetStreamError:
                # If it existed before, it was deleted or is not back yet.
                if not self._current:
                    raise
            await asyncio.sleep(RETRY_WAIT)

    async def _follow(self, bucket: Bucket) -> AsyncIterator[Change]:
        """Load everything and yield new versions; then follow until the consumer breaks."""
        self._broken = False
        self._queue.clear()
        await self._reader.learn_rules()
        consumer = Consumer(
            self._connection, bucket, self._on_message, self._on_broken, self._wants_more
        )
        self._connection.on_lost.append(self._on_lost)
        try:
            seen: set[str] | None = set()
            pending = await consumer.start(None)
            while True:
                if seen is not None and not pending:
                    for change in self._caught_up(seen):
                        yield change
                    seen = None
                if not await self._next(consumer, loading=seen is not None):
                    return
                if not self._queue:
                    pending = 0
                    continue
                raw, pending = self._queue.popleft()
                if seen is not None:
                    seen.add(raw.key)
                told = await self._change(raw, loading=seen is not None)
                if told is not None:
                    yield told
        finally:
            consumer.stop()
            self._connection.on_lost.remove(self._on_lost)

    def _caught_up(self, seen: set[str]) -> Iterator[Change]:
        """Yield the keys that disappeared without a marker, and `current` once."""
        for key in self._present.keys() - seen:
            _, id_ = self._present.pop(key)
            yield Change("removed", key, id_)
        if not self._current:
            self._current = True
            yield Change("current")

    async def _change(self, raw: Raw, *, loading: bool) -> Change | None:
        """Return the change that a message makes, if any."""
        known = self._present.get(raw.key)
        if is_hidden(raw.key) or (known is not None and known[0] == raw.revision):
            return None
        what = await self._reader.understand_fully(raw)
        at = moment(raw.stored_us)
        if isinstance(what, Marker):
            if self._present.pop(raw.key, None) is None and loading:
                return None
            return Change(
                "removed",
                raw.key,
                id_of(raw.key) if known is None else known[1],
                reason=what.reason.value,
                at=at,
            )
        if what is None:
            return None
        self._present[raw.key] = (raw.revision, what.id)
        return Change("put", raw.key, what.id, what, at=at)

    async def _next(self, consumer: Consumer, *, loading: bool) -> bool:
        """Wait for a message; False if the consumer is not usable any more.

        While `loading`, announced messages may not arrive.
        """
        while not self._queue:
            if self._broken:
                return False
            consumer.refill()
            self._news.clear()
            try:
                async with asyncio.timeout(HEARTBEAT):
                    await self._news.wait()
            except TimeoutError:
                if consumer.is_silent:
                    return False
                if loading and consumer.stalls:
                    return await consumer.has_all()
        return True

    def _wants_more(self) -> bool:
        return len(self._queue) < BATCH

    def _on_lost(self) -> None:
        self._on_broken("the connection was lost")

    def _on_broken(self, reason: str) -> None:
        self._broken = True
        self._news.set()

    def _on_message(
        self, key: str, revision: int, stored_us: int, headers: bytes | None, pending: int
    ) -> None:
        self._queue.append((Raw(key, revision, stored_us, headers), pending))
        self._news.set()
