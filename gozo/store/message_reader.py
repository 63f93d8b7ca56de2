"""Reads the messages that a consumer of the bucket brings, and knows how far it has read.

A killed server may bring back entries that were removed in its last minutes: it learns from its
disk that a delete marker replaced an entry only while the marker exists. An entry that is known to
be over, and was stored before the load began, is not taken in again, but purged. If the bucket has
only ever had one copy, keys that a full load did not show are over as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gozo.runtime.clock import steady
from gozo.runtime.logs import get_logger
from gozo.store.bucket import Bucket, BucketState
from gozo.store.freshness import Freshness
from gozo.store.index import BucketIndex

log = get_logger("gozo.follower")


class MessageReader:
    """Gives messages to the index, and drops what a full load did not show."""

    def __init__(
        self,
        bucket: Bucket,
        index: BucketIndex,
        freshness: Freshness,
        broken: asyncio.Event,
        reset: Callable[[str], None],
        on_caught_up: Callable[[], None],
    ) -> None:
        """Make one that has read nothing.

        `reset` sets `broken`: nothing is taken in then until there is another consumer.
        `on_caught_up` is called when nothing more is to come.
        """
        self._bucket = bucket
        self._index = index
        self._freshness = freshness
        self._broken = broken
        self._reset = reset
        self._on_caught_up = on_caught_up
        self.position = 0
        """The last sequence seen."""
        self.behind = 0
        """How many messages of the bucket were still to come when it last heard of it."""
        self.stored_us = self._latest_us = 0
        """When the last message seen was stored, by the server's clock, and the latest of all."""
        self._known_until = 0, 0
        """Sequence and time of storing of the last that was seen before the load began."""
        self.loads_all = False
        """Whether everything is being loaded anew."""
        self.load_began_at = steady()
        self.end_of_load = self.reached = 0
        """Up to where it is to load, and the sequence that it came to there."""
        self._unseen: set[str] = set()
        """What was known when the load began, and has not come since."""
        self._older = ""
        """A key of which the load brought an older version than is known."""
        self._restored: bool | None = None
        """Whether that is what the bucket holds; None: that was not asked."""
        self._copies = 0  # servers that hold the bucket, at most so far

    def forget(self) -> None:
        """Forget everything: the bucket is another one."""
        self._index.clear()
        self.position = self._latest_us = 0

    def begin(self, state: BucketState, *, full: bool) -> None:
        """Prepare for a new consumer, which is to bring everything if `full`."""
        self._copies = max(self._copies, state.copies)
        self.loads_all = full
        self._unseen.clear()
        if full:
            self.load_began_at = steady()
            timetable = self._index.timetable
            timetable.forget_purged()
            self._unseen.update(timetable.keys(), timetable.tombstones)
        self._known_until = (self.position, self._latest_us) if full else (0, 0)
        self.end_of_load = state.last_sequence
        self.reached = 0 if full else self.position

    async def look_at_older(self) -> None:
        """Find out whether the bucket holds an older version of a key, as it seemed last time."""
        key, self._older, self._restored = self._older, "", None
        if key:
            message = await self._bucket.read(key)
            sequence = message.sequence if message else 0
            self._restored = sequence < self._index.timetable.revision(key)

    def expect(self, pending: int) -> None:
        """Note how many messages are to come."""
        self.behind = pending
        if not pending and not self._broken.is_set():
            self._on_caught_up()

    def take(
        self, key: str, sequence: int, stored_us: int, headers: bytes | None, pending: int
    ) -> None:
        """Take in a message; `pending` is how many are to come after it."""
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
            if sequence < self._index.timetable.revision(key) <= self.end_of_load:
                if self._restored is None:
                    self._older = key
                    self._reset(f"an older version of the key {key} than is known")
                    return
                if self._restored:
                    # From an older copy: what was known is gone.
                    self._index.drop(key)
        self._index.take(key, sequence, stored_us, headers)
        if stored_us > self._freshness.ahead_us:
            self._freshness.check_date(key, sequence, stored_us, headers)
        self.position = max(self.position, sequence)
        self.reached = sequence
        self.behind = pending
        self.stored_us = stored_us
        self._latest_us = max(self._latest_us, stored_us)
        if not pending:
            self._on_caught_up()

    @property
    def is_at_end(self) -> bool:
        """Whether it has read up to the end of the load."""
        return self.reached >= self.end_of_load

    def end_at(self, sequence: int) -> None:
        """Note that nothing is stored between what was read and a sequence."""
        self.reached = max(self.reached, sequence)

    def end(self) -> bool:
        """End the load; returns whether everything was loaded anew, for the first time now."""
        self.position = max(self.position, self.end_of_load)
        if not self.loads_all:
            return False
        self.loads_all = False
        revision = self._index.timetable.revision
        gone = [key for key in self._unseen if 0 < revision(key) <= self.position]
        self._unseen.clear()
        for key in gone:
            self._index.drop(key)
        if gone:
            log.info("follower.dropped", keys=len(gone))
        return True
