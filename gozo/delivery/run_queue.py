"""Runs that wait until another run of their schedule is settled: those with `Gozo-Overlap: queue`.

They are stored as pending, so a new leader finds them due and lets them wait again.
"""

from __future__ import annotations

from collections import defaultdict

from gozo.delivery.wakeup import Wakeup
from gozo.schedule.model import NEVER, Run
from gozo.schedule.timetable import Item, Timetable
from gozo.store.run_index import RunIndex


class RunQueue:
    """Keeps waiting runs from becoming due in the timetable."""

    def __init__(self, timetable: Timetable, index: RunIndex, wakeup: Wakeup) -> None:
        self._timetable = timetable
        self._index = index
        self._wakeup = wakeup
        self._waiting: defaultdict[str, set[str]] = defaultdict(set)
        """The keys of runs, by that of their schedule."""
        index.on_settled.append(self.release)

    def add(self, item: Item, run: Run) -> None:
        """Let a popped run wait, until it is too late to try it at most."""
        self._waiting[run.key].add(item.key)
        until_us = NEVER if run.give_up_us == NEVER else run.give_up_us + 1
        self._timetable.give_back(item._replace(due_us=until_us))

    def clear(self) -> None:
        """Let none wait: this replica no longer leads."""
        for schedule_key in list(self._waiting):
            self.release(schedule_key)

    def release(self, schedule_key: str) -> None:
        """Release the runs that wait for another run of a schedule."""
        for key in self._waiting.pop(schedule_key, ()):
            entry = self._index.get(key)
            if entry is not None:
                item = Item(entry.wake_us, self._timetable.revision(key), key)
                self._timetable.take(item)
                self._timetable.give_back(item)
                self._wakeup.soon()
