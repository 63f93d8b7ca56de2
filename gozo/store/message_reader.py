"""Reads the messages from a consumer of the bucket, and tracks how far it has read.

A killed server may bring back entries that were removed in its last minutes: on its disk, only the
delete marker shows that it replaced an entry. An entry that is known to be removed, and was stored
before the load began, is purged instead of being taken in again. If the bucket has only ever had
one copy, keys that a full load did not find count as removed as well.
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
    """Passes messages to the index, and drops keys that a full load did not find."""

    def __init__(
        self,
        bucket: Bucket,
        index: BucketIndex,
        freshness: Freshness,
        broken: asyncio.Event,
        reset: Callable[[str], None],
        on_caught_up: Callable[[], None],
    ) -> None:
        """Create a reader that has read nothing.

        `reset` sets `broken`: messages are then ignored until a new consumer starts.
        `on_caught_up` is called at the end of the messages.
        """
        self._bucket = bucket
        self._index = index
        self._freshness = freshness
        self._broken = broken
        self._reset = reset
        self._on_caught_up = on_caught_up
        self.position = 0
        """The last sequence read."""
        self.behind = 0
        """How many messages of the bucket were unread, as last reported."""
        self.stored_us = self._latest_us = 0
        """When the last message read was stored, by the server's clock; the latest such time."""
        self._known_until = 0, 0
        """Sequence and time of storing of the last message read before the load began."""
        self.loads_all = False
        """Whether this is a full load."""
        self.load_began_at = steady()
        self.end_of_load = self.reached = 0
        """The sequence at which the load ends; the sequence read when it ended."""
        self._unseen: set[str] = set()
        """Keys known when the load began that it has not brought yet."""
        self._older = ""
        """A key of which the load brought an older version than the known one."""
        self._restored: bool | None = None
        """Whether the bucket holds that older version; None: not asked yet."""
        self._copies = 0  # the most servers that have held the bucket

    def forget(self) -> None:
        """Forget everything: the bucket was replaced."""
        self._index.clear()
        self.position = self._latest_us = 0

    def begin(self, state: BucketState, *, full: bool) -> None:
        """Prepare for a new consumer, which brings everything if `full`."""
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
        """Ask whether the bucket really holds the older version that the last load showed."""
        key, self._older, self._restored = self._older, "", None
        if key:
            message = await self._bucket.read(key)
            sequence = message.sequence if message else 0
            self._restored = sequence < self._index.timetable.revision(key)

    def expect(self, pending: int) -> None:
        """Note how many messages are unread."""
        self.behind = pending
        if not pending and not self._broken.is_set():
            self._on_caught_up()

    def take(
        self, key: str, sequence: int, stored_us: int, headers: bytes | None, pending: int
    ) -> None:
        """Take in a message; `pending` is the number of messages after it."""
        if self._broken.is_set():
            return
        last, last_us = self._known_until
        is_known = sequence <= last and stored_us <= last_us
        # With several copies, a load may have read one that lagged, and missed the entry.
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
                    # From an older copy: the known version is gone.
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

    def end_at(self, sequence: int) -> None:
        """Note that no message is stored between the last one read and a sequence."""
        self.reached = max(self.reached, sequence)

    def end(self) -> bool:
        """End the load; return whether this completed a full load."""
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
