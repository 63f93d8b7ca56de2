"""What is left of schedules that are over, against a real server: next to nothing."""

from __future__ import annotations

import asyncio
import gc
import sys

from gozo.runtime.clock import wall_us
from gozo.runtime.memory import Memory
from gozo.runtime.tasks import end
from gozo.schedule.model import MICROSECONDS, Entry, Reason, ScheduleRequest
from gozo.schedule.timetable import Item
from gozo.store.changes import Result
from gozo.store.forgetter import Forgetter
from tests.support.patience import until
from tests.support.server import NatsServer
from tests.support.store import FAR_US, Parts, parts

COUNT = 20_000
LATER_US = 3600 * MICROSECONDS


async def deliver(it: Parts, run: int, count: int) -> None:
    """Store schedules, and settle them as the leader does that has delivered them."""
    for number in range(count):
        while not it.store.has_room:
            await it.store.progress()
        schedule = ScheduleRequest(Entry(f"order {run}-{number}", "to", "1", 1, 1), b"")
        it.store.put(schedule, lambda result, words: None)
    await until(lambda: len(it.timetable) == count + 1, "all are stored")
    for item in it.timetable.due_before(FAR_US):
        while not it.store.has_room:
            await it.store.progress()
        it.store.settle(Item(*item))
    await until(lambda: len(it.timetable) == 1, "all are settled")
    it.store.fence.forget_own()


def forgetter(it: Parts) -> asyncio.Task[None]:
    """Forget what is over, as if an hour had gone by: the life of every marker is over."""
    work = Forgetter(it.timetable, lambda: wall_us() + LATER_US)
    return asyncio.create_task(work.run())


async def test_what_was_delivered_takes_a_few_bytes() -> None:
    """Leader and standby know what became of 20,000, and keep no object for any of them."""
    with NatsServer() as server:
        async with parts(server) as leader, parts(server) as standby:
            both = (leader, standby)
            await leader.put("pending")
            tasks = [forgetter(it) for it in both]
            blocks = 0
            for run, count in enumerate((COUNT // 20, COUNT)):  # the first fills what is kept
                blocks = sys.getallocatedblocks()
                await deliver(leader, run, count)
                for it in both:
                    await until(lambda it=it: it.index.keys == 1, "all are forgotten")
                    assert it.timetable.keys() == ["pending"]
                    assert it.timetable.departure(f"order=20{run}-0") is Reason.DELIVERED
                gc.collect()
                blocks = sys.getallocatedblocks() - blocks
            await end(*tasks)
            assert blocks < COUNT / 10
            for it in both:
                memory = Memory((it.timetable, it.index, it.cache, it.store))
                memory.give_back(1e6, quiet=True)
                rows = map(sys.getsizeof, memory._containers())
                assert it.timetable.departures.bytes + sum(rows) < 40 * COUNT
            assert await leader.cancel("order 1-0") is Result.ALREADY_DELIVERED


async def test_markers_that_are_forgotten_before_the_server_removes_them_are_not_missed() -> None:
    """Only if more is gone, or more is there, than that explains, is the bucket loaded anew."""
    with NatsServer() as server:
        async with parts(server) as it:
            loads = it.follower._loads
            await it.put("pending")
            await deliver(it, 0, 10)
            assert it.timetable.forget_ended(wall_us() + LATER_US, 5)
            await it.follower.agreed()
            assert it.follower._loads == loads
            await it.call("STREAM.PURGE.KV_gozo")
            await it.follower.agreed()
            assert it.follower._loads == loads + 1
