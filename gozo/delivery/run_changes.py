"""Changes of runs in the bucket: one after the other for each run.

While the next state of a run is on its way, what is heard of it waits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from gozo.schedule.model import Entry, Reason
from gozo.store.changes import Result
from gozo.store.run_store import RunStore


class RunChanges:
    """The runs whose next state is on its way to the bucket."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._changing: set[str] = set()
        self._waiting: defaultdict[str, list[tuple[Callable[[], None], bool]]] = defaultdict(list)
        """What is to be done about each run after that, and whether it lasts; see `after`."""

    def __len__(self) -> int:
        return len(self._changing)

    def __contains__(self, key: str) -> bool:
        return key in self._changing

    def clear(self) -> None:
        """Do nothing more after the changes that are on their way but what lasts."""
        for key, acts in list(self._waiting.items()):
            acts[:] = [(act, lasts) for act, lasts in acts if lasts]
            if not acts:
                del self._waiting[key]

    def begin(self, key: str) -> None:
        """Let what is heard of a run wait until `end`."""
        self._changing.add(key)

    def end(self, key: str) -> None:
        """Act on what was heard meanwhile."""
        self._changing.discard(key)
        for act, lasts in self._waiting.pop(key, ()):
            self.after(key, act, lasts=lasts)

    def waiting(self, key: str) -> int:
        """How much waits for the state of a run."""
        return len(self._waiting.get(key, ()))

    def after(self, key: str, act: Callable[[], None], *, lasts: bool = False) -> None:
        """Act once a run's next state is in the bucket; at once if none is on its way.

        `lasts`: even if this replica does not lead by then.
        """
        if key in self._changing:
            self._waiting[key].append((act, lasts))
        else:
            act()

    def change(
        self,
        key: str,
        change: Callable[[Entry], Entry],
        done: Callable[[Entry], None],
        not_done: Callable[[], None],
    ) -> None:
        """Store what a run has become; `done` is called with that once it is stored."""
        stored: list[Entry] = []

        def alter(entry: Entry) -> Entry:
            stored[:] = [change(entry)]
            return stored[0]

        def on_result(result: Result, words: str) -> None:
            if result in (Result.STORED, Result.REPLACED):
                done(stored[0])
            else:
                not_done()
            self.end(key)

        self.begin(key)
        self._store.alter(key, alter, on_result)

    def remove(
        self,
        key: str,
        reason: Reason,
        done: Callable[[], None],
        not_done: Callable[[], None],
    ) -> None:
        """Remove a run that is settled; `done` is called once it is gone."""

        def on_result(result: Result, words: str) -> None:
            if result in (Result.SETTLED, Result.CANCELLED):
                done()
            else:
                not_done()
            self.end(key)

        self.begin(key)
        self._store.remove(key, reason, on_result)
