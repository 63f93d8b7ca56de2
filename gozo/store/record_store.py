"""Stores in the entry of a recurring schedule how its occurrences ended.

What is to be noted while such a write waits or is made is part of the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gozo.schedule.model import Entry
from gozo.schedule.timetable import Timetable
from gozo.store.change_queue import ChangeQueue
from gozo.store.changes import Put, Result

Note = Callable[[Entry], Entry]
"""Adds to the latest version of an entry."""

_STORED = (Result.STORED, Result.REPLACED)


class RecordStore:
    """Notes about schedules that are not stored yet."""

    def __init__(self, queue: ChangeQueue, timetable: Timetable, tokens: Iterator[bytes]) -> None:
        self._queue = queue
        self._timetable = timetable
        self._tokens = tokens
        self._notes: dict[str, list[tuple[Note, Callable[[], None]]]] = {}
        """For each schedule's key, also what to call once a note is stored."""

    def __len__(self) -> int:
        return len(self._notes)

    def add(self, key: str, note: Note, then: Callable[[], None]) -> None:
        """Note something about the schedule under a key; `then` is called once it is stored.

        Also if that is not possible, or the schedule is gone.
        """
        waiting = self._notes.get(key)
        if waiting is not None:
            waiting.append((note, then))
            return
        self._notes[key] = [(note, then)]
        self._submit(key)

    def _submit(self, key: str) -> None:
        made: list[tuple[Note, Callable[[], None]]] = []

        def alter(entry: Entry) -> Entry:
            made[:] = self._notes[key]
            for note, _ in made:
                entry = note(entry)
            return entry

        def on_result(result: Result, words: str) -> None:
            changed = key in self._timetable and self._timetable.revision(key) != revision
            if result is Result.SUPERSEDED and changed:
                self._submit(key)  # add to the new version
                return
            done = made if result in _STORED else self._notes[key]
            left = self._notes[key][len(done) :]
            if left:
                self._notes[key] = left
                self._submit(key)
            else:
                del self._notes[key]
            for _, then in done:
                then()

        revision = self._timetable.revision(key)
        self._queue.submit(Put(key, next(self._tokens), on_result, alter=alter, revision=revision))
