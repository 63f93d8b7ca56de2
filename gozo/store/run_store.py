"""Stores runs, each under a key of its own; see `gozo.schedule.runs`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gozo.schedule.model import Entry, Reason
from gozo.schedule.timetable import Item, Timetable
from gozo.store.change_queue import ChangeQueue
from gozo.store.changes import OnResult, Put, Remove


class RunStore:
    """Takes changes of runs on; only the leader makes any, one after the other for each run."""

    def __init__(self, queue: ChangeQueue, timetable: Timetable, tokens: Iterator[bytes]) -> None:
        self._queue = queue
        self._timetable = timetable
        self._tokens = tokens

    def was_begun(self, key: str) -> bool:
        """Tell whether there is a run under a key, or was one that is settled."""
        return key in self._timetable or self._timetable.outcome(key) is not None

    def begin(self, key: str, entry: Entry, payload: bytes, on_result: OnResult) -> None:
        """Store a new run; `UNAVAILABLE` at once where the bucket cannot be written."""
        self._queue.submit(
            Put(key, next(self._tokens), on_result, entry=entry, payload=payload, deadline=0.0)
        )

    def attempt(self, item: Item, entry: Entry, payload: bytes, on_result: OnResult) -> None:
        """Store the next attempt of a run; `UNAVAILABLE` as for `begin`."""
        self._queue.submit(
            Put(
                item.key,
                next(self._tokens),
                on_result,
                entry=entry,
                payload=payload,
                revision=item.revision,
                deadline=0.0,
            )
        )

    def alter(self, key: str, change: Callable[[Entry], Entry], on_result: OnResult) -> None:
        """Store what has become of a run; tried until the bucket takes it."""
        self._queue.submit(
            Put(
                key,
                next(self._tokens),
                on_result,
                alter=change,
                revision=self._timetable.revision(key),
            )
        )

    def remove(self, key: str, reason: Reason, on_result: OnResult) -> None:
        """Remove a run that is settled; tried until the bucket takes it."""
        self._queue.submit(Remove(key, self._timetable.revision(key), reason, on_result))
