"""The tombstones of removed keys: which end, which are purged, how many were forgotten."""

from __future__ import annotations

import tracemalloc
from heapq import heapify

from hypothesis import given
from hypothesis import strategies as st

from gozo.schedule.model import NEVER, Reason
from gozo.schedule.timetable import Timetable
from gozo.schedule.tombstones import GROUP_BITS, REMEMBERED, before

SECOND = 1_000_000


def removed(*ends: int, lasting: bool = False) -> Timetable:
    """Return a timetable without some keys, each named after the end of its tombstone."""
    timetable = Timetable(group_bits=0)
    for revision, end in enumerate(ends, 1):
        timetable.remove(f"{end}", revision, end, Reason.CANCELLED, lasting=lasting)
    return timetable


@given(ends=st.lists(st.integers(0, 30), max_size=40), moment=st.integers(0, 31))
def test_what_a_heap_has_before_a_moment(ends: list[int], moment: int) -> None:
    """It returns all rows before the moment, and no others."""
    heap = [(end, number, "") for number, end in enumerate(ends)]
    heapify(heap)
    assert sorted(before(heap, moment)) == sorted(row for row in heap if row[0] < moment)


def test_only_what_has_ended_is_forgotten() -> None:
    """A tombstone that ends at that very moment stays."""
    timetable = removed(1, 2, 3)
    assert not timetable.forget_ended(2, 9)
    assert sorted(timetable.tombstones) == ["2", "3"]
    assert timetable.departure("1") is Reason.CANCELLED
    assert timetable.count_ending(2) == 0
    assert timetable.count_ending(3) == 1


def test_the_limit_counts_what_is_looked_at() -> None:
    """Tombstones that were replaced count as well."""
    timetable = removed(1, 2, 3)
    timetable.put("1", 0, 10)
    assert timetable.forget_ended(9, 2)
    assert sorted(timetable.tombstones) == ["3"]
    assert timetable.forget_ended(9, 1)
    assert not timetable.forget_ended(9, 1)


def test_what_replaced_a_tombstone_stays() -> None:
    """A tombstone or a purge is removed at its own end only."""
    timetable = removed(1)
    timetable.remove("1", 5, 100, Reason.DELIVERED)
    timetable.purge("a", 6, 1, Reason.DELIVERED)
    timetable.purge("a", 7, 100, Reason.CANCELLED)
    timetable.forget_ended(50, 9)
    assert sorted(timetable.tombstones) == ["1"]
    assert timetable.seen("a") == 7
    assert timetable.count_forgotten(10, 0) == 0
    timetable.forget_ended(101, 9)
    assert (timetable.seen("1"), timetable.seen("a")) == (0, 0)
    assert timetable.count_forgotten(10, 0) == 1, "purges do not count"


def test_how_many_were_forgotten_lately() -> None:
    """They are counted for each second."""
    timetable = removed(*range(5))
    for second, limit in ((10, 2), (10, 1), (11, 1), (12, 1)):
        timetable.forget_ended(second * SECOND, limit)
    since = [timetable.count_forgotten(seconds, 12 * SECOND) for seconds in range(4)]
    assert since == [1, 2, 5, 5]
    assert timetable.count_forgotten(0, 13 * SECOND) == 0


def test_a_count_is_replaced_after_its_time() -> None:
    """Old counts are forgotten, and not added to those of a later second."""
    timetable = removed(*range(5))
    timetable.forget_ended(SECOND, 3)
    assert timetable.count_forgotten(REMEMBERED, (REMEMBERED + 1) * SECOND) == 3
    timetable.forget_ended((REMEMBERED + 1) * SECOND, 2)
    assert timetable.count_forgotten(REMEMBERED, (REMEMBERED + 1) * SECOND) == 2


def test_markers_to_purge() -> None:
    """Those that end first come first, without those that were replaced."""
    timetable = removed(1, 2, 3, 4, lasting=True)
    timetable.put("2", 0, 10)
    assert timetable.pop_lasting(1, 9) == []
    assert timetable.pop_lasting(4, 9) == [("1", 1), ("3", 3)]
    assert timetable.pop_lasting(4, 9) == []
    timetable.put_back_lasting([("3", 3), ("other", 9)])
    assert timetable.pop_lasting(9, 1) == [("3", 3)]
    assert timetable.pop_lasting(9, 9) == [("4", 4)]


def test_a_marker_that_was_replaced_is_not_put_back() -> None:
    """The bucket has a newer message under its key."""
    timetable = removed(1, 2, lasting=True)
    popped = timetable.pop_lasting(9, 9)
    timetable.put("1", 0, 10)
    timetable.forget("2")
    assert timetable.count_ending(0) == 0
    timetable.put_back_lasting(popped)
    assert timetable.pop_lasting(9, 9) == []


def test_what_is_being_purged_counts_until_it_is_gone() -> None:
    """The server may have removed it by itself."""
    timetable = removed(1, 2, lasting=True)
    timetable.pop_lasting(9, 9)
    assert timetable.count_ending(0) == 2
    timetable.forget("1")
    assert timetable.count_ending(0) == 1


def test_nobody_removes_what_never_ends() -> None:
    """It does not keep others from being removed."""
    timetable = removed(NEVER, lasting=True)
    assert timetable.pop_lasting(NEVER + 1, 9) == []
    assert timetable.count_ending(NEVER + 1) == 0


def test_a_group_is_forgotten_as_soon_as_all_of_it_has_ended() -> None:
    """Tombstones that end within the same quarter of a second form a group."""
    group = 1 << GROUP_BITS
    timetable = Timetable()
    for revision, end in enumerate((group, group + 1, 2 * group - 1, 2 * group), 1):
        timetable.remove(f"{end}", revision, end)
    assert timetable.count_ending(2 * group) == 3
    timetable.forget_ended(2 * group - 1, 9)
    assert len(timetable.tombstones) == 4
    timetable.forget_ended(2 * group, 9)
    assert list(timetable.tombstones) == [f"{2 * group}"]


def test_the_end_of_an_earlier_tombstone_is_not_that_of_a_later_one() -> None:
    """One that the server would keep forever is purged once, whatever its key was before."""
    timetable = removed(1)
    timetable.remove("1", 2, 2, lasting=True)
    timetable.remove("1", 3, 2, lasting=True)
    timetable.forget_ended(9, 9)
    assert timetable.revision("1") == 3
    assert timetable.count_ending(9) == 1
    assert timetable.pop_lasting(9, 9) == [("1", 3)]
    timetable.remove("1", 4, 20)
    timetable.put_back_lasting([("1", 3)])
    assert timetable.pop_lasting(30, 9) == []
    assert timetable.revision("1") == 4


def test_a_tombstone_takes_little() -> None:
    """This includes 60 bytes of its key: tens of thousands may have been delivered lately."""
    timetable, count = Timetable(), 20_000
    tracemalloc.start()
    before_bytes, _ = tracemalloc.get_traced_memory()
    for number in range(count):
        timetable.remove(f"order {number}", 10_000 + number, 10**15 + 500 * number)
    after_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (after_bytes - before_bytes) / count < 150
    assert not timetable.forget_ended(10**16, count + 1)
    assert not timetable.tombstones
