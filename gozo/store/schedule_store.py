"""Every change that gozo makes to the bucket, in order for each key, until it is done.

A change waits until the one before it on the same key is settled, is written with the
revision that the key has by then, and is tried again for as long as the bucket cannot be
written, but gives way to a cancel, and to another schedule in its place. Where the expected
revision proves wrong, the key is read again from the stream's leader; a token in each entry
tells an earlier attempt of one's own from another's write.

Where the stream takes no delete marker, the entry is purged instead, no further than its own
revision.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Collection, Coroutine, Sequence
from functools import partial
from itertools import chain
from typing import Any, Protocol

from gozo.errors import DisconnectedError, GozoError, RequestError
from gozo.protocol.deliveries import delivery
from gozo.protocol.heard import Heard
from gozo.protocol.ids import RESERVED, escape_id
from gozo.runtime.clock import steady
from gozo.runtime.logs import get_logger
from gozo.schedule.model import MICROSECONDS, Entry, Reason, ScheduleRequest
from gozo.schedule.timetable import Item
from gozo.store.behind import Behind
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
    gives_way,
    nothing,
)
from gozo.store.entry_codec import (
    MARKER_SECONDS,
    EntryError,
    marker_headers,
    parse_whole,
)
from gozo.store.index import BucketIndex
from gozo.store.message_cache import MessageCache
from gozo.store.waiting import FIRST_WAIT, LONGEST_WAIT, Waiting
from gozo.store.writer import Writer, WriteResult
from gozo.transport.jetstream import StoredMessage

WINDOW = 4_000  # writes in flight
ROOM = 2 * WINDOW  # changes taken on before callers are asked to wait
CONGESTED_WAIT = 0.01  # seconds
STUCK = 100_000  # changes that may wait for the bucket while others are still taken on
SOON_US = 60 * MICROSECONDS
"""How long before it is fetched a message is kept that was stored just now: those that are due
in an hour would leave no room for those that are due in a second."""
SLICE = 200  # changes begun before others get a turn
READS = 20  # entries read at a time, to be changed; the server cuts links that lag by 64 MB
PURGES = 100  # schedules that are purged at the same time

log = get_logger("gozo.store")


class Events(Protocol):
    """Publishes what became of schedules with an id."""

    @property
    def enabled(self) -> bool:
        """Whether anything is published: asked before each call."""

    def accepted(self, entry: Entry, *, replaced: bool) -> None:
        """One was stored."""

    def cancelled(self, key: str) -> None:
        """One was cancelled."""


# Looking a member up in its enumeration takes as long as looking a key up in a large dictionary.
_STORED = WriteResult.STORED
_NEW, _REPLACED = Result.STORED, Result.REPLACED


class ScheduleStore:
    """Takes changes on, and sees each through."""

    # It has more attributes than Python is quick with otherwise: see tests/unit/test_attributes.py.
    __slots__ = (
        *("_active", "_behind", "_bucket", "_count", "_delayed", "_found", "_holds", "_lateness"),
        *("_index", "_overtaken", "_own", "_cache", "_progress", "_pumping", "_pumps_soon"),
        *("_purging", "_reads", "_ready", "_retracted", "_run", "_tasks", "_timer", "_timer_at"),
        *("_timetable", "_tokens", "_waiting", "_writer", "awaits_ack", "_events", "fence"),
        *("max_message", "withdraw"),
    )

    def __init__(
        self,
        bucket: Bucket,
        index: BucketIndex,
        writer: Writer,
        cache: MessageCache,
        events: Events,
    ) -> None:
        self.fence: int | None = None
        """Set on a replica that lost the lease: a key that has a later revision, not written
        here, is left alone, since the new leader's requests are newer than those still waiting."""
        self._bucket = bucket
        self.max_message = bucket.max_message
        """Bytes that the bucket takes of one schedule, where that is less than the server does."""
        self._index = index
        self._timetable = index.timetable
        self._lateness = index.lateness
        self._writer = writer
        self._cache = cache
        self._events = events
        self._own: dict[str, int] = {}
        """The last revision of each key that was written here, until `forget_own`."""
        self._active: dict[str, Change] = {}
        self._behind = Behind()
        self._ready: deque[Change] = deque()
        self._waiting = Waiting()
        self._delayed = 0
        """Changes that wait, each by itself, for others to be done with its key."""
        self._holds = False
        """Whether what requests asked for waits: it is not known what another leader has of it."""
        self._found: list[tuple[Put, Heard]] = []
        """What was found to be stored meanwhile, under keys that only this replica knows."""
        self._retracted: set[str] = set()
        """Keys that only this replica knows, under which nothing may stay."""
        self._overtaken: dict[Change, Put] = {}
        """By a change that is made first, the one that it leaves nothing of."""
        self.awaits_ack: Callable[[str, int], bool] = lambda key, revision: False
        """Whether a version of a key was sent, and a stream has still to acknowledge it."""
        self.withdraw: Callable[[str], None] = lambda key: None
        """Gives back what was taken for delivery, and was not sent yet."""
        self._count = 0
        self._purging = asyncio.Semaphore(PURGES)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._pumping = self._pumps_soon = False
        self._progress = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._reads = asyncio.Semaphore(READS)
        self._run = secrets.token_hex(5).encode()
        self._tokens = 0
        index.on_entry = self._on_entry
        self._lateness.is_awaited = self._is_awaited
        self._lateness.on_misdated = self._redate

    # What callers want

    def put(
        self,
        request: ScheduleRequest,
        on_result: OnResult,
        key: str | None = None,
        *,
        deadline: float = NO_DEADLINE,
        origin: Heard | None = None,
    ) -> None:
        """Store a request under its id, or under a key given instead.

        Until the `deadline` (steady clock) it is tried again where the server cannot store it.
        """
        entry = request.entry
        if key is None:
            id_ = entry.id
            assert id_ is not None
            key = escape_id(id_)
        self._submit(
            Put(
                key,
                self._token(),
                on_result,
                entry=entry,
                payload=request.payload,
                deadline=deadline,
                by_request=True,
                origin=origin,
            )
        )

    def look(
        self, id_: str, look: Look, on_result: OnResult, *, origin: Heard | None = None
    ) -> None:
        """Read what is stored under an id, once all changes of it before are done.

        The result is `unchanged`; or it is out for delivery, or not there.
        """
        key, token = self._key_of(id_), self._token()
        self._submit(Put(key, token, on_result, alter=_leave, look=look, origin=origin))

    def cancel(
        self,
        id_: str,
        on_result: OnResult,
        *,
        by_request: bool = False,
        origin: Heard | None = None,
    ) -> None:
        """Remove whatever is stored under an id, unless it is out for delivery.

        A request does not remove what is protected.
        """
        key, reason = self._key_of(id_), Reason.CANCELLED
        self._submit(Remove(key, 0, reason, on_result, by_request=by_request, origin=origin))

    def alter(
        self, id_: str, change: Alter, on_result: OnResult, *, origin: Heard | None = None
    ) -> None:
        """Store another version of what is stored under an id, unless it is out for delivery."""
        key, token = self._key_of(id_), self._token()
        self._submit(Put(key, token, on_result, alter=change, origin=origin))

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
        return key in self._behind.queues

    def advance(
        self,
        key: str,
        entry: Entry,
        payload: bytes,
        on_result: OnResult,
        may_yield: Callable[[], bool],
    ) -> None:
        """Store what an occupied schedule has become; it stays occupied.

        While the bucket does not take it, a cancel goes first if `may_yield` says so: the result
        is `superseded`.
        """
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
            may_yield=may_yield,
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

    def set_aside(self, key: str, words: str) -> None:
        """Stop serving an occupied schedule: the bucket will never store its new state."""
        self._index.refused(key, self.version(key), words)

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
        is_odd = id_ in self._index.odd_keys and id_ in self._timetable
        return id_ if is_odd else escape_id(id_)

    def _token(self) -> bytes:
        self._tokens += 1
        return b"%b-%x" % (self._run, self._tokens)  # by its hyphen `is_of_daemon` knows it

    def _replace_odd_key(self, id_: str) -> None:
        """Remove the entry that the original gozo kept under an id that is no key."""
        if id_ in self._index.odd_keys:
            self._index.odd_keys.discard(id_)
            if id_ in self._timetable:
                self._submit(Remove(id_, 0, Reason.CANCELLED, nothing, by_request=True))

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

    def outcome(self, id_: str) -> str:
        """Tell what became of an id: `pending`, a `Reason`, `removed` or `not_found`."""
        if self.keeps(id_):
            return "pending"
        reason = self._timetable.outcome(escape_id(id_))
        return "not_found" if reason is None else reason or "removed"

    @property
    def outstanding(self) -> int:
        """How many changes are not done."""
        return self._count

    @property
    def origins(self) -> list[Heard]:
        """The requests of which something is not done, in the order in which they came."""
        asked_for = (*self._asked_for(), *self._found)
        found = {origin.position: origin for _, origin in asked_for}
        return [found[position] for position in sorted(found)]

    def _asked_for(self) -> list[tuple[Write, Heard]]:
        """Return the changes that requests asked for."""
        changes = chain(self._active.values(), self._behind, self._overtaken.values())
        writes = (change for change in changes if isinstance(change, Write))
        return [(change, change.origin) for change in writes if change.origin is not None]

    def hold(self) -> None:
        """Begin nothing that requests asked for: another replica may lead, and see to it."""
        self._holds = True

    def go_on(self) -> None:
        """Begin it again."""
        self._holds = False
        self._found.clear()

    def drop(self, positions: Collection[int]) -> None:
        """Do no more for some requests: another leader has them, and sees to them.

        What may have been stored under a key that only this replica knows is removed: it would
        be delivered besides what the other one stores.
        """
        self._pumping, pumping = True, self._pumping
        try:
            for change, origin in self._asked_for():
                if origin.position in positions and not change.done:
                    self._drop(change)
            for put, origin in self._found:
                if origin.position in positions:
                    self._retract(put)
        finally:
            self._pumping = pumping
        self._pump()

    def _drop(self, change: Write) -> None:
        change.parked = False
        if self._active.get(change.key) is change:
            self._finish(change, Result.DROPPED)
        elif change in self._behind:
            self._behind.remove(change)
            self._abandon(change, Result.DROPPED)
        else:
            later = next(later for later, earlier in self._overtaken.items() if earlier is change)
            del self._overtaken[later]
            self._abandon(change, Result.DROPPED)
        if isinstance(change, Put):
            change.dropped = True
            if change.unsure:
                self._retract(change)

    def _retract(self, change: Put) -> None:
        """Remove what a change that was dropped may have stored, where no other replica would."""
        if change.key.startswith(RESERVED):
            self._retracted.add(change.key)
            self._submit(Remove(change.key, 0, Reason.CANCELLED, self._on_retracted(change.key)))

    def _on_retracted(self, key: str) -> OnResult:
        return lambda result, words: self._retracted.discard(key)

    @property
    def unstored(self) -> int:
        """How many schedules are not stored yet; reads all changes."""
        return sum(
            isinstance(change, Put) and change.holder is None and change.alter is None
            for change in (*self._active.values(), *self._behind)
        )

    @property
    def has_room(self) -> bool:
        """Whether more changes should be submitted now.

        Those behind another of their key are no work yet, and whoever sends thousands for one id
        must not keep others waiting.
        """
        waiting = len(self._waiting.queue) + self._delayed + self._behind.count
        return self._count - waiting < ROOM and waiting < STUCK

    async def progress(self) -> None:
        """Wait until some change is done."""
        self._progress.clear()
        await self._progress.wait()

    # The way of a change

    def _submit(self, change: Change) -> None:
        key = change.key
        if self._index.protected and key in self._active and self._disturbs(change):
            change.done = True
            change.on_result(Result.PROTECTED, "")
            return
        self._count += 1
        if key in self._active:
            self._behind.add(change)
            self.withdraw(key)
            active = self._active.get(key)
            if isinstance(active, Write) and active.wait and active is not change:
                self._expire_in_time(change)
                self._let_pass(active, (change,))
            return
        self._active[key] = change
        self._timetable.hold(key)
        self._ready.append(change)
        self._pump()

    def _pump(self) -> None:
        if self._pumping:
            return
        self._pumping = True
        left = SLICE
        try:
            ready = self._ready
            while ready and self._writer.in_flight < WINDOW:
                if not left:
                    self._pump_soon()
                    break
                left -= 1
                if self._writer.is_congested:
                    # On a slow link, what waits in a buffer only delays the lease and the PINGs.
                    asyncio.get_running_loop().call_later(CONGESTED_WAIT, self._pump)
                    break
                change = ready.popleft()
                if change.done or (self._holds and self._holds_back(change)):
                    continue
                try:
                    self._start(change)
                except DisconnectedError:
                    self._later(change)
        finally:
            self._pumping = False

    def _holds_back(self, change: Change) -> bool:
        """Let a change wait that a request asked for; False for others."""
        if not isinstance(change, Write) or change.origin is None:
            return False
        self._in_a_moment(change)
        return True

    def _pump_soon(self) -> None:
        """Go on once others had their turn: thousands for one id may be done in no time."""
        if not self._pumps_soon:
            self._pumps_soon = True
            asyncio.get_running_loop().call_soon(self._pump_on)

    def _pump_on(self) -> None:
        self._pumps_soon = False
        self._pump()

    def _start(self, change: Change) -> None:
        key = change.key
        revision = self._timetable.revision(key)
        if self.fence is not None and self._is_others(key, revision):
            self._finish(change, Result.SUPERSEDED)
        elif isinstance(change, WRITES_NOTHING):
            self._finish(change, Result.NOT_FOUND)
        elif (  # the first two spare nearly every request a call
            (self._index.newer or self._index.protected)
            and (barred := self._barred(change)) is not None
        ):
            self._finish(change, barred)
        elif change.revision and change.revision != revision:
            self._finish(change, Result.SUPERSEDED)
        elif isinstance(change, Put) and change.alter is None:
            change.replaces = key in self._timetable
            self._write(change, revision)
        elif key not in self._timetable:
            self._look_up(change)
        elif not change.revision and self._is_out(key):
            if self.awaits_ack(key, revision):
                self._in_a_moment(change)
            else:
                self._finish(change, Result.ALREADY_DELIVERED)
        elif isinstance(change, Put):
            self._background(self._alter(change, revision), f"alter {key}")
        else:
            change.expected = revision
            change.life = self._index.marker_seconds
            lines = marker_headers(change.reason, change.life * self._bucket.marker_ttl)
            self._writer.write(key, lines, b"", revision, partial(self._on_remove, change))

    def _write(self, change: Put, revision: int) -> None:
        """Write an entry where this revision is; 0: as a new one, with the time of that."""
        sent: float | None = None
        if revision:
            lines = change.lines()
        else:
            change.sent = sent = steady()
            lines = change.lines(sent + self._lateness.server_ahead)
        done = partial(self._on_put, change)
        self._writer.write(change.key, lines, change.payload, revision, done, sent)

    def _barred(self, change: Write) -> Result | None:
        """Return the result of a change that may not be made of what is there."""
        if change.key in self._index.newer:
            return Result.NEWER_FORMAT
        if self._index.protected and change.by_request and self._is_protected(change):
            return Result.PROTECTED
        return None

    def _is_protected(self, change: Write) -> bool:
        """Tell whether a change is of what only administrators may change."""
        protected, odd_keys = self._index.protected, self._index.odd_keys
        if change.key in protected:
            return True
        # What the original gozo kept under the id itself would be removed.
        id_ = change.entry.id if isinstance(change, Put) else None
        return id_ in odd_keys and id_ in protected

    def _disturbs(self, change: Change) -> bool:
        """Tell whether a change will be refused, and until then would only stop occurrences."""
        active = self._active[change.key]
        occupied = active.holder if isinstance(active, Put) else isinstance(active, Occupied)
        if not occupied or isinstance(change, WRITES_NOTHING) or self.is_wanted(change.key):
            return False
        return self._barred(change) is Result.PROTECTED

    def _is_out(self, key: str) -> bool:
        """Tell whether a schedule is out for delivery, and it is too late to change it."""
        if self._timetable.is_taken(key):
            self.withdraw(key)
        return self._timetable.is_taken(key)

    def _is_others(self, key: str, revision: int) -> bool:
        """Tell whether another leader may have written this revision."""
        assert self.fence is not None
        if key in self._retracted:
            return False
        return revision > self.fence and self._own.get(key) != revision

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
                self._later(change, str(error))
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
            self._write(change, revision)
        except DisconnectedError:
            self._later(change)

    def _make(self, change: Put, message: StoredMessage) -> tuple[Result | None, str]:
        """Make what is to be stored from what is there; a result where nothing is."""
        assert change.alter is not None
        try:
            entry, payload = _read(change.key, message)
            self._index.check(entry)
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

    def _on_put(self, change: Put, outcome: WriteResult, revision: int, words: str) -> None:
        if change.done:
            if change.dropped and outcome in (_STORED, WriteResult.UNKNOWN):
                self._retract(change)
            return
        if outcome is _STORED:
            wake_us = change.entry.wake_us
            if self._timetable.put(change.key, wake_us, revision):
                self._index.note_size(change.key, len(change.payload))
                self._index.note(change.key, change.entry)
            self._stored(change, revision, wake_us)
        elif outcome is WriteResult.UNKNOWN:
            # It may be stored by now: from here on only the key itself tells.
            change.deadline = NO_DEADLINE
            change.unsure = True
            self._not_done(change, outcome, words)
        elif outcome in _NOT_NOW and steady() > change.deadline:
            self._finish(change, Result.UNAVAILABLE, words)
        else:
            self._not_done(change, outcome, words)

    def _stored(self, change: Put, revision: int, wake_us: int) -> None:
        self._own[change.key] = revision
        if change.holder is not None:
            change.holder.revision = revision
        if self._holds and change.origin is not None:
            self._found.append((change, change.origin))
        is_soon = wake_us < self._timetable.horizon_us + SOON_US
        if is_soon and self._cache.takes_more:
            self._cache.offer(change.key, revision, delivery(change.entry, change.payload))
        else:
            self._cache.discard(change.key, revision)
        self._finish(change, _REPLACED if change.replaces else _NEW)
        id_ = change.entry.id
        if id_ is not None and id_ != change.key:
            self._replace_odd_key(id_)
        self._index.on_change()

    def _on_entry(self, key: str, revision: int, token: bytes) -> None:
        """An entry was seen; if it is ours, its acknowledgement is late or lost."""
        change = self._active.get(key)
        if isinstance(change, Put) and change.owns(token):
            self._stored(change, revision, change.entry.wake_us)

    def _is_awaited(self, key: str, token: bytes) -> bool:
        """Tell whether an entry is what was written a moment ago, whatever the server's clock."""
        change = self._active.get(key)
        if not isinstance(change, Put) or not change.owns(token):
            return False
        return steady() - change.sent <= self._lateness.in_time

    def _redate(self, key: str, revision: int) -> None:
        """Store an entry once more that says a wrong time: others would take it for late."""
        if self._own.get(key) == revision:
            self.rewrite(Item(0, revision, key))

    def _on_remove(self, change: Remove, outcome: WriteResult, revision: int, words: str) -> None:
        if change.done:
            return
        if outcome is _STORED:
            until_us = self._index.server_us() + change.life * MICROSECONDS
            lasting = not self._bucket.marker_ttl
            if self._timetable.remove(
                change.key, revision, until_us, change.reason, lasting=lasting
            ):
                self._index.note_size(change.key, 0)
                self._index.note(change.key, None)
            self._own[change.key] = revision
            self._cache.discard(change.key, revision)
            done = Result.SETTLED if change.revision else Result.CANCELLED
            self._finish(change, done)
        elif outcome in _NO_MARKER:
            if outcome is WriteResult.NO_ROOM:
                log.repeated("error", "store.full", key=change.key, reason=words)
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
                self._later(change, str(error))
                return
            await self._reconcile(change)

    def _not_done(self, change: Write, outcome: WriteResult, words: str) -> None:
        if outcome is WriteResult.REFUSED:
            log.limited("error", "store.refused", key=change.key, reason=words)
            self._finish(change, Result.REFUSED, words)
        elif outcome is WriteResult.CONFLICT:
            self._look_up(change)
        elif outcome is WriteResult.NO_ROOM:
            log.repeated("error", "store.full", key=change.key, reason=words)
            self._later(change, words)
        else:
            log.repeated("warning", "store.waiting", key=change.key, reason=words)
            self._later(change, words)

    def _finish(self, change: Change, result: Result, words: str = "") -> None:
        change.done = True
        self._count -= not isinstance(change, Occupied)
        if self._waiting.queue and result in _WRITTEN and isinstance(change, Write):
            self._ready.extend(self._waiting.after_success(change, steady()))
        if self._overtaken:
            result = self._resolve_overtaken(change, result)
        key = change.key
        if isinstance(change, Put) and change.holder is not None:
            self._active[key] = change.holder
        elif key in self._behind.queues:
            self._active[key] = later = self._behind.take(key)
            self._ready.append(later)
        else:
            del self._active[key]
            if self._timetable.release(key):
                self._index.on_change()  # it may have become due meanwhile
        self._progress.set()
        if self._events.enabled:
            self._tell(change, result)
        change.on_result(result, words)
        if self._ready:
            self._pump()

    def _tell(self, change: Change, result: Result) -> None:
        if isinstance(change, Remove):
            if result is Result.CANCELLED and change.on_result is not nothing:
                self._events.cancelled(change.key)
        elif (
            isinstance(change, Put)
            and result in (Result.STORED, Result.REPLACED)
            and not change.revision  # else it is gozo's own account of a version
            and change.entry.id is not None
        ):
            replaced = result is Result.REPLACED or change.alter is not None
            self._events.accepted(change.entry, replaced=replaced)

    # What goes wrong

    def _later(self, change: Change, words: str = "there is no connection") -> None:
        """Let a change wait until the bucket takes it, unless a later one makes it needless."""
        assert isinstance(change, Write)
        behind = self._behind.of(change.key)
        if not change.wait:
            for other in behind:
                self._expire_in_time(other)
        self._waiting.add(change, words, steady())
        self._set_timer()
        self._let_pass(change, behind)
        # Others may be taken on meanwhile, a cancel that makes room among them.
        self._progress.set()

    def _set_timer(self) -> None:
        at = self._waiting.next_at()
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
            self._timer = None
        if at == NO_DEADLINE:
            return
        self._timer_at = at
        wait = max(0.0, at - steady())
        self._timer = asyncio.get_running_loop().call_later(wait, self._try_again)

    def _try_again(self) -> None:
        self._timer = None
        now = steady()
        for change, words in self._waiting.late(now):
            self._finish(change, Result.UNAVAILABLE, words)
        self._ready.extend(self._waiting.due(now))
        self._set_timer()
        self._pump()

    def _in_a_moment(self, change: Write) -> None:
        """Try a change again that nothing but others' work with its key keeps from being made."""
        change.wait = min(2 * change.wait, LONGEST_WAIT) or FIRST_WAIT
        self._delayed += 1
        asyncio.get_running_loop().call_later(change.wait, self._try_delayed, change)
        self._progress.set()

    def _try_delayed(self, change: Write) -> None:
        self._delayed -= 1
        self._ready.append(change)
        self._pump()

    # What goes before what waits

    def _let_pass(self, change: Write, behind: Sequence[Change]) -> None:
        """Make the first of those behind a waiting change at once that it gives way to."""
        later = next((later for later in behind if self._may_pass(change, later)), None)
        if later is None:
            return
        assert isinstance(change, Put)
        change.parked = False
        if change.holder is not None:
            self._behind.remove(later)
            self._behind.add(later, first=True)
            self._finish(change, Result.SUPERSEDED)  # and the occupant ends the occupation
            return
        self._behind.remove(later)
        earlier: Put | None = change
        if change.deadline < NO_DEADLINE:  # it must be answered in time
            earlier = self._overtaken.pop(change, None)
            self._abandon(change, Result.SUPERSEDED)
        if earlier is not None:
            self._overtaken[later] = earlier
        self._active[change.key] = later
        self._ready.append(later)
        self._pump()

    def _may_pass(self, change: Write, later: Change) -> bool:
        """Tell whether a waiting change gives way to a later one, which is not refused itself."""
        if not isinstance(later, Write) or not gives_way(change, later):
            return False
        return self._barred(later) is None

    def _resolve_overtaken(self, change: Change, result: Result) -> Result:
        """End what a change went before, or let it go on where the change was not made.

        Returns the result of the change: what is never stored now was cancelled.
        """
        earlier = self._overtaken.pop(change, None)
        if earlier is None:
            return result
        if result in _NOT_MADE:
            self._behind.add(earlier, first=True)
            return result
        while earlier is not None:
            self._abandon(earlier, Result.SUPERSEDED)
            earlier = self._overtaken.pop(earlier, None)
        return Result.CANCELLED if isinstance(change, Remove) else result

    def _expire_in_time(self, change: Change) -> None:
        """Give a change up at its deadline, if it is still behind another one then."""
        if isinstance(change, Put) and change.deadline < NO_DEADLINE:
            wait = max(0.0, change.deadline - steady())
            asyncio.get_running_loop().call_later(wait, self._expire, change)

    def _expire(self, change: Put) -> None:
        if change in self._behind:
            self._behind.remove(change)
            self._abandon(change, Result.UNAVAILABLE, "an earlier change is waiting for the bucket")

    def _abandon(self, change: Write, result: Result, words: str = "") -> None:
        """End a change that is not the one its key is at."""
        change.done = True
        self._count -= 1
        change.on_result(result, words)

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
            self._later(change, str(error))
            return
        self._learn(change, message)

    def _learn(self, change: Write, message: StoredMessage | None) -> None:
        key = change.key
        before = self._timetable.revision(key)
        if message is None:
            if before:
                self._index.drop(key)
            if isinstance(change, Remove) and change.purged and self.fence is None:
                # Only a leader delivers and cancels, so it was purged from here.
                until_us = self._index.server_us() + MARKER_SECONDS * MICROSECONDS
                self._timetable.purge(key, change.expected, until_us, change.reason)
                self._cache.discard(key, change.expected)
        else:
            if message.sequence < self._timetable.revision(key) == before:
                self._index.drop(key)
            size = len(message.payload)
            self._index.take(key, message.sequence, message.stored_us, message.headers, size)
        if change.done:
            return
        removes = isinstance(change, Remove) or change.alter or change.revision
        if removes and key not in self._timetable:
            self._finish(change, self._absent(change))
        elif self._timetable.revision(key) == before:
            # The same revision as the one that was refused: another write is in flight.
            self._in_a_moment(change)
        else:
            self._ready.append(change)
            self._pump()

    def _absent(self, change: Write) -> Result:
        """What to answer about a key that holds no schedule."""
        if change.revision:
            return Result.SETTLED
        outcome = self._timetable.outcome(change.key)
        if outcome is Reason.DELIVERED:
            return Result.ALREADY_DELIVERED
        tried = isinstance(change, Remove) and change.expected > 0
        if outcome is Reason.CANCELLED and tried:
            return Result.CANCELLED
        return Result.NOT_FOUND


_NOT_NOW = frozenset({WriteResult.UNAVAILABLE, WriteResult.NO_ROOM})
_NO_MARKER = frozenset({WriteResult.NO_ROOM, WriteResult.REFUSED})
_NOT_MADE = frozenset(
    {
        *(Result.REFUSED, Result.UNAVAILABLE, Result.NEWER_FORMAT, Result.PROTECTED),
        *(Result.SUPERSEDED, Result.INVALID, Result.DROPPED),
    }
)
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
