"""Changes of runs in the bucket: one after the other for each run.

While the next state of a run is being stored, further answers wait.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from gozo.schedule.model import Entry, Reason
from gozo.store.changes import Result
from gozo.store.run_store import RunStore


class RunChanges:
    """The runs whose next state is being stored."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._changing: set[str] = set()
        self._waiting: defaultdict[str, list[tuple[Callable[[], None], bool]]] = defaultdict(list)
        """The calls to make for each run after that, and whether they last; see `after`."""

    def __len__(self) -> int:
        return len(self._changing)

    def __contains__(self, key: str) -> bool:
        return key in self._changing

    def clear(self) -> None:
        """Drop the calls that wait for changes, except those that last."""
        for key, acts in list(self._waiting.items()):
            acts[:] = [(act, lasts) for act, lasts in acts if lasts]
            if not acts:
                del self._waiting[key]

    def begin(self, key: str) -> None:
        """Let calls for a run wait until `end`."""
        self._changing.add(key)

    def end(self, key: str) -> None:
        """Make the calls that waited for a run."""
        self._changing.discard(key)
        for act, lasts in self._waiting.pop(key, ()):
            self.after(key, act, lasts=lasts)

    def waiting(self, key: str) -> int:
        """Return how many calls wait for a run."""
        return len(self._waiting.get(key, ()))

    def after(self, key: str, act: Callable[[], None], *, lasts: bool = False) -> None:
        """Call `act` once the next state of a run is stored; at once if none is being stored.

        With `lasts`, also if this replica no longer leads by then.
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
        """Store the next state of a run; `done` is called with it once it is stored."""
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
