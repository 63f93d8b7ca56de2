"""Reads a key from the stream's leader after a conflict, and decides how a change goes on."""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import NamedTuple

from gozo.errors import GozoError, RequestError
from gozo.runtime.clock import steady
from gozo.runtime.logs import get_logger
from gozo.schedule.model import MICROSECONDS, Entry, Reason
from gozo.store.bucket import Bucket
from gozo.store.changes import Put, Remove, Result, Write
from gozo.store.entry_codec import EntryError
from gozo.store.fence import Fence
from gozo.store.index import BucketIndex
from gozo.store.legacy_codec import parse_whole
from gozo.store.marker_codec import MARKER_SECONDS
from gozo.store.message_cache import MessageCache
from gozo.transport.jetstream import StoredMessage

MOST_READS = 20  # entries read at a time; the server closes connections that lag by 64 MB
MOST_PURGES = 100  # schedules purged at a time

log = get_logger("gozo.store")


class Next(Enum):
    """What to do with a change next."""

    NOTHING = auto()
    """The change is already done."""
    FINISH = auto()
    """End the change with the result."""
    WRITE = auto()
    """Write the altered entry in place of the revision."""
    START = auto()
    """Restart the change: the key has another revision than expected."""
    DELAY = auto()
    """Restart the change in a moment: another write to the key is in flight."""
    POSTPONE = auto()
    """Wait until the bucket can be read and written."""


class Verdict(NamedTuple):
    """How a change goes on."""

    next: Next
    result: Result = Result.NOT_FOUND
    words: str = ""
    """Why the change is finished or postponed, as the server or an error says."""
    revision: int = 0


class Reconciler:
    """Reads keys, and updates the index."""

    def __init__(
        self, bucket: Bucket, index: BucketIndex, cache: MessageCache, fence: Fence
    ) -> None:
        self._bucket = bucket
        self._index = index
        self._timetable = index.timetable
        self._cache = cache
        self._fence = fence
        self._reads = asyncio.Semaphore(MOST_READS)
        self._purges = asyncio.Semaphore(MOST_PURGES)

    async def look_up(self, change: Write) -> Verdict:
        """Read the key of a change, and decide how it goes on."""
        try:
            message = await self._bucket.read(change.key)
        except GozoError as error:
            return _postponed(error)
        return self._learn(change, message)

    async def alter(self, change: Put, revision: int) -> Verdict:
        """Read the stored version, and alter it."""
        try:
            async with self._reads:
                message = await self._bucket.read(change.key)
        except GozoError as error:
            verdict = _postponed(error)
            if steady() > change.deadline:
                return Verdict(Next.FINISH, Result.UNAVAILABLE, verdict.words)
            return verdict
        if change.done:
            return Verdict(Next.NOTHING)
        if message is None or message.sequence != revision:
            return self._learn(change, message)
        return self._make(change, message)

    async def purge(self, change: Remove) -> Verdict:
        """Remove an entry without leaving a marker, and make sure that it is gone."""
        async with self._purges:
            change.purged = True
            try:
                await self._bucket.purge(change.key, change.expected)
            except GozoError as error:
                return _postponed(error)
            return await self.look_up(change)

    def _make(self, change: Put, message: StoredMessage) -> Verdict:
        """Alter the stored version."""
        assert change.alter is not None
        try:
            entry, payload = _read(change.key, message)
            self._index.check(entry)
        except (EntryError, RequestError) as error:
            return Verdict(Next.FINISH, Result.INVALID, str(error))
        try:
            if change.look is not None:
                change.look(entry, payload)
            altered = change.alter(entry)
        except RequestError as error:
            return Verdict(Next.FINISH, Result.REFUSED, str(error))
        if altered is None:
            return Verdict(Next.FINISH, Result.UNCHANGED)
        change.become(altered, payload)
        return Verdict(Next.WRITE, revision=message.sequence)

    def _learn(self, change: Write, message: StoredMessage | None) -> Verdict:
        """Update the index with the message of the key, and decide how the change goes on."""
        key = change.key
        before = self._timetable.revision(key)
        if message is None:
            if before:
                self._index.drop(key)
            if isinstance(change, Remove) and change.purged and self._fence.revision is None:
                # Only a leader delivers and cancels, so this replica purged it.
                until_us = self._index.server_us() + MARKER_SECONDS * MICROSECONDS
                self._timetable.purge(key, change.expected, until_us, change.reason)
                self._cache.discard(key, change.expected)
        else:
            if message.sequence < self._timetable.revision(key) == before:
                self._index.drop(key)
            size = len(message.payload)
            self._index.take(key, message.sequence, message.stored_us, message.headers, size)
        if change.done:
            return Verdict(Next.NOTHING)
        removes = isinstance(change, Remove) or change.alter or change.revision
        if removes and key not in self._timetable:
            return Verdict(Next.FINISH, self._absent(change))
        if self._timetable.revision(key) == before:
            # The same revision as the one that was refused: another write is in flight.
            return Verdict(Next.DELAY)
        return Verdict(Next.START)

    def _absent(self, change: Write) -> Result:
        """Return the result of a change whose key holds no schedule."""
        if change.revision:
            return Result.SETTLED
        departure = self._timetable.departure(change.key)
        if departure is Reason.DELIVERED:
            return Result.ALREADY_DELIVERED
        tried = isinstance(change, Remove) and change.expected > 0
        if departure is Reason.CANCELLED and tried:
            return Result.CANCELLED
        return Result.NOT_FOUND


def _postponed(error: GozoError) -> Verdict:
    log.repeated("warning", "store.waiting", reason=str(error))
    return Verdict(Next.POSTPONE, words=str(error))


def _read(key: str, message: StoredMessage) -> tuple[Entry, bytes]:
    """Read a schedule and its payload.

    Raises:
        EntryError: the message is not a schedule.
    """
    entry, payload = parse_whole(key, message.headers, message.payload, message.stored_us)
    if not isinstance(entry, Entry):
        raise EntryError("it is a delete marker")
    return entry, payload
