"""Runs that wait for other runs of their schedule."""

from __future__ import annotations

import asyncio

from gozo.delivery.run_queue import RunQueue
from gozo.delivery.wakeup import Wakeup
from gozo.schedule.model import NEVER, Entry, Run, State
from gozo.schedule.timetable import Timetable
from gozo.store.run_index import RunIndex

NOW_US = 1_795_000_000_000_000
FIRST, SECOND = "=_run.a.1-1", "=_run.a.1-2"


class World:
    """A queue in which the second of two runs waits for the first."""

    def __init__(self, give_up_us: int = NEVER) -> None:
        self.woken = 0
        self.timetable, self.index = Timetable(), RunIndex()
        self.queue = RunQueue(self.timetable, self.index, Wakeup(self.wake))
        self.run = Entry(*("a", "to", "1", NOW_US, 1), run=Run("a", "1-2", give_up_us=give_up_us))
        self.first = self.run._replace(state=State.RUNNING, run=Run("a", "1-1", sent_us=1))
        self.index.note(FIRST, self.first)
        self.index.note(SECOND, self.run)
        self.timetable.put(SECOND, NOW_US, 1)
        (item,) = self.timetable.pop_due(NOW_US, 9)
        assert self.run.run is not None
        self.queue.add(item, self.run.run)

    def wake(self) -> None:
        """Count the calls."""
        self.woken += 1

    def popped(self, now_us: int = NOW_US) -> list[str]:
        """Return the keys of the runs that are due."""
        return [item.key for item in self.timetable.pop_due(now_us, 9)]


async def test_it_waits_for_another() -> None:
    """Once the other run is settled, by any replica, this one is due, and the sender is woken."""
    world = World()
    assert world.popped() == []
    assert world.timetable.next_due() is None
    world.index.note(FIRST, world.first._replace(state=State.RETRYING))
    assert world.popped() == []
    world.index.note(FIRST, None)
    await asyncio.sleep(0)
    assert (world.woken, world.popped()) == (1, [SECOND])


async def test_what_waits_is_given_up_in_time() -> None:
    """A run is due again when it is too late for it, and never after it was given up."""
    world = World(give_up_us=NOW_US + 5)
    assert world.popped(NOW_US + 5) == []
    assert world.popped(NOW_US + 6) == [SECOND]
    world.index.note(SECOND, world.run._replace(state=State.FAILED))
    world.timetable.put(SECOND, NEVER, 2)
    world.index.note(FIRST, None)
    assert world.popped(NOW_US + 7) == []


async def test_another_leader() -> None:
    """A replica that steps down forgets what waits, and finds it again if it leads."""
    world = World()
    world.queue.clear()
    assert world.popped() == [SECOND]


async def test_a_run_that_is_gone() -> None:
    """Once its schedule was cancelled, a run no longer waits."""
    world = World()
    world.index.note(SECOND, None)
    world.timetable.remove(SECOND, 2)
    world.index.note(FIRST, None)
    assert world.popped() == []
