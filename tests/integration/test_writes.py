"""Writes that the bucket does not take, for now or for ever, against a real server."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gozo.protocol.subject_policy import UNLIMITED
from gozo.runtime.clock import steady
from gozo.schedule.model import Entry, ScheduleRequest
from gozo.store.changes import NO_DEADLINE, Put, Result
from gozo.store.writer import Writer
from tests.support.patience import allow, until
from tests.support.server import NatsServer
from tests.support.store import FAR_US, Parts, parts

LARGE = bytes(20_000)
ROOM = 10_000  # bytes that the bucket may take: a small schedule, and no large one


@asynccontextmanager
async def full() -> AsyncIterator[Parts]:
    """Follow a bucket that has room for small schedules and for no large one."""
    with NatsServer() as server:
        async with parts(server) as one:
            await set_up(one, max_bytes=ROOM)
            yield one


async def set_up(one: Parts, **settings: object) -> None:
    """Change settings of the stream."""
    config: Any = (await one.call("STREAM.INFO.KV_gozo"))["config"]
    await one.call("STREAM.UPDATE.KV_gozo", config | settings)


def waiting_in(one: Parts) -> int:
    """How many changes wait for the bucket to take them."""
    return len(one.store._queue._retries.waiting.queue)


def begin(
    one: Parts, id_: str, payload: bytes, *, deadline: float = NO_DEADLINE
) -> asyncio.Future[Result]:
    """Begin to store a schedule; the result comes once there is one."""
    done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    request = ScheduleRequest(Entry(id_, "to", "1", FAR_US, 1), payload)
    one.store.put(request, lambda result, words: done.set_result(result), deadline=deadline)
    return done


async def stuck(one: Parts, id_: str, **more: float) -> asyncio.Future[Result]:
    """Begin to store what there is no room for, and wait until that is known."""
    done = begin(one, id_, LARGE, **more)
    queue = one.store._queue
    change = (queue.active[id_], *queue.behind.of(id_))[-1]
    assert isinstance(change, Put)
    await until(lambda: change.parked, "it waits")
    return done


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count writes by key."""
    counted: Counter[str] = Counter()
    write = Writer.write

    def count(self: Writer, key: str, *rest: Any) -> None:
        counted[key] += 1
        write(self, key, *rest)

    monkeypatch.setattr(Writer, "write", count)
    return counted


async def test_what_is_refused_for_good_ends_at_once(
    monkeypatch: pytest.MonkeyPatch, tried: Counter[str]
) -> None:
    """A header block that is too large, and a message larger than the stream's limit: one try."""
    with NatsServer() as server:
        async with parts(server) as one:
            assert await headers_of(one, "here", 65_000) is Result.REFUSED
            monkeypatch.setattr("gozo.store.writer.LARGEST_BLOCK", UNLIMITED)
            assert await headers_of(one, "there", 65_000) is Result.REFUSED
            assert await headers_of(one, "there", 64_000) is Result.STORED
            await set_up(one, max_msg_size=5_000)
            assert await one.put("large", payload=LARGE) is Result.REFUSED
            assert await one.put("large", payload=b"small") is Result.STORED
    assert tried == {"here": 1, "there": 2, "large": 2}


async def headers_of(one: Parts, id_: str, size: int) -> Result:
    """Store a schedule with headers of so many bytes, beside what gozo adds."""
    done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
    entry = Entry(id_, "to", "1", FAR_US, 1, headers=b"X: %b\r\n" % (b"x" * (size + 500)))
    one.store.put(ScheduleRequest(entry, b""), lambda result, words: done.set_result(result))
    return await done


async def test_a_marker_that_is_refused_for_good() -> None:
    """Where the stream takes no marker with an end, since it was made anew, entries are purged."""
    with NatsServer() as server:
        async with parts(server) as one:
            config: Any = (await one.call("STREAM.INFO.KV_gozo"))["config"]
            await one.call("STREAM.DELETE.KV_gozo")
            await one.call("STREAM.CREATE.KV_gozo", config | {"allow_msg_ttl": False})
            await one.follower.reloaded("test")
            assert await one.put("a") is Result.STORED
            assert await one.cancel("a") is Result.CANCELLED
            assert await one.bucket.read("a") is None


