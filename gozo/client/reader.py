"""Reads the bucket: one schedule, all of them, or how the bucket itself is doing."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple

from gozo.client.making import moment
from gozo.client.nouns import BucketInfo, Outcome, Schedule
from gozo.client.reading import is_hidden, keys_of, matcher, schedule_or_marker
from gozo.clock import wall_us
from gozo.connection import Connection
from gozo.errors import JetStreamError, NoServerError
from gozo.jetstream import STREAM_NOT_FOUND, JetStream, StoredMessage, parse_time
from gozo.policy import Policy
from gozo.schedule import Marker
from gozo.store.bucket import Bucket, find_bucket, stream_of
from gozo.store.consumer import BATCH, HEARTBEAT, Consumer

CHASE = 100_000  # messages that are read beyond those that there were, and as many as keys
GRACE = 0.1  # seconds in which a message comes that was stored before
VALUES = 100  # values read at the same time


class Found(NamedTuple):
    """What is stored under an id."""

    key: str
    message: StoredMessage
    what: Schedule | Marker


class Raw(NamedTuple):
    """A message of the bucket as it came, without its value."""

    key: str
    revision: int
    stored_us: int
    headers: bytes | None


class Reader:
    """Reads one bucket; never creates it."""

    def __init__(
        self,
        connection: Connection,
        name: str,
        policy: Policy,
        rules: Callable[[], Awaitable[Policy]],
    ) -> None:
        self.connection = connection
        self.js = JetStream(connection)
        self.name = name
        self._policy = policy
        self._rules = rules

    async def bucket(self) -> Bucket | None:
        """Find the bucket; None where there is none.

        Raises:
            JetStreamError, NoServerError, NotAllowedError: as for `JetStream.call`.
        """
        try:
            return await find_bucket(self.js, self.name)
        except NoServerError:
            await self.explain_silence()
            raise

    async def info(self) -> BucketInfo | None:
        """Describe the bucket; None where there is none."""
        try:
            answer = await self.js.call(f"STREAM.INFO.{stream_of(self.name)}")
        except JetStreamError as error:
            if error.code == STREAM_NOT_FOUND:
                return None
            raise
        except NoServerError:
            await self.explain_silence()
            raise
        config: dict[str, Any] = answer["config"]
        return BucketInfo(
            name=self.name,
            keys=int(answer["state"]["messages"]),
            bytes=int(answer["state"]["bytes"]),
            replicas=int(config.get("num_replicas", 1)),
            storage=str(config.get("storage", "")),
            created=moment(parse_time(answer["created"])),
            settings=config,
        )

    async def find(self, id_: str) -> Found | None:
        """Read what is stored under an id, from the stream's leader: a schedule or a marker.

        An entry of the original gozo may have another key than the id's; None where there is
        nothing at all.
        """
        marker = None
        for number, key in enumerate(keys_of(id_)):
            found = await self.read(key)
            if found is None:
                continue
            if isinstance(found.what, Marker):
                marker = marker or (found if number == 0 else None)
            elif number == 0 or found.what.id == id_:
                return found
        return marker

    async def read(self, key: str) -> Found | None:
        """Read what is stored under a key, from the stream's leader."""
        try:
            message = await self.js.last_message(stream_of(self.name), f"$KV.{self.name}.{key}")
        except JetStreamError as error:
            if error.code == STREAM_NOT_FOUND:
                return None
            raise
        except NoServerError:
            await self.explain_silence()
            raise
        if message is None:
            return None
        raw = Raw(key, message.sequence, message.stored_us, message.headers)
        what = self.understand(raw, message.payload)
        assert what is not None
        return Found(key, message, what)

    async def learn_rules(self) -> None:
        """Come to know what the daemon that leads delivers, and what it lists as invalid."""
        self._policy = await self._rules()

    async def get(self, id_: str) -> Schedule | None:
        """Read a schedule with its payload; None where there is none."""
        await self.learn_rules()
        found = await self.find(id_)
        return found.what if found and isinstance(found.what, Schedule) else None

    async def last_outcome(self, id_: str) -> Outcome | None:
        """Tell how the schedule with an id left the bucket; None where that is not known."""
        found = await self.find(id_)
        if found is None or not isinstance(found.what, Marker):
            return None
        return Outcome(found.what.reason.value, moment(found.message.stored_us))

    def understand(self, raw: Raw, value: bytes | None = None) -> Schedule | Marker | None:
        """Read a message of the bucket; without its `value`, None means that it is needed."""
        most = self.connection.max_payload
        return schedule_or_marker(self._policy, *raw, value, wall_us(), most)

    async def understand_fully(self, raw: Raw) -> Schedule | Marker | None:
        """Read a message of the bucket, and its value if need be; None if it is gone by now."""
        what = self.understand(raw)
        if what is None:
            message = await self.js.message(stream_of(self.name), raw.revision)
            if message is not None:
                what = self.understand(raw, message.payload)
        if isinstance(what, Schedule) and what.payload is not None:
            return what._replace(payload=None)
        return what

    async def list(self, subject: str | None) -> AsyncIterator[Schedule]:
        """Iterate over all schedules whose subject matches; without payloads, in no order."""
        wanted = None if subject is None else matcher(subject)
        await self.learn_rules()
        bare: list[Raw] = []
        async for raw in self._messages():
            what = self.understand(raw)
            if what is None:
                bare.append(raw)
            elif isinstance(what, Schedule) and (wanted is None or wanted.match(what.subject)):
                yield what
        for start in range(0, len(bare), VALUES):
            some = bare[start : start + VALUES]
            for what in await asyncio.gather(*(self.understand_fully(raw) for raw in some)):
                if isinstance(what, Schedule) and (wanted is None or wanted.match(what.subject)):
                    yield what

    async def _messages(self) -> AsyncIterator[Raw]:
        """Iterate over the latest message of each key, once, as of now."""
        bucket = await self.bucket()
        if bucket is None:
            return
        load = _Load(self.connection, bucket)
        try:
            await load.start()
            async for raw in load.messages():
                yield raw
        finally:
            load.stop()

    async def explain_silence(self) -> None:
        """Say so if JetStream is not there at all.

        Raises:
            JetStreamError: it is not.
        """
        if self.connection.connected and not self.connection.info.get("jetstream"):
            await self.js.check_enabled(1.0)


