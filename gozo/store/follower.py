"""Follows the bucket: every entry once, then every change, and never stalls.

The follower reads through a consumer, and makes a new one whenever something is not as it
should be: silence, an unexpected status, a gap in the sequence, a lost connection. After a
lost connection it loads everything anew and drops what is no longer there, since a purge and a
restored backup leave no other trace; for the same reason it now and then compares the number
of messages with the server's. Delete markers live for a limited time, so it loads everything anew
as well where half of that has passed since it was up to date: because the process stood still, or
nothing came, or more than it could read.

A consumer lives on any replica of the stream, and that one may be behind the stream's leader. So
the leader is asked where what was stored last did not come, or an older version than is known.

A server that is killed may bring entries back that were removed in its last minutes: it reads from
its disk that each was replaced by a delete marker only as long as the marker is there. What is
known to be over, and was stored before the load began, is not taken in again, but purged. If the
bucket has only ever had one copy, keys that a full load did not show are over as well.

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
from gozo.schedule.model import MICROSECONDS, NEVER
from gozo.store.bucket import Bucket, BucketState, open_bucket
from gozo.store.index import BucketIndex
from gozo.store.ordered_consumer import HEARTBEAT, Consumer
from gozo.transport.connection import Connection
from gozo.transport.jetstream import STREAM_NOT_FOUND

COMPARE = 30.0  # seconds between comparisons with the server's count
SOON = 2.0  # seconds until the next one where there is doubt
COMPARISONS = 10  # tries to find the bucket at the same sequence, while others write to it
COMPARE_AGAIN = 0.02  # seconds between them
DOUBT = 5.0  # seconds between loads because of single keys that the bucket does not hold
MANY = 10_000  # keys from which it counts how long a load of them took
AHEAD_US = MICROSECONDS  # by which the server's clock may differ from what is known of it
SWEEP = 60
"""Seconds that the server may be late in removing markers: thousands end at once after a burst."""
RETRY_WAIT = 0.25  # seconds
ANOTHER = "the bucket is another one, or was restored"  # why everything is loaded anew
LAGS = "the replica of the stream that it read from is behind"
PROGRESS = 0.5  # seconds in which more comes from a replica that only is catching up
DELETION = 1.0  # seconds that the server is given to remove the files of a stream it deletes

log = get_logger("gozo.follower")


class Follower:
    """Keeps an index the same as its bucket."""

    # It has more attributes than Python is quick with otherwise: see tests/unit/test_attributes.py.
    __slots__ = (
        *("_ahead_us", "_broken", "_bucket", "_buckets", "_clock", "_compare_at", "_confirming"),
        *("_connection", "_consumer", "_copies", "_created", "_current_at", "_doubted_at"),
        *("_doubts", "_end_of_load", "_full", "_key_us", "_known_until", "_latest_us"),
        *("_load_began_at", "_loads", "_loads_all", "_index", "_missed_markers", "_older"),
        *("_progress", "_reached", "_replicas", "_restored", "_stored_us", "_unseen", "behind"),
        *("loaded", "position", "turned_at"),
    )

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
        """Set once everything was seen that the bucket held when the load began."""
        self.position = 0
        """The last sequence seen."""
        self.behind = 0
        """How many messages of the bucket were still to come when it last heard of it."""
        self.turned_at = steady()
        """When it last looked after its consumer, on the steady clock."""
        self._current_at = self.turned_at
        """What was stored by then it has seen, or never will, on the steady clock."""
        self._missed_markers = ""
        """Why markers may be gone that it has not seen."""
        self._ahead_us = NEVER
        """What was stored later than this, the server's clock cannot show yet as it is known."""
        self._stored_us = self._latest_us = 0
        """When the last message seen was stored, by the server's clock, and the latest of all."""
        self._known_until = 0, 0
        """Sequence and time of storing of the last that was seen before the load began."""
        self._load_began_at = self.turned_at
        self._key_us = 0.0
        """Microseconds that each key took when everything was last loaded, where it was much."""
        self._compare_at = self.turned_at + COMPARE
        self._progress = asyncio.Event()
        self._broken = asyncio.Event()
        self._full = True
        """Whether everything is to be loaded anew."""
        self._loads_all = False
        """Whether that is being done."""
        self._created = ""
        self._doubts = self._loads = self._buckets = 0
        self._doubted_at = -DOUBT
        self._unseen: set[str] = set()
        """What was known when the load began, and has not come since."""
        self._end_of_load = self._reached = 0
        """Up to where it is to load, and the sequence that it came to there."""
        self._confirming: asyncio.Task[None] | None = None
        """Finds out whether everything was seen up to the end of the load."""
        self._older = ""
        """A key of which the load brought an older version than is known."""
        self._restored: bool | None = None
        """Whether that is what the bucket holds; None: that was not asked."""
        self._copies = 0  # servers that hold the bucket, at most so far
        self._consumer: Consumer | None = None
        connection.on_lost.append(self._on_lost)

    @property
    def is_following(self) -> bool:
        """Whether all was loaded, and the server was heard of in the last seconds."""
        consumer = self._consumer
        heard = consumer is not None and not consumer.is_silent
        return heard and self.loaded.is_set() and not self._full

    @property
    def created(self) -> str:
        """When the server says that the bucket was created: no other bucket says the same."""
        return self._created

    @property
    def clock_ahead_us(self) -> int:
        """How far this host's clock is ahead of the server's, as last compared."""
        return self._clock.ahead_us

    async def run(self) -> NoReturn:
        """Follow; runs until it is cancelled.

        Raises:
            NotAllowedError: before anything was loaded, a permission was found missing.
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
            self.turned_at = steady()
            while not self._broken.is_set():
                self._turn()
                if self._missed_markers and (self._loads_all or not self.behind):
                    self._load_for_markers()
                    break
                try:
                    async with asyncio.timeout(HEARTBEAT):
                        await self._broken.wait()
                except TimeoutError:
                    await self._look()
            self._stop_consumer()

    async def _look(self) -> None:
        """See to what shows in nothing that comes."""
        if self._consumer is None or self._consumer.is_silent:
            self._break("silence")
        elif self._consumer.stalls:
            await self._stalled(self._consumer)
            self.turned_at = steady()
        elif steady() > self._compare_at or self._clock.was_set:
            await self._compare()
            self.turned_at = steady()
            self._compare_at = self.turned_at + (SOON if self._doubts else COMPARE)

    def _turn(self) -> None:
        """Note how up to date it is, and whether markers may be gone that it has not seen."""
        now, life = steady(), self._index.life
        # While everything is loaded, what is read was stored long ago.
        away = now - (self.turned_at if self._loads_all else self._current_at)
        self.turned_at = now
        self._date()
        entries, markers = len(self._index.timetable), len(self._index.timetable.tombstones)
        self._index.marker_seconds = life.chosen(entries, markers, self._key_us)
        if away > life.shortest_in_use(entries, markers) / 2:
            self._missed_markers = f"it was not up to date for {away:.1f} s"
        elif away > life.shortest / 2:
            # Where most keys were purged meanwhile, markers live shorter than is known here.
            self._compare_at = min(self._compare_at, now + SOON)
        if self._consumer is not None and not self._consumer.is_silent and not self._full:
            lag_us = self._index.server_us() - self._stored_us if self.behind else 0
            seen_at = now - self._consumer.silence - max(lag_us, 0) / MICROSECONDS
            self._current_at = max(self._current_at, seen_at)

    def _date(self) -> None:
        """Have creates dated by the server's clock as it is known now."""
        server_us = self._index.server_us()
        self._index.lateness.server_ahead = server_us / MICROSECONDS - steady()
        self._ahead_us = server_us + AHEAD_US

    def _check_date(self, key: str, sequence: int, stored_us: int, headers: bytes | None) -> None:
        """Look at an entry that was stored later than can be, by the server's clock as known."""
        if stored_us > self._index.server_us() + AHEAD_US:
            # It was set, or another server leads the stream: creates are dated by it at once.
            lateness = self._index.lateness
            ahead = stored_us / MICROSECONDS - steady()
            lateness.server_ahead = max(lateness.server_ahead, ahead)
            self._compare_at = 0.0
            lateness.check(key, sequence, stored_us, headers)

    def _load_for_markers(self) -> None:
        reason, self._missed_markers = self._missed_markers, ""
        self.reload(reason)

    async def reached(self, sequence: int) -> bool:
        """Wait until everything up to a sequence was seen, by a complete load if need be.

        False if the bucket is another one by then: the sequence says nothing there.
        """
        buckets = self._buckets
        while self.position < sequence or not self.loaded.is_set():
            self._progress.clear()
            await self._progress.wait()
            if self._buckets != buckets:
                return False
        return True

    def reload(self, reason: str) -> None:
        """Load everything anew."""
        self._full = True
        self._break(reason)

    async def reloaded(self, reason: str) -> None:
        """Load everything anew, and wait until that is done."""
        loads = self._loads
        self.reload(reason)
        while self._loads == loads:
            self._progress.clear()
            await self._progress.wait()

    async def agreed(self) -> None:
        """Make sure that nothing is known which was purged: a purge leaves no mark to wait for.

        Where others write all the time the counts cannot be compared; then `doubt` will tell.
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
        """Take it that the bucket does not hold a key that is known: it was purged."""
        if time.monotonic() - self._doubted_at > DOUBT:
            self._doubted_at = time.monotonic()
            self.reload(f"the bucket does not hold the key {key}")

    async def _make_again(self, error: GozoError) -> None:
        """Create a bucket that was deleted: what it held is gone, new requests need one.

        Not at once. The server says that there is no such stream before it has removed the
        stream's files, and one that is made meanwhile begins with the old messages in it.
        """
        if isinstance(error, JetStreamError) and error.code == STREAM_NOT_FOUND:
            await asyncio.sleep(DELETION)
            try:
                await open_bucket(self._bucket.js, self._bucket.name, replicas=self._replicas)
            except GozoError as failure:
                log.repeated("error", "bucket.missing", reason=str(failure))

    # A consumer's life

    async def _start(self) -> None:
        """Make a consumer and ask for the first messages."""
        state = await self._bucket.state()
        self._clock.compared(state.server_us, state.error_us)
        self._date()
        if self._created and self._is_another(state, self.position):
            log.warning("follower.another_bucket", created=state.created)
            self._index.clear()
            self._full = True
            self.position = self._latest_us = 0
            self._buckets += 1
        self._created, self._copies = state.created, max(self._copies, state.copies)
        if self._missed_markers and not self._full:
            log.info("follower.reset", reason=self._missed_markers, position=self.position)
            self._full = True
        consumer = Consumer(self._connection, self._bucket, self._on_message, self._break)
        self._consumer = consumer
        self._doubts = 0
        timetable = self._index.timetable
        self._loads_all = self._full
        self._unseen.clear()
        if self._full:
            self._missed_markers = ""
            self._load_began_at = steady()
            timetable.forget_purged()
            self._unseen.update(timetable.keys(), timetable.tombstones)
        self._known_until = (self.position, self._latest_us) if self._full else (0, 0)
        self._end_of_load = state.last_sequence
        self._reached = 0 if self._full else self.position
        await self._look_at_older()
        pending = await consumer.start(None if self._full else self.position)
        self.behind = pending
        if not pending and not self._broken.is_set():
            self._caught_up()

    async def _stalled(self, consumer: Consumer) -> None:
        """Find out whether all was seen, where the server said that more is to come."""
        try:
            has_all = await consumer.has_all()
        except GozoError as error:
            log.repeated("info", "follower.waiting", reason=str(error))
            return
        if self._broken.is_set():
            return
        if has_all:
            self.behind = 0
            self._caught_up()
        else:
            self._break("announced messages did not arrive")

    async def _look_at_older(self) -> None:
        """Find out whether the bucket holds an older version of a key, as it seemed last time."""
        key, self._older, self._restored = self._older, "", None
        if key:
            message = await self._bucket.read(key)
            sequence = message.sequence if message else 0
            self._restored = sequence < self._index.timetable.revision(key)

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

    # Messages

    def _on_message(
        self, key: str, sequence: int, stored_us: int, headers: bytes | None, pending: int
    ) -> None:
        if self._broken.is_set():
            return
        last, last_us = self._known_until
        is_known = sequence <= last and stored_us <= last_us
        # Of several copies, a load may have been from one that lagged, and missed the entry.
        if is_known and self._index.is_over(key, headers, unseen=self._copies == 1):
            self._unseen.discard(key)
            self._index.take_revived(key, sequence, stored_us)
        elif self._unseen and key in self._unseen:
            self._unseen.remove(key)
            if sequence < self._index.timetable.revision(key) <= self._end_of_load:
                if self._restored is None:
                    self._older = key
                    self._break(f"an older version of the key {key} than is known")
                    return
                if self._restored:
                    # From an older copy: what was known is gone.
                    self._index.drop(key)
        self._index.take(key, sequence, stored_us, headers)
        if stored_us > self._ahead_us:
            self._check_date(key, sequence, stored_us, headers)
        self.position = max(self.position, sequence)
        self._reached = sequence
        self.behind = pending
        self._stored_us = stored_us
        self._latest_us = max(self._latest_us, stored_us)
        if not pending:
            self._caught_up()

    def _caught_up(self) -> None:
        if self._reached < self._end_of_load:
            if self._confirming is None:
                self._confirming = asyncio.create_task(self._confirm(), name="end of load")
            return
        self.position = max(self.position, self._end_of_load)
        if self._loads_all:
            self._loads_all = self._full = False
            revision = self._index.timetable.revision
            gone = [key for key in self._unseen if 0 < revision(key) <= self.position]
            self._unseen.clear()
            for key in gone:
                self._index.drop(key)
            if gone:
                log.info("follower.dropped", keys=len(gone))
            self._loads += 1
            self.loaded.set()
            self._end_load()
        elif self._missed_markers:
            self._load_for_markers()
            return  # what waits for this position waits for the load
        self._progress.set()

    async def _confirm(self) -> None:
        """Ask the stream's leader whether anything is left of what was not seen.

        What was stored last may be gone, or on its way, or the consumer's replica does not have it.
        """
        bucket, pattern = self._bucket, f"{self._bucket.prefix}>"
        while (reached := self._reached) < self._end_of_load:
            try:
                found = await bucket.js.next_message(bucket.stream, pattern, reached + 1)
            except GozoError as error:
                await asyncio.sleep(RETRY_WAIT)
                self._break(str(error))
                return
            if self._broken.is_set():
                return
            if found is None or found.sequence > self._end_of_load:
                self._reached = max(self._reached, self._end_of_load)
                self._caught_up()
                break
            await asyncio.sleep(PROGRESS)
            if self._reached == reached:
                self._break(LAGS)
                return
        self._confirming = None

    def _end_load(self) -> None:
        """See that markers written during the load cannot have gone before it came to them."""
        self._current_at = now = steady()
        took, life = now - self._load_began_at, self._index.life
        entries, markers = len(self._index.timetable), len(self._index.timetable.tombstones)
        self._key_us = took / (entries + markers) * 1e6 if entries + markers > MANY else 0.0
        self._index.marker_seconds = life.chosen(entries, markers, self._key_us)
        if took > life.shortest_in_use(entries, markers) / 2:
            # Another load would take as long: only if the counts differ.
            log.warning("follower.slow_load", seconds=took, keys=entries + markers)
            self._compare_at = now

    # Comparison with the server

    async def _compare(self) -> None:
        """Load anew if the server's count of messages is not ours, at the same sequence."""
        asked_at = self.position  # before the answer is looked at, more may have been seen
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
            # A write may have been acknowledged between the server's count and ours.
            self._doubts += 1
            if self._doubts > 1:
                self.reload(self._difference(state))
        else:
            self._doubts = 0

    async def compare_clock(self) -> None:
        """Compare this host's clock with the server's now.

        Raises:
            JetStreamError, NoServerError, NotAllowedError: as for `JetStream.call`.
        """
        state = await self._bucket.state()
        self._clock.compared(state.server_us, state.error_us)

    def _is_another(self, state: BucketState, asked_at: int) -> bool:
        """Tell whether a state, asked for at a position, is that of a bucket unlike ours."""
        return state.created != self._created or state.last_sequence < asked_at

    def _difference(self, state: BucketState) -> str:
        return f"the bucket holds {state.keys} keys, {self._index.keys} are known"

    def _agrees(self, state: BucketState) -> bool:
        """Tell whether the counts can be the same.

        The server may have removed markers near their end, and not yet those forgotten here.
        """
        now_us = self._index.server_us()
        timetable, keys = self._index.timetable, self._index.keys
        swept = timetable.count_ending(now_us + MICROSECONDS)
        unswept = timetable.count_forgotten(SWEEP, now_us)
        return keys - swept <= state.keys <= keys + unswept