async def test_what_waits_can_be_cancelled() -> None:
    """A cancel need not wait for a schedule that was never stored; it is not stored later."""
    async with full() as one:
        waiting = await stuck(one, "a")
        assert await one.cancel("a") is Result.CANCELLED
        assert await waiting is Result.SUPERSEDED
        assert await one.put("b") is Result.STORED
        waiting = await stuck(one, "b")
        assert await one.cancel("b") is Result.CANCELLED
        await set_up(one, max_bytes=-1)
        assert await one.put("c", payload=LARGE) is Result.STORED
        assert one.timetable.keys() == ["c"]
        assert one.store.outstanding == 0


async def test_what_waits_can_be_replaced() -> None:
    """Another schedule goes first; where it is not stored either, the earlier one waits on."""
    async with full() as one:
        waiting = await stuck(one, "a")
        assert await one.put("a") is Result.STORED
        assert await waiting is Result.SUPERSEDED

        waiting = await stuck(one, "b")
        assert await headers_of(one, "b", 66_000) is Result.REFUSED
        in_time = begin(one, "b", LARGE, deadline=steady() + 0.5)
        assert await in_time is Result.UNAVAILABLE
        assert not waiting.done()
        others = [await stuck(one, "b") for _ in range(3)]
        await set_up(one, max_bytes=-1)
        async with asyncio.timeout(allow(10)):
            assert await others[-1] is Result.STORED
        assert {waiting.result(), *(one.result() for one in others[:-1])} == {Result.SUPERSEDED}
        assert one.store.outstanding == 0


def is_stopped(pid: int) -> bool:
    """Tell whether all threads of a process are stopped (proc(5))."""
    stats = Path(f"/proc/{pid}/task").glob("*/stat")
    return {stat.read_text().rpartition(")")[2].split()[0] for stat in stats} == {"T"}


async def test_who_waits_behind_another_is_answered_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is behind a change that may have been made, and so gives no way, keeps its deadline."""
    monkeypatch.setattr("gozo.store.writer.ANSWER_TIME", 0.2)
    with NatsServer() as server:
        async with parts(server) as one:
            server.freeze()
            await until(lambda: is_stopped(server.pid), "the server stands still")
            first = begin(one, "a", b"")
            before = begin(one, "a", b"", deadline=steady() + 1)
            await until(lambda: waiting_in(one) == 1, "the first waits")
            after = begin(one, "a", b"", deadline=steady() + 0.5)
            async with asyncio.timeout(allow(10)):
                assert [await before, await after] == [Result.UNAVAILABLE] * 2
            assert not first.done()
            server.thaw()
            async with asyncio.timeout(allow(10)):
                assert await first is Result.STORED
            assert one.store.outstanding == 0


async def test_many_that_wait_cost_others_little(tried: Counter[str]) -> None:
    """Five hundred that cannot be stored, and a thousand that can: few of the others are tried."""
    async with full() as one:
        await set_up(one, max_bytes=400_000)
        waiting = [begin(one, f"n{number}", LARGE) for number in range(500)]
        await until(lambda: sum(tried.values()) >= 500, "all were tried")
        await until(lambda: one.writer.in_flight == 0, "all were answered")
        began, before = steady(), sum(tried.values())
        for number in range(1_000):
            assert await one.put(f"small{number % 10}") in (Result.STORED, Result.REPLACED)
        rounds = (steady() - began) / 0.25 + 1
        assert sum(tried.values()) - before - 1_000 <= rounds * (4 + 1) + 1
        await set_up(one, max_bytes=-1)
        async with asyncio.timeout(allow(20)):
            await asyncio.gather(*waiting)
        assert one.store.outstanding == 0


@pytest.mark.parametrize("lead", [1, 2])
async def test_a_lost_link_and_what_waited(lead: int) -> None:
    """Changes that waited for the server are all made once it is back."""
    with NatsServer() as server:
        async with parts(server) as one:
            await one.put("before")
            server.stop()
            await until(lambda: not one.connection.connected, "the link is lost")
            waiting = [begin(one, f"n{number}", b"") for number in range(200 * lead)]
            await until(lambda: waiting_in(one) == 200 * lead, "all wait")
            server.start()
            async with asyncio.timeout(allow(20)):
                await asyncio.gather(*waiting)
