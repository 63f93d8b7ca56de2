"""Stores, alters, cancels and settles the schedules of the bucket.

Each call makes a change: `ChangeQueue` keeps the changes of a key in order, `ChangeWriter` writes
them, and a callback takes the result.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from gozo.protocol.heard import Heard
from gozo.protocol.ids import escape_id
from gozo.schedule.model import Entry, Reason, ScheduleRequest
from gozo.schedule.runs import progress
from gozo.schedule.timetable import Item
from gozo.store.bucket import Bucket
from gozo.store.change_queue import Events
from gozo.store.change_writer import ChangeWriter
from gozo.store.changes import (
    NO_DEADLINE,
    Alter,
    Look,
    Note,
    OnResult,
    Put,
    Remove,
    SparingPut,
    nothing,
    request_tokens,
)
from gozo.store.delivery_hooks import DeliveryHooks
from gozo.store.fence import Fence
from gozo.store.index import BucketIndex
from gozo.store.message_cache import MessageCache
from gozo.store.record_store import RecordStore
from gozo.store.reservations import Reservations
from gozo.store.run_store import RunStore
from gozo.store.writer import Writer


class ScheduleStore:
    """Accepts changes, and completes each."""

    def __init__(
        self,
        bucket: Bucket,
        index: BucketIndex,
        writer: Writer,
        cache: MessageCache,
        events: Events,
        hooks: DeliveryHooks,
    ) -> None:
        self.max_message = bucket.max_message
        """Bytes that the bucket accepts in one message, if less than the server does."""
        self.fence = Fence()
        """Up on a replica that lost the lease."""
        self._odd_keys = index.odd_keys
        self._timetable = index.timetable
        self._tokens = request_tokens()
        changes = ChangeWriter(bucket, index, writer, cache, events, hooks, self.fence)
        self._queue = changes.queue
        self._submit = changes.queue.submit
        self._handover = changes.handover
        self.reservations = Reservations(changes.queue, index, self._tokens)
        """Keys whose changes wait while occurrences are sent."""
        self.runs = RunStore(changes.queue, index.timetable, self._tokens)
        """The occurrences that have entries of their own."""
        self.records = RecordStore(changes.queue, index.timetable, self._tokens)
        """How occurrences ended, on its way to the entries of their schedules."""
        self._run_index = index.traits.runs
        index.lateness.on_misdated.append(self._redate)

    def put(
        self,
        request: ScheduleRequest,
        on_result: OnResult,
        key: str | None = None,
        *,
        deadline: float = NO_DEADLINE,
        origin: Heard | None = None,
    ) -> None:
        """Store a request under its id, or under `key` if given.

        While the server cannot store it, it is retried until the `deadline` (steady clock).
        """
        entry = request.entry
        if key is None:
            id_ = entry.id
            assert id_ is not None
            key = escape_id(id_)
        self._submit(
            Put(
                key,
                next(self._tokens),
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
        """Read the schedule with an id, once all its earlier changes are done.

        The result is `unchanged`, unless the schedule is being delivered or does not exist.
        """
        key, token = self.key_of(id_), next(self._tokens)
        self._submit(Put(key, token, on_result, alter=_leave, look=look, origin=origin))

    def cancel(
        self,
        id_: str,
        on_result: OnResult,
        *,
        by_request: bool = False,
        origin: Heard | None = None,
    ) -> None:
        """Remove the entry with an id, unless it is being delivered.

        A request cannot remove a protected schedule.
        """
        key, reason = self.key_of(id_), Reason.CANCELLED
        self._submit(Remove(key, 0, reason, on_result, by_request=by_request, origin=origin))

    def alter(
        self,
        id_: str,
        change: Alter,
        on_result: OnResult,
        *,
        origin: Heard | None = None,
        spares_runs: bool = False,
    ) -> None:
        """Store another version of the schedule with an id, unless it is being delivered.

        Its runs are not tried again, unless the change `spares_runs`.
        """
        key, token = self.key_of(id_), next(self._tokens)
        put = SparingPut if spares_runs else Put
        self._submit(put(key, token, on_result, alter=change, origin=origin))

    def rewrite(
        self, item: Item, change: Alter | None = None, on_result: OnResult | None = None
    ) -> None:
        """Rewrite a version of a schedule, as it is or with a change."""
        self._submit(
            Put(
                item.key,
                next(self._tokens),
                on_result or nothing,
                alter=change or (lambda entry: entry),
                revision=item.revision,
            )
        )

    def retry(self, item: Item, change: Alter, on_result: OnResult) -> None:
        """Note in the bucket that an attempt to deliver a version of a schedule failed.

        The result is `UNAVAILABLE` at once if the bucket cannot be written: the next attempt must
        not wait for that.
        """
        self._submit(
            Put(
                item.key,
                next(self._tokens),
                on_result,
                alter=change,
                revision=item.revision,
                deadline=0.0,
            )
        )

    def settle(
        self, item: Item, reason: Reason = Reason.DELIVERED, on_result: OnResult | None = None
    ) -> None:
        """Remove this version of a schedule; a later one stays."""
        self._submit(Remove(item.key, item.revision, reason, on_result or nothing))

    def after(self, id_: str, call: Callable[[], None]) -> None:
        """Call back once all changes of an id that were submitted before are done."""
        key = escape_id(id_)
        if key in self._queue.active:
            self._submit(Note(key, lambda result, words: call()))
        else:
            call()

    def _redate(self, key: str, revision: int) -> None:
        """Rewrite an entry that is dated wrongly, since others would take it for late."""
        if self.fence.own.get(key) == revision:
            self.rewrite(Item(0, revision, key))

    def key_of(self, id_: str) -> str:
        """Return the key under which the schedule with an id is stored."""
        is_odd = id_ in self._odd_keys and id_ in self._timetable
        return id_ if is_odd else escape_id(id_)

    # Stored schedules

    @property
    def kept(self) -> int:
        """How many schedules the bucket is known to hold, invalid ones included."""
        return len(self._timetable)

    def keeps(self, id_: str) -> bool:
        """Tell whether the bucket is known to hold a schedule with this id."""
        return self.key_of(id_) in self._timetable

    def knows(self, key: str) -> bool:
        """Tell whether the bucket holds an entry under a key, or did so not long ago."""
        return self._timetable.knows(key)

    def is_running(self, id_: str) -> bool:
        """Tell whether a receiver may be working on an occurrence of the schedule with this id."""
        return self._run_index.is_running(self.key_of(id_))

    def progress_of_runs(self, id_: str) -> str:
        """Return what the runs of the schedule with an id do; see `runs.progress`."""
        return progress({entry.state for _, entry in self._run_index.of(self.key_of(id_))})

    def outcome(self, id_: str) -> str:
        """Return the state of an id: `pending`, a `Reason`, `removed` or `not_found`.

        It is pending also while a run is not settled.
        """
        if self.keeps(id_) or self._run_index.unsettled(self.key_of(id_)):
            return "pending"
        reason = self._timetable.departure(escape_id(id_))
        return "not_found" if reason is None else reason or "removed"

    # Unfinished changes

    @property
    def outstanding(self) -> int:
        """How many changes are not done."""
        return self._queue.outstanding

    def is_wanted(self, key: str) -> bool:
        """Tell whether a change of a key waits for another one, or for a reservation."""
        return self._queue.is_wanted(key)

    @property
    def unstored(self) -> int:
        """How many schedules are not stored yet; reads all changes."""
        return self._queue.unstored

    @property
    def has_room(self) -> bool:
        """Whether more changes should be submitted now; see `ChangeQueue.has_room`."""
        return self._queue.has_room

    async def progress(self) -> None:
        """Wait until a change is done."""
        await self._queue.progress()

    @property
    def origins(self) -> list[Heard]:
        """The requests with unfinished changes, in order of arrival."""
        return self._handover.origins

    def hold(self) -> None:
        """Start no changes that requests asked for: another replica may lead, and make them."""
        self._handover.hold()

    def go_on(self) -> None:
        """Start such changes again."""
        self._handover.go_on()

    def drop(self, positions: Collection[int]) -> None:
        """Drop requests that another leader has; see `Handover.drop`."""
        self._handover.drop(positions)


def _leave(entry: Entry) -> None:
    """Change nothing."""
