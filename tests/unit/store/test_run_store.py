"""What is known of runs before the bucket has them."""

from __future__ import annotations

from itertools import repeat
from typing import cast

import pytest

from gozo.schedule.model import Confirm, Confirmation, Entry
from gozo.schedule.runs import begun
from gozo.schedule.timetable import Timetable
from gozo.store.change_queue import ChangeQueue
from gozo.store.changes import Change, Result
from gozo.store.run_store import RunStore

SCHEDULE = Entry("a", "to", "+0", 1, 1, confirmation=Confirmation(Confirm.REPLY))


class Unanswered:
    """A queue whose changes the test completes."""

    def __init__(self) -> None:
        self.changes: list[Change] = []

    def submit(self, change: Change) -> None:
        """Accept a change."""
        self.changes.append(change)


@pytest.mark.parametrize("result", [Result.STORED, Result.UNAVAILABLE])
def test_they_count_from_when_they_begin(result: Result) -> None:
    """Otherwise another one could begin meanwhile; they count until they are stored or refused."""
    queue = Unanswered()
    store = RunStore(cast("ChangeQueue", queue), Timetable(), repeat(b"token"))
    results: list[Result] = []
    started = [begun(SCHEDULE, "a", name, b"", 1) for name in ("t1", "t2")]
    for number, run in enumerate(started):
        store.begin(f"=_run.a.t{number}", run, b"", lambda result, words: results.append(result))
    assert (store.being_stored("a"), store.being_stored("b")) == (started, [])
    assert len(store) == 1
    for number, change in enumerate(queue.changes):
        assert store.being_stored("a") == started[number:]
        change.on_result(result, "")
    assert store.being_stored("a") == []
    assert len(store) == 0
    assert results == [result, result]
