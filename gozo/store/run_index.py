"""The runs of the bucket, by schedule and by token. Pure.

Each replica has the headers of all runs in memory, so that a new leader knows at once to which
run an answer belongs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, KeysView

from gozo.schedule.model import Entry, State
from gozo.schedule.runs import runs_out

STATES = (State.RUNNING, State.RETRYING, State.PENDING, State.FAILED)
"""The states of runs."""


class RunIndex:
    """The entries of all runs, by key."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}
        self.any = self._entries.keys()
        """True while there is a run: cheap to ask for each message."""
        self._of: dict[str, dict[str, None]] = {}
        """The keys of the runs of each schedule, by its key."""
        self._tokens: dict[str, str] = {}
        """The key of the run that each token's SHA-256 belongs to."""
        self.on_settled: list[Callable[[str], None]] = []
        """Called with the key of a schedule when one of its runs is settled."""

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[tuple[str, Entry]]:
        return iter(list(self._entries.items()))

    def keys(self) -> KeysView[str]:
        """The keys of all runs."""
        return self._entries.keys()

    def get(self, key: str) -> Entry | None:
        """The run under a key."""
        return self._entries.get(key)

    def note(self, key: str, entry: Entry | None) -> None:
        """Note the latest version of a key; None if there is no run under it."""
        before = self._entries.pop(key, None)
        if before is not None and before.run is not None:
            of = self._of[before.run.key]
            del of[key]
            if not of:
                del self._of[before.run.key]
            for _, hashed in before.run.tokens:
                self._tokens.pop(hashed, None)
        if entry is not None and entry.run is not None:
            self._entries[key] = entry
            self._of.setdefault(entry.run.key, {})[key] = None
            for _, hashed in entry.run.tokens:
                self._tokens[hashed] = key
        if before is not None and before.run is not None and not self.is_unsettled(key):
            for call in self.on_settled:
                call(before.run.key)

    def of(self, schedule_key: str) -> list[tuple[str, Entry]]:
        """The runs of the schedule under a key, in no order."""
        return [(key, self._entries[key]) for key in self._of.get(schedule_key, ())]

    def unsettled(self, schedule_key: str) -> list[tuple[str, Entry]]:
        """The runs of a schedule that are not given up."""
        return [one for one in self.of(schedule_key) if one[1].state is not State.FAILED]

    def ends_with(self, schedule_key: str) -> bool:
        """Tell whether cancelling a schedule ends any of its runs, or their retries.

        Dead letters outlive it.
        """
        runs = [entry for _, entry in self.of(schedule_key)]
        return any(not (entry.is_dead_letter or runs_out(entry)) for entry in runs)

    def is_unsettled(self, key: str) -> bool:
        """Tell whether there is a run under a key that is not given up."""
        entry = self._entries.get(key)
        return entry is not None and entry.state is not State.FAILED

    def is_running(self, schedule_key: str) -> bool:
        """Tell whether a receiver may be working on a run of the schedule under a key."""
        return any(entry.state is State.RUNNING for _, entry in self.of(schedule_key))

    def with_token(self, hashed: str) -> str | None:
        """Find the key of the run that a token's SHA-256 belongs to."""
        return self._tokens.get(hashed)

    def oldest_us(self) -> int | None:
        """When the oldest attempt was sent whose receiver may be working; reads all runs."""
        running = (
            entry.run.sent_us
            for entry in self._entries.values()
            if entry.state is State.RUNNING and entry.run is not None
        )
        return min(running, default=None)

    def counts(self) -> dict[State, int]:
        """Count the runs by state; reads all of them."""
        found = Counter(entry.state for entry in self._entries.values())
        return {state: found[state] for state in STATES}
