"""Follows the bucket: reads every entry once, then every change, and never stalls.

The follower reads through a consumer, and replaces it when anything is wrong: silence, an
unexpected status, a gap in the sequence, a lost connection. After a lost connection it reloads
everything and drops keys that are gone, since a purge or a restored backup leaves no other trace;
for the same reason it regularly compares its number of messages with the server's. Delete markers
live for a limited time, so it also reloads everything when it was not up to date for half of that
time: because the process was stopped, no messages came, or more came than it could read.

A consumer lives on any replica of the stream, which may lag behind the stream's leader. So the
follower asks the leader when the last message stored did not arrive, or when a version arrived
that is older than the known one.

Payloads are not fetched here (`headers_only`).
"""

from __future__ import annotations

import asyncio
import time
from typing import NoReturn

from gozo.errors import GozoError, JetStreamError, NotAllowedError
from gozo.runtime.clock import steady
from gozo.runtime.clock_watch import ClockWatch
from gozo.runtime.logs import get_logger
from gozo.schedule.model import MICROSECONDS
from gozo.store.bucket import Bucket, BucketState, open_bucket
from gozo.store.freshness import Freshness
from gozo.store.index import BucketIndex
from gozo.store.message_reader import MessageReader
from gozo.store.ordered_consumer import HEARTBEAT, Consumer
from gozo.transport.connection import Connection
from gozo.transport.jetstream import STREAM_NOT_FOUND

COMPARISONS = 10  # attempts to find the bucket at the same sequence while others write to it
COMPARE_AGAIN = 0.02  # seconds between them
DOUBT_INTERVAL = 5.0  # seconds between reloads because the bucket lacks a single key
SWEEP_LAG = 60
"""Seconds that the server may be late in removing markers: after a burst, thousands end at once."""
RETRY_WAIT = 0.25  # seconds
ANOTHER = "the bucket was replaced or restored"  # why everything is reloaded
LAGS = "the replica of the stream that was read lags behind"
PROGRESS = 0.5  # seconds within which a replica that is catching up sends more
DELETION = 1.0  # seconds for the server to remove the files of a deleted stream

log = get_logger("gozo.follower")


