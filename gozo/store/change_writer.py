"""Writes changes to the bucket, and decides by the server's answer how each goes on.

A change is written with the revision that its key is known to have. On a conflict, the key is
read again from the stream's leader; a token in each entry tells an earlier attempt of this
replica from a write by others.

If the stream has no room for a delete marker, the entry is purged instead, no further than its own
revision.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any

from gozo.errors import DisconnectedError
from gozo.protocol.deliveries import delivery
from gozo.runtime.clock import steady
from gozo.runtime.logs import get_logger
from gozo.schedule.model import MICROSECONDS, Reason
from gozo.store.bucket import Bucket
from gozo.store.change_queue import ChangeQueue, Events
from gozo.store.changes import (
    NO_DEADLINE,
    WRITES_NOTHING,
    Change,
    Put,
    Remove,
    Result,
    Write,
    nothing,
)
from gozo.store.delivery_hooks import DeliveryHooks
from gozo.store.fence import Fence
from gozo.store.handover import Handover
from gozo.store.index import BucketIndex
from gozo.store.marker_codec import marker_headers
from gozo.store.message_cache import MessageCache
from gozo.store.protection import Protection
from gozo.store.reconcile import Next, Reconciler, Verdict
from gozo.store.writer import Writer, WriteResult

SOON_US = 60 * MICROSECONDS
"""A message that was just stored stays in memory if it is due within this time: messages due in an
hour would leave no room for those due in a second."""

log = get_logger("gozo.store")

# Looking up a member of an enumeration takes as long as looking up a key in a large dictionary.
_STORED = WriteResult.STORED
_NEW, _REPLACED = Result.STORED, Result.REPLACED

_NOT_NOW = frozenset({WriteResult.UNAVAILABLE, WriteResult.NO_ROOM})
_NO_MARKER = frozenset({WriteResult.NO_ROOM, WriteResult.REFUSED})


class ChangeWriter:
    """Writes the changes of a queue."""

    def __init__(
        self,
        bucket: Bucket,
        index: BucketIndex,
        writer: Writer,
        cache: MessageCache,
        events: Events,
        hooks: DeliveryHooks,
        fence: Fence,
    ) -> None:
        self._bucket = bucket
        self._index = index
        self._timetable = index.timetable
        self._traits = index.traits
        self._lateness = index.lateness
        self._writer = writer
        self._cache = cache
        self._hooks = hooks
        self._fence = fence
        self._own = fence.own
        self._protection = Protection(index)
        self.queue = ChangeQueue(
            *(writer, index.timetable, self._protection, events, hooks),
            self._start,
            index.traits.runs,
        )
        self.handover = Handover(self.queue, index.timetable, fence)
        self._reconciler = Reconciler(bucket, index, cache, fence)
        self._tasks: set[asyncio.Task[None]] = set()
        index.on_entry.append(self._on_entry)
        index.lateness.awaited_by.append(self._is_awaited)

    def _start(self, change: Change) -> None:
        key = change.key
        revision = self._timetable.revision(key)
        protection = self._protection
        if self._fence.revision is not None and self._fence.protects(key, revision):
            self.queue.finish(change, Result.SUPERSEDED)
        elif isinstance(change, WRITES_NOTHING):
            self.queue.finish(change, Result.NOT_FOUND)
        elif (  # the first two save a call for nearly every request
            (protection.newer or protection.protected)
            and (barred := protection.barred(change)) is not None
        ):
            self.queue.finish(change, barred)
        elif change.revision and change.revision != revision:
            self.queue.finish(change, Result.SUPERSEDED)
        elif isinstance(change, Put) and change.alter is None:
            change.replaces = key in self._timetable
            self._write(change, revision)
        elif key not in self._timetable:
            self._look_up(change)
        elif not change.revision and self._is_out(key):
            if self._hooks.awaits_ack(key, revision):
                self.queue.delay(change)
            else:
                self.queue.finish(change, Result.ALREADY_DELIVERED)
        elif isinstance(change, Put):
            self._follow(change, self._reconciler.alter(change, revision), f"alter {key}")
        else:
            change.expected = revision
            change.life = self._index.marker_seconds
            lines = marker_headers(change.reason, change.life * self._bucket.marker_ttl)
            self._writer.write(key, lines, b"", revision, partial(self._on_remove, change))

    def _write(self, change: Put, revision: int) -> None:
        """Write an entry in place of this revision; 0: as a new, dated one."""
        sent: float | None = None
        if revision:
            lines = change.lines()
        else:
            change.sent = sent = steady()
            lines = change.lines(sent + self._lateness.server_ahead)
        done = partial(self._on_put, change)
        self._writer.write(change.key, lines, change.payload, revision, done, sent)

    def _is_out(self, key: str) -> bool:
        """Tell whether a schedule is being delivered, so that it is too late to change it."""
        if self._timetable.is_taken(key):
            self._hooks.withdraw(key)
        return self._timetable.is_taken(key)

    # Reading the stored version

    def _look_up(self, change: Write) -> None:
        self._follow(change, self._reconciler.look_up(change), f"reconcile {change.key}")

    def _follow(self, change: Write, reading: Coroutine[Any, Any, Verdict], name: str) -> None:
        """Go on with a change once it is known what its key holds."""
        task = asyncio.create_task(self._go_on(change, reading), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _go_on(self, change: Write, reading: Coroutine[Any, Any, Verdict]) -> None:
        verdict = await reading
        match verdict.next:
            case Next.FINISH:
                self.queue.finish(change, verdict.result, verdict.words)
            case Next.START:
                self.queue.again((change,))
            case Next.DELAY:
                self.queue.delay(change)
            case Next.POSTPONE:
                self.queue.postpone(change, verdict.words)
            case Next.WRITE:
                assert isinstance(change, Put)
                try:
                    self._write(change, verdict.revision)
                except DisconnectedError:
                    self.queue.postpone(change)
            case Next.NOTHING:
                pass

    # Answers

    def _on_put(self, change: Put, outcome: WriteResult, revision: int, words: str) -> None:
        if change.done:
            if change.dropped and outcome in (_STORED, WriteResult.UNKNOWN):
                self.handover.retract(change)
            return
        if outcome is _STORED:
            wake_us = change.entry.wake_us
            if self._timetable.put(change.key, wake_us, revision):
                self._traits.note_size(change.key, len(change.payload))
                self._traits.note(change.key, change.entry)
            self._stored(change, revision, wake_us)
        elif outcome is WriteResult.UNKNOWN:
            # It may be stored by now: from here on, only reading the key shows that.
            change.deadline = NO_DEADLINE
            change.unsure = True
            self._not_done(change, outcome, words)
        elif outcome in _NOT_NOW and steady() > change.deadline:
            self.queue.finish(change, Result.UNAVAILABLE, words)
        else:
            self._not_done(change, outcome, words)

    def _stored(self, change: Put, revision: int, wake_us: int) -> None:
        self._own[change.key] = revision
        if change.holder is not None:
            change.holder.revision = revision
        if self.queue.holds and change.origin is not None:
            self.handover.note(change, change.origin)
        is_soon = wake_us < self._timetable.horizon_us + SOON_US
        if is_soon and self._cache.takes_more:
            self._cache.offer(change.key, revision, delivery(change.entry, change.payload))
        else:
            self._cache.discard(change.key, revision)
        self.queue.finish(change, _REPLACED if change.replaces else _NEW)
        id_ = change.entry.id
        if id_ is not None and id_ != change.key:
            self._replace_odd_key(id_)
        self._hooks.wake()

    def _replace_odd_key(self, id_: str) -> None:
        """Remove the entry that the original gozo kept under an id that is not a valid key."""
        if id_ in self._index.odd_keys:
            self._index.odd_keys.discard(id_)
            if id_ in self._timetable:
                self.queue.submit(Remove(id_, 0, Reason.CANCELLED, nothing, by_request=True))

    def _on_remove(self, change: Remove, outcome: WriteResult, revision: int, words: str) -> None:
        if change.done:
            return
        if outcome is _STORED:
            until_us = self._index.server_us() + change.life * MICROSECONDS
            lasting = not self._bucket.marker_ttl
            if self._timetable.remove(
                change.key, revision, until_us, change.reason, lasting=lasting
            ):
                self._traits.note_size(change.key, 0)
                self._traits.note(change.key, None)
            self._own[change.key] = revision
            self._cache.discard(change.key, revision)
            done = Result.SETTLED if change.revision else Result.CANCELLED
            self.queue.finish(change, done)
        elif outcome in _NO_MARKER:
            if outcome is WriteResult.NO_ROOM:
                log.repeated("error", "store.full", key=change.key, reason=words)
            self._follow(change, self._reconciler.purge(change), f"purge {change.key}")
        else:
            self._not_done(change, outcome, words)

    def _not_done(self, change: Write, outcome: WriteResult, words: str) -> None:
        if outcome is WriteResult.REFUSED:
            log.limited("error", "store.refused", key=change.key, reason=words)
            self.queue.finish(change, Result.REFUSED, words)
        elif outcome is WriteResult.CONFLICT:
            self._look_up(change)
        elif outcome is WriteResult.NO_ROOM:
            log.repeated("error", "store.full", key=change.key, reason=words)
            self.queue.postpone(change, words)
        else:
            log.repeated("warning", "store.waiting", key=change.key, reason=words)
            self.queue.postpone(change, words)

    # Entries that the index reads

    def _on_entry(self, key: str, revision: int, token: bytes) -> None:
        """An entry was read; if it is ours, its acknowledgement is late or lost."""
        change = self.queue.active.get(key)
        if isinstance(change, Put) and change.owns(token):
            self._stored(change, revision, change.entry.wake_us)

    def _is_awaited(self, key: str, token: bytes) -> bool:
        """Tell whether this replica wrote an entry a moment ago, whatever the clock says."""
        change = self.queue.active.get(key)
        if not isinstance(change, Put) or not change.owns(token):
            return False
        return steady() - change.sent <= self._lateness.in_time
