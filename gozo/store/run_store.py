"""Stores runs, each under a key of its own; see `gozo.schedule.runs`."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gozo.schedule.model import Entry, Reason
from gozo.schedule.timetable import Item, Timetable
from gozo.store.change_queue import ChangeQueue
from gozo.store.changes import OnResult, Put, Remove, Result


class RunStore:
    """Stores changes of runs; only the leader makes them, one after the other for each run."""

    def __init__(self, queue: ChangeQueue, timetable: Timetable, tokens: Iterator[bytes]) -> None:
        self._queue = queue
        self._timetable = timetable
        self._tokens = tokens
        self._being_stored: dict[str, list[Entry]] = {}
        """New runs that are not stored yet, by the key of their schedule."""

    def __len__(self) -> int:
        return len(self._being_stored)

    def being_stored(self, schedule_key: str) -> list[Entry]:
        """Return the new runs of a schedule that are not stored yet."""
        return self._being_stored.get(schedule_key, [])

    def was_begun(self, key: str) -> bool:
        """Tell whether there is, or was, a run under a key."""
        return self._timetable.knows(key)

    def begin(self, key: str, entry: Entry, payload: bytes, on_result: OnResult) -> None:
        """Store a new run; `UNAVAILABLE` at once if the bucket cannot be written."""
        assert entry.run is not None
        schedule_key = entry.run.key
        self._being_stored.setdefault(schedule_key, []).append(entry)

        def on_stored(result: Result, words: str) -> None:
            runs = self._being_stored[schedule_key]
            runs.remove(entry)
            if not runs:
                del self._being_stored[schedule_key]
            on_result(result, words)

        self._queue.submit(
            Put(key, next(self._tokens), on_stored, entry=entry, payload=payload, deadline=0.0)
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
        """Store the next state of a run; retried until it is stored."""
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
        """Remove a settled run; retried until it is removed."""
        self._queue.submit(Remove(key, self._timetable.revision(key), reason, on_result))