class _Load:
    """Reads the latest of each key, each key once.

    A schedule that is replaced meanwhile moves to the end of the stream. So it is read until
    nothing is to come, that is until whoever writes was caught up with. The server's word for
    that can be early: it counts a message that was replaced as gone before it counts the one
    in its place. So the stream is asked whether there are later ones. Where somebody writes
    faster than can be read, there is an end to that as well.
    """

    def __init__(self, connection: Connection, bucket: Bucket) -> None:
        self._bucket = bucket
        self._queue: deque[Raw] = deque()
        self._news = asyncio.Event()
        self._consumer = Consumer(
            connection, bucket, self._on_message, self._on_broken, self._wants_more
        )
        self._keys: set[str] = set()
        self._end = self._position = self._beyond = 0
        self._nothing_to_come = self._done = False
        self._problem = ""

    async def start(self) -> None:
        self._end = (await self._bucket.state()).last_sequence
        self._nothing_to_come = await self._consumer.start(None) == 0

    def stop(self) -> None:
        self._consumer.stop()

    async def messages(self) -> AsyncIterator[Raw]:
        while True:
            while self._queue:
                yield self._queue.popleft()
            if self._nothing_to_come and not self._done:
                await self._check()
            elif self._done:
                return
            elif self._problem:
                raise NoServerError(
                    f"the schedules could not be read to the end ({self._problem}): try again"
                )
            else:
                await self._wait(HEARTBEAT)
                if self._consumer.is_silent:
                    self._problem = "the server fell silent"

    async def _check(self) -> None:
        """Find out whether there is really nothing to come."""
        last = (await self._bucket.state()).last_sequence
        if last in (self._end, self._position):
            self._done = True
        elif last > self._position:
            # It is on its way, unless it has been removed.
            self._nothing_to_come = False
            came = bool(self._queue) or await self._wait(GRACE)
            self._done = not came

    async def _wait(self, timeout: float) -> bool:
        """Wait for a message; False where none came in time."""
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
        if key not in self._keys and not is_hidden(key):
            self._keys.add(key)
            self._queue.append(Raw(key, revision, stored_us, headers))
        if revision > self._end:
            self._beyond += 1
        self._nothing_to_come = not pending
        self._done = self._beyond > len(self._keys) + CHASE
        self._news.set()
