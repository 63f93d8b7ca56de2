"""Keys reserved while occurrences of their schedules are sent.

So the bucket records sent occurrences before a change by others is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gozo.schedule.model import Entry, Reason
from gozo.schedule.runs import MOST_RUNS
from gozo.schedule.timetable import Item
from gozo.store.change_queue import ChangeQueue
from gozo.store.changes import Note, Occupied, OnResult, Put, Remove, Result, nothing
from gozo.store.index import BucketIndex


class Reservations:
    """Keeps changes by others waiting while a recurring schedule is sent."""

    def __init__(self, queue: ChangeQueue, index: BucketIndex, tokens: Iterator[bytes]) -> None:
        self._queue = queue
        self._index = index
        self._tokens = tokens

    def occupy(self, item: Item) -> None:
        """Reserve the key of a schedule whose occurrence will be sent."""
        assert item.key not in self._queue.active, "a schedule being changed is not popped"
        self._queue.active[item.key] = Occupied(item.key, item.revision)
        self._index.timetable.hold(item.key)

    @property
    def has_room(self) -> bool:
        """Whether more changes should be submitted now; see `ChangeQueue.has_room`."""
        return self._queue.has_room

    def is_wanted(self, key: str) -> bool:
        """Tell whether a change waits for a reserved key."""
        return self._queue.is_wanted(key)

    def advance(
        self,
        key: str,
        entry: Entry,
        payload: bytes,
        on_result: OnResult,
        may_yield: Callable[[], bool],
    ) -> None:
        """Store the new state of a schedule; its key stays reserved.

        While the bucket does not accept it, a cancel may overtake it if `may_yield` allows that;
        the result is then `superseded`.
        """
        holder = self._queue.active[key]
        assert isinstance(holder, Occupied)
        self._queue.begin(
            Put(
                key,
                next(self._tokens),
                on_result,
                entry=entry,
                payload=payload,
                revision=holder.revision,
                holder=holder,
                may_yield=may_yield,
            )
        )

    def has_room_for_dead_letter(self, key: str) -> bool:
        """Whether another occurrence of the schedule under a key may wait as a dead letter."""
        return self._index.traits.dead_letters_of(key) < MOST_RUNS

    def keep(self, key: str, entry: Entry, payload: bytes, on_result: OnResult) -> None:
        """Store an occurrence under a key of its own, beside the schedule."""
        self._queue.submit(Put(key, next(self._tokens), on_result, entry=entry, payload=payload))

    def conclude(self, key: str, reason: Reason = Reason.DELIVERED) -> None:
        """Remove a schedule whose last occurrence was sent or skipped."""
        holder = self._queue.active[key]
        assert isinstance(holder, Occupied)
        self._queue.begin(Remove(key, holder.revision, reason, nothing))

    def set_aside(self, key: str, words: str) -> None:
        """Stop serving a schedule: the bucket will never store its new state."""
        self._index.refused(key, self.version(key), words)

    def vacate(self, key: str) -> None:
        """End a reservation: other changes may go on."""
        holder = self._queue.active[key]
        assert isinstance(holder, Occupied)
        self._queue.finish(holder, Result.NOT_FOUND)

    def version(self, key: str) -> int:
        """Return the version of a reserved key that the next `advance` will replace."""
        holder = self._queue.active[key]
        assert not isinstance(holder, Note)
        return holder.revision
