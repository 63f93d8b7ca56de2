"""Every change that gozo makes to the bucket, in order for each key, until it is done.

A change waits until the one before it on the same key is settled, is written with the
revision that the key has by then, and is tried again for as long as the bucket cannot be
written. Where the expected revision proves wrong, the key is read again from the stream's
leader; a token in each entry tells an earlier attempt of one's own from another's write.

Where there is no room for a delete marker, the entry is purged instead, no further than its
own revision.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Protocol

from gozo.clock import steady
from gozo.entries import (
    MARKER_SECONDS,
    EntryError,
    marker_headers,
    parse_whole,
)
from gozo.errors import DisconnectedError, GozoError, RequestError
from gozo.jetstream import StoredMessage
from gozo.logs import get_logger
from gozo.protocol import delivery, escape_id
from gozo.schedule import MICROSECONDS, Entry, Reason, ScheduleRequest
from gozo.store.bucket import Bucket
from gozo.store.changes import (
    NO_DEADLINE,
    WRITES_NOTHING,
    Alter,
    Change,
    Look,
    Note,
    Occupied,
    OnResult,
    Put,
    Remove,
    Result,
    Write,
    nothing,
)
from gozo.store.mirror import Mirror
from gozo.store.payloads import Payloads
from gozo.store.writer import Outcome, Writer
from gozo.timetable import Item

WINDOW = 4_000  # writes in flight
ROOM = 2 * WINDOW  # changes taken on before callers are asked to wait
CONGESTED_WAIT = 0.01  # seconds
FIRST_WAIT, LONGEST_WAIT = 0.25, 2.0  # seconds before what failed is tried again
STUCK = 100_000  # changes that may wait for the bucket while others are still taken on
SOON_US = 60 * MICROSECONDS
"""How long before it is fetched a message is kept that was stored just now: those that are due
in an hour would leave no room for those that are due in a second."""
READS = 20  # entries read at a time, to be changed; the server cuts links that lag by 64 MB
PROBES = 1_000  # changes tried at a time while the bucket cannot be written
PURGES = 100  # schedules that are purged at the same time

log = get_logger("gozo.store")


class Teller(Protocol):
    """Who tells others what became of schedules."""

    def accepted(self, entry: Entry, *, replaced: bool) -> None:
        """One was stored."""

    def cancelled(self, key: str) -> None:
        """One was cancelled."""


# Looking a member up in its enumeration takes as long as looking a key up in a large dictionary.
_STORED = Outcome.STORED
_NEW, _REPLACED = Result.STORED, Result.REPLACED


class Ledger:
    """Takes changes on, and sees each through."""

    def __init__(self, bucket: Bucket, mirror: Mirror, writer: Writer, payloads: Payloads) -> None:
        self.frontier: int | None = None
        """Set on a replica that lost the lease: a key that has a later revision, not written
        here, is left alone, since the new leader's requests are newer than those still waiting."""
        self._bucket = bucket
        self._mirror = mirror
        self._timetable = mirror.timetable
        self._writer = writer
        self._payloads = payloads
        self._own: dict[str, int] = {}
        """The last revision of each key that was written here, until `forget_own`."""
        self._active: dict[str, Change] = {}
        self._behind: dict[str, deque[Change]] = {}
        self._ready: deque[Change] = deque()
        self._again: deque[Change] = deque()
        self.awaits_ack: Callable[[str, int], bool] = lambda key, revision: False
        """Whether a version of a key was sent, and a stream has still to acknowledge it."""
        self.withdraw: Callable[[str], None] = lambda key: None
        """Gives back what was taken for delivery, and was not sent yet."""
        self._count = 0
        self._full = False
        self._purging = asyncio.Semaphore(PURGES)
        self._wait = FIRST_WAIT
        self._timer: asyncio.TimerHandle | None = None
        self._pumping = False
        self._progress = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._reads = asyncio.Semaphore(READS)
        self._run = secrets.token_hex(5).encode()
        self._tokens = 0
        mirror.on_entry = self._on_entry
        self.events: Teller | None = None
        """Who is told what became of schedules with an id; None: nobody wants to know."""

    # What callers want

    def put(
        self,
        request: ScheduleRequest,
        on_result: OnResult,
        key: str | None = None,
        *,
        deadline: float = NO_DEADLINE,
    ) -> None:
        """Store a request under its id, or under a key given instead.

        Until the `deadline` (steady clock) it is tried again where the server cannot store it.
        """
        entry = request.entry
        if key is None:
            assert entry.id is not None
            key = escape_id(entry.id)
        self._submit(
            Put(
                key,
                self._token(),
                on_result,
                entry=entry,
                payload=request.payload,
                deadline=deadline,
            )
        )

    def look(self, id_: str, look: Look, on_result: OnResult) -> None:
        """Read what is stored under an id, once all changes of it before are done.

        The result is `unchanged`; or it is out for delivery, or not there.
        """
        self._submit(Put(self._key_of(id_), self._token(), on_result, alter=_leave, look=look))

    def cancel(self, id_: str, on_result: OnResult) -> None:
        """Remove whatever is stored under an id, unless it is out for delivery."""
        self._submit(Remove(self._key_of(id_), 0, Reason.CANCELLED, on_result))

    def alter(self, id_: str, change: Alter, on_result: OnResult) -> None:
        """Store another version of what is stored under an id, unless it is out for delivery."""
        self._submit(Put(self._key_of(id_), self._token(), on_result, alter=change))

    def rewrite(
        self, item: Item, change: Alter | None = None, on_result: OnResult | None = None
    ) -> None:
        """Store a version of a schedule once more, as gozo writes it, or with a change."""
        self._submit(
            Put(
                item.key,
                self._token(),
                on_result or nothing,
                alter=change or (lambda entry: entry),
                revision=item.revision,
            )
        )

    def after(self, id_: str, call: Callable[[], None]) -> None:
        """Call back once all changes for an id are done that were submitted before."""
        key = escape_id(id_)
        if key in self._active:
            self._submit(Note(key, lambda result, words: call()))
        else:
            call()

    def retry(self, item: Item, change: Alter, on_result: OnResult) -> None:
        """Note in the bucket that a version of a schedule was tried in vain.

        `UNAVAILABLE` at once where the bucket cannot be written: the next attempt must not wait
        for that.
        """
        self._submit(
            Put(
                item.key,
                self._token(),
                on_result,
                alter=change,
                revision=item.revision,
                deadline=0.0,
            )
        )

    # What the occurrences of a recurring schedule want

    def occupy(self, item: Item) -> None:
        """Keep changes of a schedule waiting from when an occurrence of it is to be sent.

        So what was sent is in the bucket before a change by others is made.
        """
        assert item.key not in self._active, "what is being changed is not popped"
        self._active[item.key] = Occupied(item.key, item.revision)
        self._timetable.hold(item.key)

    def is_wanted(self, key: str) -> bool:
        """Tell whether a change waits for a key that is occupied."""
        return key in self._behind

    def advance(self, key: str, entry: Entry, payload: bytes, on_result: OnResult) -> None:
        """Store what an occupied schedule has become; it stays occupied."""
        holder = self._active[key]
        assert isinstance(holder, Occupied)
        self._count += 1
        self._active[key] = put = Put(
            key,
            self._token(),
            on_result,
            entry=entry,
            payload=payload,
            revision=holder.revision,
            holder=holder,
        )
        self._ready.append(put)
        self._pump()

    def conclude(self, key: str, reason: Reason = Reason.DELIVERED) -> None:
        """Remove an occupied schedule whose last occurrence was sent, or left out."""
        holder = self._active[key]
        assert isinstance(holder, Occupied)
        self._count += 1
        self._active[key] = remove = Remove(key, holder.revision, reason, nothing)
        self._ready.append(remove)
        self._pump()

    def vacate(self, key: str) -> None:
        """End the occupation: others may go on."""
        holder = self._active[key]
        assert isinstance(holder, Occupied)
        self._finish(holder, Result.NOT_FOUND)

    def version(self, key: str) -> int:
        """The version of an occupied key that the next `advance` is to replace."""
        holder = self._active[key]
        assert not isinstance(holder, Note)
        return holder.revision

    def _key_of(self, id_: str) -> str:
        is_odd = id_ in self._mirror.odd_keys and id_ in self._timetable
        return id_ if is_odd else escape_id(id_)

    def _token(self) -> bytes:
        self._tokens += 1
        return b"%b-%x" % (self._run, self._tokens)

    def _replace_odd_key(self, id_: str) -> None:
        """Remove the entry that the original gozo kept under an id that is no key."""
        if id_ in self._mirror.odd_keys:
            self._mirror.odd_keys.discard(id_)
            if id_ in self._timetable:
                self._submit(Remove(id_, 0, Reason.CANCELLED, nothing))

    def settle(
        self, item: Item, reason: Reason = Reason.DELIVERED, on_result: OnResult | None = None
    ) -> None:
        """Remove this version of a schedule; a later one stays."""
        self._submit(Remove(item.key, item.revision, reason, on_result or nothing))

    def forget_own(self) -> int:
        """Forget which revisions were written here, and return the last of them, or 0."""
        last = max(self._own.values(), default=0)
        self._own.clear()
        return last

    @property
    def kept(self) -> int:
        """How many schedules the bucket holds, invalid ones included, as far as is known."""
        return len(self._timetable)

    def keeps(self, id_: str) -> bool:
        """Tell whether the bucket holds a schedule with this id, as far as is known."""
        return self._key_of(id_) in self._timetable

    @property
    def outstanding(self) -> int:
        """How many changes are not done."""
        return self._count

    @property
    def unstored(self) -> int:
        """How many schedules are not stored yet; reads all changes."""
        behind = (change for changes in self._behind.values() for change in changes)
        return sum(
            isinstance(change, Put) and change.holder is None and change.alter is None
            for change in (*self._active.values(), *behind)
        )

    @property
    def has_room(self) -> bool:
        """Whether more changes should be submitted now."""
        waiting = len(self._again)
        return self._count - waiting < ROOM and waiting < STUCK

    async def progress(self) -> None:
        """Wait until some change is done."""
        self._progress.clear()
        await self._progress.wait()

    # The way of a change

    def _submit(self, change: Change) -> None:
        self._count += 1
        key = change.key
        if key in self._active:
            self._behind.setdefault(key, deque()).append(change)
            self.withdraw(key)
            return
        self._active[key] = change
        self._timetable.hold(key)
        self._ready.append(change)
        self._pump()

    def _pump(self) -> None:
        if self._pumping:
            return
        self._pumping = True
        try:
            ready = self._ready
            while ready and self._writer.in_flight < WINDOW:
                if self._writer.is_congested:
                    # On a slow link, what waits in a buffer only delays the lease and the PINGs.
                    asyncio.get_running_loop().call_later(CONGESTED_WAIT, self._pump)
                    break
                change = ready.popleft()
                if not change.done:
                    try:
                        self._start(change)
                    except DisconnectedError:
                        self._later(change)
        finally:
            self._pumping = False

    def _start(self, change: Change) -> None:
        key = change.key
        revision = self._timetable.revision(key)
        if self.frontier is not None and self._is_others(key, revision):
            self._finish(change, Result.SUPERSEDED)
        elif isinstance(change, WRITES_NOTHING):
            self._finish(change, Result.NOT_FOUND)
        elif key in self._mirror.newer:
            self._finish(change, Result.NEWER_FORMAT)
        elif change.revision and change.revision != revision:
            self._finish(change, Result.SUPERSEDED)
        elif isinstance(change, Put) and change.alter is None:
            change.replaces = key in self._timetable
            done = partial(self._on_put, change)
            self._writer.write(key, change.lines, change.payload, revision, done)
        elif key not in self._timetable:
            self._look_up(change)
        elif not change.revision and self._is_out(key):
            if self.awaits_ack(key, revision):
                self._later(change)
            else:
                self._finish(change, Result.ALREADY_DELIVERED)
        elif isinstance(change, Put):
            self._background(self._alter(change, revision), f"alter {key}")
        else:
            change.expected = revision
            lines = marker_headers(change.reason, ttl=self._bucket.marker_ttl)
            self._writer.write(key, lines, b"", revision, partial(self._on_remove, change))

    def _is_out(self, key: str) -> bool:
        """Tell whether a schedule is out for delivery, and it is too late to change it."""
        if self._timetable.is_taken(key):
            self.withdraw(key)
        return self._timetable.is_taken(key)

    def _is_others(self, key: str, revision: int) -> bool:
        """Tell whether another leader may have written this revision."""
        assert self.frontier is not None
        return revision > self.frontier and self._own.get(key) != revision

    async def _alter(self, change: Put, revision: int) -> None:
        """Read the version that is there, and write the one that is made from it."""
        try:
            async with self._reads:
                message = await self._bucket.read(change.key)
        except GozoError as error:
            log.repeated("warning", "store.waiting", reason=str(error))
            if steady() > change.deadline:
                self._finish(change, Result.UNAVAILABLE, str(error))
            else:
                self._later(change)
            return
        if change.done:
            return
        if message is None or message.sequence != revision:
            self._learn(change, message)
            return
        result, words = self._make(change, message)
        if result is not None:
            self._finish(change, result, words)
            return
        try:
            done = partial(self._on_put, change)
            self._writer.write(change.key, change.lines, change.payload, revision, done)
        except DisconnectedError:
            self._later(change)

    def _make(self, change: Put, message: StoredMessage) -> tuple[Result | None, str]:
        """Make what is to be stored from what is there; a result where nothing is."""
        assert change.alter is not None
        try:
            entry, payload = _read(change.key, message)
            self._mirror.check(entry)
        except (EntryError, RequestError) as error:
            return Result.INVALID, str(error)
        try:
            if change.look is not None:
                change.look(entry, payload)
            altered = change.alter(entry)
        except RequestError as error:
            return Result.REFUSED, str(error)
        if altered is None:
            return Result.UNCHANGED, ""
        change.become(altered, payload)
        return None, ""

    def _on_put(self, change: Put, outcome: Outcome, revision: int, words: str) -> None:
        if change.done:
            return
        if outcome is _STORED:
            self._full = False
            if self._timetable.put(change.key, change.entry.wake_us, revision):
                self._mirror.note_size(change.key, len(change.payload))
                self._mirror.note(change.key, change.entry)
            self._stored(change, revision)
        elif outcome is Outcome.UNKNOWN:
            # It may be stored by now: from here on only the key itself tells.
            change.deadline = NO_DEADLINE
            self._not_done(change, outcome, words)
        elif outcome in _NOT_NOW and steady() + self._wait > change.deadline:
            self._finish(change, Result.UNAVAILABLE, words)
        else:
            self._not_done(change, outcome, words)

    def _stored(self, change: Put, revision: int) -> None:
        self._own[change.key] = revision
        if change.holder is not None:
            change.holder.revision = revision
        is_soon = change.entry.wake_us < self._timetable.horizon_us + SOON_US
        if is_soon and self._payloads.takes_more:
            self._payloads.offer(change.key, revision, delivery(change.entry, change.payload))
        else:
            self._payloads.discard(change.key, revision)
        self._finish(change, _REPLACED if change.replaces else _NEW)
        if change.entry.id is not None and change.entry.id != change.key:
            self._replace_odd_key(change.entry.id)
        self._mirror.on_change()

    def _on_entry(self, key: str, revision: int, token: bytes) -> None:
        """An entry was seen; if it is ours, its acknowledgement is late or lost."""
        change = self._active.get(key)
        if isinstance(change, Put) and change.token == token:
            self._stored(change, revision)

    def _on_remove(self, change: Remove, outcome: Outcome, revision: int, words: str) -> None:
        if change.done:
            return
        if outcome is _STORED:
            until_us = self._mirror.server_us() + MARKER_SECONDS * MICROSECONDS
            lasting = not self._bucket.marker_ttl
            if self._timetable.remove(
                change.key, revision, until_us, change.reason, lasting=lasting
            ):
                self._mirror.note_size(change.key, 0)
                self._mirror.note(change.key, None)
            self._own[change.key] = revision
            self._payloads.discard(change.key, revision)
            done = Result.SETTLED if change.revision else Result.CANCELLED
            self._finish(change, done)
        elif outcome is Outcome.NO_ROOM:
            self._tell_full(change.key, words)
            self._background(self._purge(change), f"purge {change.key}")
        else:
            self._not_done(change, outcome, words)

    async def _purge(self, change: Remove) -> None:
        """Remove an entry without a trace, and see that it is gone."""
        async with self._purging:
            change.purged = True
            try:
                await self._bucket.purge(change.key, change.expected)
            except GozoError as error:
                log.repeated("warning", "store.waiting", reason=str(error))
                self._later(change)
                return
            await self._reconcile(change)

    def _tell_full(self, key: str, words: str) -> None:
        self._full = True
        log.repeated("error", "store.full", key=key, reason=words)

    def _not_done(self, change: Write, outcome: Outcome, words: str) -> None:
        if outcome is Outcome.REFUSED:
            log.limited("error", "store.refused", key=change.key, reason=words)
            self._finish(change, Result.REFUSED, words)
        elif outcome is Outcome.CONFLICT:
            self._look_up(change)
        elif outcome is Outcome.NO_ROOM:
            self._tell_full(change.key, words)
            self._later(change)
        else:
            log.repeated("warning", "store.waiting", key=change.key, reason=words)
            self._later(change)

    def _finish(self, change: Change, result: Result, words: str = "") -> None:
        change.done = True
        self._count -= not isinstance(change, Occupied)
        if (self._again or self._wait > FIRST_WAIT) and result in _WRITTEN and not self._full:
            self._wait = FIRST_WAIT
            if self._again:
                self._try_soon(0.0)
        key = change.key
        behind = self._behind.get(key)
        if isinstance(change, Put) and change.holder is not None:
            self._active[key] = change.holder
        elif behind:
            self._active[key] = behind.popleft()
            self._ready.append(self._active[key])
            if not behind:
                del self._behind[key]
        else:
            del self._active[key]
            if self._timetable.release(key):
                self._mirror.on_change()  # it may have become due meanwhile
        self._progress.set()
        if self.events is not None:
            self._tell(self.events, change, result)
        change.on_result(result, words)
        if self._ready:
            self._pump()

    def _tell(self, events: Teller, change: Change, result: Result) -> None:
        if isinstance(change, Remove):
            if result is Result.CANCELLED and change.on_result is not nothing:
                events.cancelled(change.key)
        elif (
            isinstance(change, Put)
            and result in (Result.STORED, Result.REPLACED)
            and not change.revision  # else it is gozo's own account of a version
            and change.entry.id is not None
        ):
            replaced = result is Result.REPLACED or change.alter is not None
            events.accepted(change.entry, replaced=replaced)

    # What goes wrong

    def _later(self, change: Change) -> None:
        self._again.append(change)
        if self._timer is None:
            self._try_soon(self._wait)
            self._wait = min(2 * self._wait, LONGEST_WAIT)
        # Others may be taken on meanwhile, a cancel that makes room among them.
        self._progress.set()

    def _try_soon(self, wait: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(wait, self._try_again)

    def _try_again(self) -> None:
        self._timer = None
        for _ in range(min(PROBES, len(self._again))):
            self._ready.append(self._again.popleft())
        if self._again:
            self._try_soon(self._wait)
        self._pump()

    def _look_up(self, change: Write) -> None:
        self._background(self._reconcile(change), f"reconcile {change.key}")

    def _background(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _reconcile(self, change: Write) -> None:
        """Learn from the stream's leader what a key holds, and go on from there."""
        try:
            message = await self._bucket.read(change.key)
        except GozoError as error:
            log.repeated("warning", "store.waiting", reason=str(error))
            self._later(change)
            return
        self._learn(change, message)

    def _learn(self, change: Write, message: StoredMessage | None) -> None:
        key = change.key
        before = self._timetable.revision(key)
        if message is None:
            if before:
                self._mirror.drop(key)
            if isinstance(change, Remove) and change.purged and self.frontier is None:
                # Only a leader delivers and cancels, so it was purged from here.
                until_us = self._mirror.server_us() + MARKER_SECONDS * MICROSECONDS
                self._timetable.purge(key, change.expected, until_us, change.reason)
                self._payloads.discard(key, change.expected)
        else:
            if message.sequence < self._timetable.revision(key) == before:
                self._mirror.drop(key)
            size = len(message.payload)
            self._mirror.take(key, message.sequence, message.stored_us, message.headers, size)
        if change.done:
            return
        removes = isinstance(change, Remove) or change.alter or change.revision
        if removes and key not in self._timetable:
            self._finish(change, self._absent(change))
        elif self._timetable.revision(key) == before:
            # The same revision as the one that was refused: another write is in flight.
            self._later(change)
        else:
            self._ready.append(change)
            self._pump()

    def _absent(self, change: Write) -> Result:
        """What to answer about a key that holds no schedule."""
        if change.revision:
            return Result.SETTLED
        tombstone = self._timetable.tombstone(change.key)
        if tombstone is None:
            return Result.NOT_FOUND
        if tombstone.reason is Reason.DELIVERED:
            return Result.ALREADY_DELIVERED
        tried = isinstance(change, Remove) and change.expected > 0
        if tombstone.reason is Reason.CANCELLED and tried:
            return Result.CANCELLED
        return Result.NOT_FOUND


_NOT_NOW = frozenset({Outcome.UNAVAILABLE, Outcome.NO_ROOM})
_WRITTEN = frozenset({Result.STORED, Result.REPLACED, Result.SETTLED, Result.CANCELLED})


def _read(key: str, message: StoredMessage) -> tuple[Entry, bytes]:
    """Read a schedule and its payload.

    Raises:
        EntryError: it is none.
    """
    entry, payload = parse_whole(key, message.headers, message.payload, message.stored_us)
    if not isinstance(entry, Entry):
        raise EntryError("it is a delete marker")
    return entry, payload


def _leave(entry: Entry) -> None:
    """Change nothing."""
