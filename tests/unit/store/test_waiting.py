"""Which of the changes that wait for the bucket are tried, counted over simulated time."""

from __future__ import annotations

import pytest

from gozo.schedule.model import Entry
from gozo.store.changes import NO_DEADLINE, Put, nothing
from gozo.store.waiting import FIRST_WAIT, LONGEST_WAIT, Waiting

ENTRY = Entry("id", "to", "1", 1, 1)


def put(deadline: float = NO_DEADLINE) -> Put:
    """Make a change."""
    return Put("key", b"token", nothing, entry=ENTRY, deadline=deadline)


def full(number: int) -> Waiting:
    """Make a queue in which so many have waited for long, and were refused each time."""
    waiting = Waiting()
    for _ in range(number):
        waiting.add(put(), "full", 0.0)
    attempts(waiting, 3_000.0, 3_600.0)
    return waiting


def attempts(waiting: Waiting, began: float, ends: float) -> int:
    """Count what is tried, and refused each time, until time ends."""
    count = 0
    while (now := max(waiting.next_at(), began)) < ends:
        for change in waiting.due(now):
            count += 1
            waiting.add(change, "full", now)
    return count


@pytest.mark.parametrize(("stuck", "most"), [(1, 2), (100, 16), (1_500, 50), (100_000, 400)])
def test_however_many_wait_few_are_tried(stuck: int, most: int) -> None:
    """A second sees no more attempts than these, and each gets its turn."""
    waiting = full(stuck)
    assert attempts(waiting, 3_600.0, 3_660.0) <= 60 * most
    assert len(waiting.queue) == stuck


def test_what_others_send_tries_few() -> None:
    """Ten thousand changes that the bucket takes at once make it refuse few of 1,500 others."""
    waiting = full(1_500)
    refused = 0
    for number in range(10_000):
        now = 3_600 + number / 5_000
        for change in waiting.after_success(put(), now):
            refused += 1
            waiting.add(change, "full", now)
    assert 1 <= refused <= 9


def test_all_are_through_once_one_is_taken() -> None:
    """Each that is taken lets two more be tried, so that rounds double."""
    waiting = full(10_000)
    flight = waiting.due(waiting.next_at())
    rounds = 0
    while flight:
        rounds += 1
        flight = [more for one in flight for more in waiting.after_success(one, 9_999.0)]
    assert len(waiting.queue) == 0
    assert rounds < 20


def test_one_that_is_new_has_its_turn_soon() -> None:
    """Who comes late is not behind all who have waited for long."""
    waiting = full(1_500)
    new, now, others = put(), 3_600.0, 0
    waiting.add(new, "full", now)
    while True:
        now = waiting.next_at()
        tried = waiting.due(now)
        if new in tried:
            break
        others += len(tried)
        for change in tried:
            waiting.add(change, "full", now)
    assert others < 300, "a fifth of them"


def test_each_waits_longer() -> None:
    """From a quarter of a second to two, as long as few wait."""
    waiting, change, now, waits = Waiting(), put(), 0.0, []
    for _ in range(6):
        waiting.add(change, "full", now)
        waits.append(waiting.next_at() - now)
        now = waiting.next_at()
        assert waiting.due(now) == [change]
    assert waits == [FIRST_WAIT, 0.5, 1.0, LONGEST_WAIT, LONGEST_WAIT, LONGEST_WAIT]


def test_a_deadline_does_not_wait_for_a_turn() -> None:
    """Who is to be told in time is given up in time, however many wait, and not tried first."""
    waiting = full(1_500)
    now = 3_600.0
    late = put(now + 5)
    waiting.add(late, "full", now)
    attempts(waiting, now, now + 5)
    assert waiting.late(now + 4.9) == []
    assert waiting.next_at() <= now + 5
    assert waiting.late(now + 5) == [(late, "full")]
    assert waiting.late(now + 6) == []


def test_what_is_over_is_not_tried() -> None:
    """What another change took the place of is skipped."""
    waiting, gone, there = Waiting(), put(), put()
    for change in (gone, there):
        waiting.add(change, "full", 0.0)
    gone.parked = False
    assert waiting.due(1.0) == [there]