class Follower:
    """Keeps an index the same as its bucket."""

    def __init__(
        self,
        connection: Connection,
        bucket: Bucket,
        index: BucketIndex,
        replicas: int | None,
        clock: ClockWatch,
    ) -> None:
        self._connection = connection
        self._bucket = bucket
        self._index = index
        self._replicas = replicas
        self._clock = clock
        self.loaded = asyncio.Event()
        """Set once everything that the bucket held when the load began has been read."""
        self._progress = asyncio.Event()
        self._broken = asyncio.Event()
        """Set when a new consumer is needed."""
        self._freshness = Freshness(index)
        self._reader = MessageReader(
            bucket, index, self._freshness, self._broken, self._break, self._caught_up
        )
        self._full = True
        """Whether everything must be reloaded."""
        self._created = ""
        self._doubts = self._loads = self._buckets = 0
        self._doubted_at = -DOUBT_INTERVAL
        self._confirming: asyncio.Task[None] | None = None
        """Finds out whether everything up to the end of the load was read."""
        self._consumer: Consumer | None = None
        connection.on_lost.append(self._on_lost)

    @property
    def position(self) -> int:
        """The last sequence read."""
        return self._reader.position

    @property
    def behind(self) -> int:
        """How many messages of the bucket were unread, as last reported."""
        return self._reader.behind

    @property
    def turned_at(self) -> float:
        """When it last checked its consumer, on the steady clock."""
        return self._freshness.turned_at

    @property
    def is_following(self) -> bool:
        """Whether everything is loaded, and the server was heard from in the last seconds."""
        consumer = self._consumer
        heard = consumer is not None and not consumer.is_silent
        return heard and self.loaded.is_set() and not self._full

    @property
    def created(self) -> str:
        """When the bucket was created, by the server's clock: this identifies the bucket."""
        return self._created

    @property
    def clock_ahead_us(self) -> int:
        """How far this host's clock is ahead of the server's, as last compared."""
        return self._clock.ahead_us

    async def run(self) -> NoReturn:
        """Follow the bucket; runs until it is cancelled.

        Raises:
            NotAllowedError: a permission is missing, before anything was loaded.
        """
        while True:
            self._broken.clear()
            self._turn()
            try:
                await self._start()
            except NotAllowedError as error:
                if not self.loaded.is_set():
                    raise
                log.repeated("error", "follower.waiting", reason=str(error))
                await asyncio.sleep(RETRY_WAIT)
                continue
            except GozoError as error:
                log.repeated("warning", "follower.waiting", reason=str(error))
                await self._make_again(error)
                await asyncio.sleep(RETRY_WAIT)
                continue
            self._freshness.turned()
            while not self._broken.is_set():
                self._turn()
                if self._freshness.missed_markers and (self._reader.loads_all or not self.behind):
                    self._load_for_markers()
                    break
                try:
                    async with asyncio.timeout(HEARTBEAT):
                        await self._broken.wait()
                except TimeoutError:
                    await self._look()
            self._stop_consumer()

    async def _look(self) -> None:
        """Check for silence and stalls, and regularly compare counts."""
        if self._consumer is None or self._consumer.is_silent:
            self._break("silence")
        elif self._consumer.stalls:
            await self._stalled(self._consumer)
            self._freshness.turned()
        elif steady() > self._freshness.compare_at or self._clock.was_set:
            await self._compare()
            self._freshness.compared(in_doubt=bool(self._doubts))

    def _turn(self) -> None:
        """Note how up to date it is, and whether it may have missed markers."""
        reader, consumer = self._reader, self._consumer
        now = self._freshness.turn(loads_all=reader.loads_all)
        if consumer is not None and not consumer.is_silent and not self._full:
            lag_us = self._index.server_us() - reader.stored_us if reader.behind else 0
            self._freshness.saw_until(now - consumer.silence - max(lag_us, 0) / MICROSECONDS)

    def _load_for_markers(self) -> None:
        self.reload(self._freshness.take_missed())

    async def reached(self, sequence: int) -> bool:
        """Wait until everything up to a sequence was read, by a full load if necessary.

        False if the bucket was replaced meanwhile: the sequence means nothing there.
        """
        buckets = self._buckets
        while self.position < sequence or not self.loaded.is_set():
            self._progress.clear()
            await self._progress.wait()
            if self._buckets != buckets:
                return False
        return True

    def reload(self, reason: str) -> None:
        """Reload everything."""
        self._full = True
        self._break(reason)

    async def reloaded(self, reason: str) -> None:
        """Reload everything, and wait for the end of the load."""
        loads = self._loads
        self.reload(reason)
        while self._loads == loads:
            self._progress.clear()
            await self._progress.wait()

    async def agreed(self) -> None:
        """Make sure that no purged key is still known: a purge leaves no marker to wait for.

        The counts cannot be compared while others write all the time; then only `doubt` notices.
        """
        for _ in range(COMPARISONS):
            asked_at = self.position
            try:
                state = await self._bucket.state()
            except GozoError as error:
                log.repeated("info", "follower.waiting", reason=str(error))
            else:
                if self._is_another(state, asked_at):
                    await self.reloaded(ANOTHER)
                    return
                if state.last_sequence == self.position:
                    if not self._agrees(state):
                        await self.reloaded(self._difference(state))
                    return
            await asyncio.sleep(COMPARE_AGAIN)

    def doubt(self, key: str) -> None:
        """Reload everything because the bucket lacks a known key: it was purged."""
        if time.monotonic() - self._doubted_at > DOUBT_INTERVAL:
            self._doubted_at = time.monotonic()
            self.reload(f"the bucket does not hold the key {key}")

    async def _make_again(self, error: GozoError) -> None:
        """Create the bucket again after it was deleted: new requests need one.

        Only after a delay: the server reports that the stream does not exist before it has removed
        the stream's files, and a stream created meanwhile starts with the old messages.
        """
        if isinstance(error, JetStreamError) and error.code == STREAM_NOT_FOUND:
            await asyncio.sleep(DELETION)
            try:
                await open_bucket(self._bucket.js, self._bucket.name, replicas=self._replicas)
            except GozoError as failure:
                log.repeated("error", "bucket.missing", reason=str(failure))

    # The consumer

    async def _start(self) -> None:
        """Create a consumer and request the first messages."""
        state = await self._bucket.state()
        self._clock.compared(state.server_us, state.error_us)
        self._freshness.date()
        if self._created and self._is_another(state, self.position):
            log.warning("bucket.replaced", created=state.created)
            self._reader.forget()
            self._full = True
            self._buckets += 1
        self._created = state.created
        if self._freshness.missed_markers and not self._full:
            log.info(
                "follower.reset", reason=self._freshness.missed_markers, position=self.position
            )
            self._full = True
        consumer = Consumer(self._connection, self._bucket, self._reader.take, self._break)
        self._consumer = consumer
        self._doubts = 0
        if self._full:
            self._freshness.take_missed()
        self._reader.begin(state, full=self._full)
        await self._reader.look_at_older()
        self._reader.expect(await consumer.start(None if self._full else self.position))

    async def _stalled(self, consumer: Consumer) -> None:
        """Find out whether everything was read, although the server announced more."""
        try:
            has_all = await consumer.has_all()
        except GozoError as error:
            log.repeated("info", "follower.waiting", reason=str(error))
            return
        if self._broken.is_set():
            return
        if has_all:
            self._reader.expect(0)
        else:
            self._break("announced messages did not arrive")

    def _break(self, reason: str) -> None:
        if not self._broken.is_set():
            log.info("follower.reset", reason=reason, position=self.position)
            self._broken.set()

    def _on_lost(self) -> None:
        self.reload("the connection was lost")

    def _stop_consumer(self) -> None:
        if self._confirming is not None:
            self._confirming.cancel()
            self._confirming = None
        if self._consumer is not None:
            self._consumer.stop()
            self._consumer = None

    # Loads

    def _caught_up(self) -> None:
        """Go on at the end of the messages, although the one stored last may be missing."""
        reader = self._reader
        if reader.reached < reader.end_of_load:
            if self._confirming is None:
                self._confirming = asyncio.create_task(self._confirm(), name="end of load")
            return
        if reader.end():
            self._full = False
            self._loads += 1
            self.loaded.set()
            self._freshness.loaded(reader.load_began_at)
        elif self._freshness.missed_markers:
            self._load_for_markers()
            return  # waiters for this position wait for the load
        self._progress.set()

    async def _confirm(self) -> None:
        """Ask the stream's leader whether anything is unread.

        The last message stored may be removed, on its way, or missing on the consumer's replica.
        """
        bucket, pattern = self._bucket, f"{self._bucket.prefix}>"
        reader = self._reader
        while (reached := reader.reached) < reader.end_of_load:
            try:
                found = await bucket.js.next_message(bucket.stream, pattern, reached + 1)
            except GozoError as error:
                await asyncio.sleep(RETRY_WAIT)
                self._break(str(error))
                return
            if self._broken.is_set():
                return
            if found is None or found.sequence > reader.end_of_load:
                reader.end_at(reader.end_of_load)
                self._caught_up()
                break
            await asyncio.sleep(PROGRESS)
            if reader.reached == reached:
                self._break(LAGS)
                return
        self._confirming = None

    # Comparison with the server

    async def _compare(self) -> None:
        """Reload if the server's count of messages differs from ours at the same sequence."""
        asked_at = self.position  # more may be read before the answer is processed
        try:
            state = await self._bucket.state()
        except JetStreamError as error:
            self.reload(str(error))
            return
        except GozoError as error:
            log.repeated("info", "follower.waiting", reason=str(error))
            return
        self._clock.compared(state.server_us, state.error_us)
        if self._is_another(state, asked_at):
            self.reload(ANOTHER)
        elif state.last_sequence == self.position and not self._agrees(state):
            # A write may have been acknowledged between the two counts.
            self._doubts += 1
            if self._doubts > 1:
                self.reload(self._difference(state))
        else:
            self._doubts = 0

    async def compare_clock(self) -> None:
        """Compare this host's clock with the server's.

        Raises:
            JetStreamError, NoServerError, NotAllowedError: as for `JetStream.call`.
        """
        state = await self._bucket.state()
        self._clock.compared(state.server_us, state.error_us)

    def _is_another(self, state: BucketState, asked_at: int) -> bool:
        """Tell whether a state, requested at a position, is that of another bucket."""
        return state.created != self._created or state.last_sequence < asked_at

    def _difference(self, state: BucketState) -> str:
        return f"the bucket holds {state.keys} keys, {self._index.keys} are known"

    def _agrees(self, state: BucketState) -> bool:
        """Tell whether the counts agree.

        The server may have removed markers near their end, or may still keep some that this index
        has forgotten.
        """
        now_us = self._index.server_us()
        timetable, keys = self._index.timetable, self._index.keys
        swept = timetable.count_ending(now_us + MICROSECONDS)
        unswept = timetable.count_forgotten(SWEEP_LAG, now_us)
        return keys - swept <= state.keys <= keys + unswept
