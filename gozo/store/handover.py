"""What a replica does with the requests it acted on when another one may lead."""

from __future__ import annotations

from collections.abc import Collection

from gozo.protocol.heard import Heard
from gozo.protocol.ids import RESERVED
from gozo.schedule.model import Reason
from gozo.store.change_queue import ChangeQueue
from gozo.store.changes import OnResult, Put, Remove
from gozo.store.fence import Fence


class Handover:
    """Holds changes that requests asked for, and drops those that another leader sees to."""

    def __init__(self, queue: ChangeQueue, fence: Fence) -> None:
        self._queue = queue
        self._retracted = fence.retracted
        self._found: list[tuple[Put, Heard]] = []
        """What was found to be stored while changes are held."""

    @property
    def origins(self) -> list[Heard]:
        """The requests of which something is not done, in the order in which they came."""
        asked_for = (*self._queue.asked_for(), *self._found)
        found = {origin.position: origin for _, origin in asked_for}
        return [found[position] for position in sorted(found)]

    def hold(self) -> None:
        """Begin nothing that requests asked for: another replica may lead, and see to it."""
        self._queue.hold()

    def go_on(self) -> None:
        """Begin it again."""
        self._queue.go_on()
        self._found.clear()

    def note(self, change: Put, origin: Heard) -> None:
        """Note what was stored while changes are held."""
        self._found.append((change, origin))

    def drop(self, positions: Collection[int]) -> None:
        """Do no more for some requests: another leader has them, and sees to them.

        What may have been stored under a key that only this replica knows is removed: it would
        be delivered besides what the other one stores.
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
        """Remove what a dropped change may have stored, where no other replica would."""
        if change.key.startswith(RESERVED):
            self._retracted.add(change.key)
            on_result = self._on_retracted(change.key)
            self._queue.submit(Remove(change.key, 0, Reason.CANCELLED, on_result))

    def _on_retracted(self, key: str) -> OnResult:
        return lambda result, words: self._retracted.discard(key)
