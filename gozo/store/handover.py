"""Hands over the unfinished requests of a replica when another one may lead."""

from __future__ import annotations

from collections.abc import Collection

from gozo.protocol.heard import Heard
from gozo.protocol.ids import RESERVED
from gozo.schedule.model import Entry, Reason
from gozo.schedule.timetable import Timetable
from gozo.store.change_queue import ChangeQueue
from gozo.store.changes import Put, Remove, Result
from gozo.store.fence import Fence


class Handover:
    """Holds changes that requests asked for, and drops those that another leader makes."""

    def __init__(self, queue: ChangeQueue, timetable: Timetable, fence: Fence) -> None:
        self._queue = queue
        self._timetable = timetable
        self._retracted = fence.retracted
        self._found: list[tuple[Put, Heard]] = []
        """Changes that turned out to be stored while changes are held."""

    @property
    def origins(self) -> list[Heard]:
        """The requests with unfinished changes, in order of arrival."""
        asked_for = (*self._queue.asked_for(), *self._found)
        found = {origin.position: origin for _, origin in asked_for}
        return [found[position] for position in sorted(found)]

    def hold(self) -> None:
        """Start no changes that requests asked for: another replica may lead, and make them."""
        self._queue.hold()

    def go_on(self) -> None:
        """Start such changes again."""
        self._queue.go_on()
        self._found.clear()

    def note(self, change: Put, origin: Heard) -> None:
        """Note a change that was stored while changes are held."""
        self._found.append((change, origin))

    def drop(self, positions: Collection[int]) -> None:
        """Drop requests that another leader has and handles.

        An entry that may have been stored under a key that only this replica knows is removed:
        otherwise it would be delivered besides the one that the other leader stores.
        """
        with self._queue.paused():
            for change, origin in self._queue.asked_for():
                if origin.position in positions and not change.done:
                    self._queue.drop(change)
                    if isinstance(change, Put):
                        change.dropped = True
                        if change.unsure:
                            self.retract(change)
            for put, origin in self._found:
                if origin.position in positions:
                    self.retract(put)

    def retract(self, change: Put) -> None:
        """Remove the entry that a dropped change may have stored, if no other replica would."""
        key = change.key
        if key.startswith(RESERVED):
            self._retracted.add(key)
            if change.entry.origin:
                self._retract_own(change)
            else:
                self._remove(key)

    def _retract_own(self, change: Put) -> None:
        """Remove the version that a change stored: the other leader may know its key."""
        own = []

        def look(entry: Entry, payload: bytes) -> None:
            if change.owns(entry.token):
                own.append(self._timetable.revision(change.key))

        def on_result(result: Result, words: str) -> None:
            if own:
                self._remove(change.key, own[-1])
            else:
                self._retracted.discard(change.key)

        self._queue.submit(
            Put(change.key, change.token, on_result, alter=lambda entry: None, look=look)
        )

    def _remove(self, key: str, revision: int = 0) -> None:
        def on_result(result: Result, words: str) -> None:
            self._retracted.discard(key)

        self._queue.submit(Remove(key, revision, Reason.CANCELLED, on_result))
