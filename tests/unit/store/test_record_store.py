"""Notes on their way to an entry: each is stored, in as few writes as possible."""

from __future__ import annotations

from collections import deque
from functools import partial
from itertools import repeat
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gozo.schedule.model import Entry
from gozo.schedule.timetable import Timetable
from gozo.store.change_queue import ChangeQueue
from gozo.store.changes import Change, Put, Result
from gozo.store.record_store import RecordStore


class Bucket:
    """A queue and its bucket, with one schedule that others may change as well."""

    def __init__(self) -> None:
        self.timetable = Timetable()
        self.entry = Entry("a", "to", "", 1, 1)
        self.writes = 0
        self.waiting: deque[Put] = deque()
        self._revision = 0
        self.write()

    def submit(self, change: Change) -> None:
        """Take a change on."""
        assert isinstance(change, Put)
        self.waiting.append(change)

    def write(self) -> None:
        """Store another version."""
        self._revision += 1
        self.timetable.put("a", 1, self._revision)

    def remove(self) -> None:
        """Remove the schedule."""
        self._revision += 1
        self.timetable.remove("a", self._revision)

    def work(self) -> bool:
        """Make the next change; False without one."""
        if not self.waiting:
            return False
        change = self.waiting.popleft()
        if change.revision != self._revision:
            change.on_result(Result.SUPERSEDED, "")
            return True
        assert change.alter is not None
        entry = change.alter(self.entry)
        assert entry is not None
        self.entry = entry
        self.writes += 1
        self.write()
        change.on_result(Result.STORED, "")
        return True


def add(text: str, entry: Entry) -> Entry:
    """Note a text in an entry."""
    return entry._replace(when=entry.when + text)


@given(st.lists(st.sampled_from(["note", "write", "work", "remove"]), max_size=30))
def test_each_is_stored_once(steps: list[str]) -> None:
    """Unless the schedule is gone, whatever others write; and each is answered, once."""
    bucket = Bucket()
    store = RecordStore(cast("ChangeQueue", bucket), bucket.timetable, repeat(b"token"))
    notes: list[str] = []
    done: list[str] = []
    for number, step in enumerate(steps):
        if step == "note":
            notes.append(f"<{number}>")
            store.add("a", partial(add, notes[-1]), partial(done.append, notes[-1]))
        elif step == "write":
            bucket.write()
        elif step == "remove":
            bucket.remove()
        else:
            bucket.work()
    while bucket.work():
        pass
    assert done == notes
    assert len(store) == 0
    if "remove" not in steps:
        assert bucket.entry.when == "".join(notes)


def test_what_comes_together_is_one_write() -> None:
    """Notes that come while a write waits are part of it."""
    bucket = Bucket()
    store = RecordStore(cast("ChangeQueue", bucket), bucket.timetable, repeat(b"token"))
    for text in "abc":
        store.add("a", partial(add, text), lambda: None)
    while bucket.work():
        pass
    assert (bucket.entry.when, bucket.writes) == ("abc", 1)


@pytest.mark.parametrize("result", [Result.SUPERSEDED, Result.REFUSED, Result.INVALID])
def test_what_cannot_be_stored(result: Result) -> None:
    """It is dropped, not tried for ever: a later leader may have the schedule."""
    bucket = Bucket()
    changes = bucket.waiting
    store = RecordStore(cast("ChangeQueue", bucket), bucket.timetable, repeat(b"token"))
    done: list[str] = []
    store.add("a", partial(add, "x"), lambda: done.append("x"))
    changes[0].on_result(result, "")
    assert (len(changes), done, len(store)) == (1, ["x"], 0)
