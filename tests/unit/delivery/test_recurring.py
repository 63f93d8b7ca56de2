"""The occurrences of recurring schedules, while the bucket is slow to store the next one."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gozo.delivery.failures import Failures
from gozo.delivery.recurring import Occurrences
from gozo.delivery.wakeup import Wakeup
from gozo.protocol.deliveries import delivery
from gozo.runtime.clock_watch import ClockWatch
from gozo.schedule.model import (
    MICROSECONDS,
    Confirm,
    Confirmation,
    Entry,
    ScheduleSpec,
    State,
)
from gozo.schedule.timetable import Item, Timetable
from gozo.store.changes import OnResult, Result
from gozo.telemetry.events import NullEvents
from gozo.telemetry.stats import Stats
from tests.support.patience import until

NOW_US = 1_763_871_234_000_000


class SlowStore:
    """Takes changes on, and has none of them stored."""

    has_room = True

    def __init__(self, *, keeps: bool = True) -> None:
        """`keeps`: whether there is room for another dead letter."""
        self.keeps = keeps
        self.kept: list[tuple[str, Entry, bytes, OnResult]] = []
        self.occupied: set[str] = set()
        self.wanted: set[str] = set()
        self.written: list[Entry] = []

    def occupy(self, item: Item) -> None:
        """Keep changes by others waiting."""
        self.occupied.add(item.key)

    def vacate(self, key: str) -> None:
        """Let them go on."""
        self.occupied.discard(key)

    def is_wanted(self, key: str) -> bool:
        """Tell whether one waits."""
        return key in self.wanted

    def has_room_for_dead_letter(self, key: str) -> bool:
        """Tell whether there is room."""
        return self.keeps

    def keep(self, key: str, entry: Entry, payload: bytes, on_result: OnResult) -> None:
        """Store a dead letter."""
        self.kept.append((key, entry, payload, on_result))

    def advance(
        self, key: str, entry: Entry, payload: bytes, on_result: Any, may_yield: Callable[[], bool]
    ) -> None:
        """Take on the next state."""
        self.written.append(entry)


def made(store: SlowStore, timetable: Timetable) -> Occurrences:
    """What is under way, with nothing in the cache."""
    clock = ClockWatch(lambda: None)
    return Occurrences(
        cast(Any, store),
        timetable,
        cast(Any, SimpleNamespace(get=lambda item: None, discard=lambda *_: None)),
        Failures(Stats(), NullEvents(), clock),
        clock,
        Wakeup(lambda: None),
    )


async def test_the_next_occurrence_comes_from_memory() -> None:
    """Under its schedule's key, by a number that no version in the bucket has."""
    store, timetable = SlowStore(), Timetable()
    entry = Entry(
        *("a", "to", "@every 1s", NOW_US, NOW_US),
        next_us=NOW_US,
        spec=ScheduleSpec(recurs=True),
    )
    timetable.put("a", NOW_US, 7)
    [first] = timetable.pop_due(NOW_US, 1)
    occurrences = made(store, timetable)
    occurrences.begin(first)
    assert occurrences.is_current(first)
    occurrences.sending(first, delivery(entry, b"p"), NOW_US)
    occurrences.delivered(first)
    assert occurrences.next_due() is None
    await until(lambda: bool(store.written), "it is advanced")

    later_us = NOW_US + 60 * MICROSECONDS
    [second] = occurrences.pop_due(later_us, 9)
    assert (second.key, second.revision < 0) == ("a", True)
    assert not occurrences.is_current(first)
    message = occurrences.message(second)
    assert message is not None
    assert (message.payload, message.due_us > NOW_US) == (b"p", True)

    occurrences.give_back(second, later_us + 5)  # it cannot be sent yet
    assert occurrences.next_due() == later_us + 5
    assert occurrences.pop_due(later_us + 4, 9) == []
    [second] = occurrences.pop_due(later_us + 5, 9)

    occurrences.give_back(second)  # a change by others waits for it
    assert occurrences.pop_due(later_us + 5, 9) == [second]
    store.wanted.add("a")
    assert not occurrences.is_current(second)
    occurrences.give_back(second)
    assert occurrences.pop_due(later_us + 5, 9) == []


def failing(store: SlowStore, timetable: Timetable) -> tuple[Occurrences, Item]:
    """Return a recurring schedule with a dead letter whose only attempt has failed."""
    entry = Entry(
        *("a", "to", "@every 1s", NOW_US, NOW_US),
        attempts=1,
        confirm=True,
        spec=ScheduleSpec(recurs=True, occurred=4),
        confirmation=Confirmation(Confirm.STREAM, dead_letter="dead"),
    )
    timetable.put("a", NOW_US, 7)
    [item] = timetable.pop_due(NOW_US, 1)
    occurrences = made(store, timetable)
    occurrences.begin(item)
    occurrences.sending(item, delivery(entry, b"p"), NOW_US)
    occurrences.failed(item, "full")
    return occurrences, item


@pytest.mark.parametrize("result", [Result.STORED, Result.REPLACED, Result.REFUSED])
async def test_a_schedule_goes_on_once_its_dead_letter_is_stored(result: Result) -> None:
    """It waits until then, but not for a dead letter that can never be stored."""
    store = SlowStore()
    failing(store, Timetable())
    [(key, kept, payload, on_result)] = store.kept
    assert (key, kept.state, payload) == (f"=_run.a.d{NOW_US:x}-5", State.FAILED, b"p")
    assert store.written == []
    on_result(result, "")
    [written] = store.written
    assert written.spec is not None
    assert (written.spec.occurred, written.state, written.tried) == (5, State.PENDING, 0)


async def test_a_dead_letter_that_another_leader_sees_to() -> None:
    """The occurrence is unchanged: the other leader tries it again."""
    store, timetable = SlowStore(), Timetable()
    _, item = failing(store, timetable)
    [(_, _, _, on_result)] = store.kept
    on_result(Result.SUPERSEDED, "")
    assert (store.written, store.occupied) == ([], set())
    assert timetable.pop_due(NOW_US, 1) == [item]


async def test_no_more_dead_letters_than_there_is_room_for() -> None:
    """Without room the occurrence is given up without one, and the schedule continues."""
    store = SlowStore(keeps=False)
    failing(store, Timetable())
    assert store.kept == []
    assert len(store.written) == 1
