"""Following the bucket and writing to it, against a real server."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest

from gozo.protocol.headers import block
from gozo.protocol.inboxes import LENGTH
from gozo.protocol.subject_policy import Policy
from gozo.runtime.clock import wall_us
from gozo.runtime.clock_watch import ClockWatch
from gozo.runtime.tasks import end
from gozo.schedule.model import MICROSECONDS, NEVER, Entry, Reason, ScheduleRequest
from gozo.schedule.timetable import Item, Timetable
from gozo.settings.model import ConnectionSettings
from gozo.store.bucket import Bucket, open_bucket
from gozo.store.changes import Result
from gozo.store.follower import DELETION, Follower
from gozo.store.index import BucketIndex
from gozo.store.legacy_entries import LegacyEntries
from gozo.store.marker_cleaner import Cleaner
from gozo.store.message_cache import MessageCache
from gozo.store.schedule_store import ScheduleStore
from gozo.store.writer import Writer, WriteResult
from gozo.telemetry.events import NullEvents
from gozo.transport.commands import publication
from gozo.transport.connection import Connection
from gozo.transport.jetstream import JetStream, parse_time
from tests.support.client import Client
from tests.support.patience import allow, until
from tests.support.proxy import Proxy
from tests.support.raw import RawClient, request
from tests.support.server import NatsServer
from tests.support.storage import BYTES, Limit

FAR_US = 9_999_999_999_000_000


@dataclass
class Parts:
    """What stands between a daemon and its bucket."""

    connection: Connection
    bucket: Bucket
    timetable: Timetable
    index: BucketIndex
    follower: Follower
    store: ScheduleStore
    cache: MessageCache

    async def put(self, id_: str, due_us: int = FAR_US, payload: bytes = b"") -> Result:
        """Store a schedule, and return how that ended."""
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        schedule = ScheduleRequest(Entry(id_, "to", "1", due_us, 1), payload)
        self.store.put(schedule, lambda result, words: done.set_result(result))
        return await done

    async def cancel(self, id_: str) -> Result:
        """Cancel a schedule, and return how that ended."""
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.store.cancel(id_, lambda result, words: done.set_result(result))
        return await done

    async def look(self, id_: str) -> Result:
        """Read a schedule as one that is to be changed, change nothing, and return how it ended."""
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.store.look(id_, lambda *_: None, lambda result, words: done.set_result(result))
        return await done

    async def call(self, verb: str, body: object = None) -> dict[str, object]:
        """Call the JetStream API."""
        return await self.bucket.js.call(verb, body)  # type: ignore[arg-type]  # JSON

    async def knows(self, *ids: str) -> None:
        """Wait until exactly these are known."""
        await until(lambda: sorted(self.timetable.keys()) == sorted(ids), f"{ids} are known")


def some_clock() -> ClockWatch:
    """Make a watch over a clock that nobody sets."""
    return ClockWatch(lambda: None, lambda by_us: None)


@asynccontextmanager
async def parts(server: NatsServer | Proxy) -> AsyncIterator[Parts]:
    """Connect, directly or through a proxy, and follow the bucket `gozo`."""
    connection = Connection(ConnectionSettings(addresses=(server.url,)), "test")
    await connection.open(5)
    bucket = await open_bucket(JetStream(connection), "gozo", replicas=None)
    timetable = Timetable()
    index = BucketIndex(timetable, Policy("gozo"))
    writer = Writer(connection, bucket)
    cache = MessageCache(connection, bucket, Policy("gozo"), index)
    store = ScheduleStore(bucket, index, writer, cache, NullEvents())
    follower = Follower(connection, bucket, index, None, some_clock())
    legacy_entries = LegacyEntries(bucket, index)
    work = (connection.keep(), writer.sweep(), follower.run(), legacy_entries.run())
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await follower.loaded.wait()
        yield Parts(connection, bucket, timetable, index, follower, store, cache)
    finally:
        await end(*tasks)
        await connection.close()


async def test_who_sees_writes_cannot_forge_their_acknowledgements() -> None:
    """The reply subjects of two writes tell nothing about that of a third."""
    with NatsServer() as server:
        async with parts(server) as it:
            replies: list[bytes] = []
            it.connection.listen("$KV.gozo.>", lambda _, reply, __, ___: replies.append(reply))
            for number in range(3):
                await it.put(f"tea{number}")
            await until(lambda: len(replies) >= 3, "all writes were seen")
            tokens = [reply.rpartition(b".")[2] for reply in replies]
            assert len(set(tokens)) == 3
            assert {len(token) for token in tokens} == {LENGTH}


def entry(key: str, **headers: str) -> bytes:
    """Return the bytes of a foreign client that writes an entry."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return request(
        b"$KV.gozo." + key.encode("utf-8", "surrogateescape"),
        headers=f"NATS/1.0\r\n{lines}\r\n".encode(),
        payload=b"p",
    )


async def test_a_late_answer_tells_nothing() -> None:
    """What is answered once others may take the entry for late may or may not be stored."""
    with NatsServer() as server:
        async with parts(server) as it:
            writer = Writer(it.connection, it.bucket, answer_time=0.2)
            answered: asyncio.Queue[WriteResult] = asyncio.Queue()
            writer.write("early", b"", b"", 0, lambda outcome, *_: answered.put_nowait(outcome))
            assert await answered.get() is WriteResult.STORED
            writer.write("late", b"", b"", 0, lambda outcome, *_: answered.put_nowait(outcome))
            time.sleep(0.3)  # noqa: ASYNC251  # as a process that stands still
            assert await answered.get() is WriteResult.UNKNOWN


class WrongClock(Proxy):
    """A way to a server that says what its clock showed before it was set a minute forward."""

    def _answered(self, data: bytes) -> bytes:
        return re.sub(rb'(?<="ts":")[0-9T:-]{19}', self._shift, data)

    def _shift(self, shown: re.Match[bytes]) -> bytes:
        before = datetime.fromisoformat(shown[0].decode()) - timedelta(minutes=1)
        return before.isoformat().encode()


async def test_the_servers_clock_is_set_forward() -> None:
    """A create is dated by the clock as it was, and stored by the one that is: it was in time.

    It is written once more, so that others do not take it for late; what follows is dated right.
    """
    with NatsServer() as server:
        async with WrongClock(server.port) as way, parts(way) as it:
            assert await it.put("a") is Result.STORED
            await until(lambda: it.timetable.revision("a") > 1, "it was written once more")
            assert await it.put("b") is Result.STORED
            async with parts(server) as other:
                await other.knows("a", "b")
            await it.follower.agreed()
            assert it.timetable.revision("b") == 3


async def test_another_follower_sees_what_is_written() -> None:
    """What one replica stores, replaces and cancels, another one knows."""
    with NatsServer() as server:
        async with parts(server) as one, parts(server) as other:
            assert await one.put("a", 5_000_000) is Result.STORED
            assert await one.put("b") is Result.STORED
            assert await one.put("a", 7_000_000) is Result.REPLACED
            assert await one.cancel("b") is Result.CANCELLED
            await until(lambda: other.timetable.tombstone("b") is not None, "all is seen")
            assert other.timetable.pop_due(7_000_000 - 1, 5) == []
            assert [item.key for item in other.timetable.pop_due(7_000_000, 5)] == ["a"]
            tombstone = other.timetable.tombstone("b")
            assert tombstone is not None
            assert tombstone.reason is Reason.CANCELLED


async def test_only_what_is_due_soon_is_kept_once_it_is_stored() -> None:
    """What is due in an hour takes no memory from what is due in seconds."""
    with NatsServer() as server:
        async with parts(server) as one:
            now_us = 1_000_000_000_000_000
            one.timetable.approach(now_us, 1)
            await one.put("far", now_us + 3_600 * MICROSECONDS)
            await one.put("soon", now_us + 10 * MICROSECONDS)
            keys = one.timetable.keys()
            kept = [one.cache.get(Item(0, one.timetable.revision(key), key)) for key in keys]
            assert [outgoing is not None for outgoing in kept] == [key == "soon" for key in keys]


async def test_what_others_removed_or_replaced_takes_no_memory() -> None:
    """A message that is not to be sent any more is forgotten, whoever saw to that."""
    with NatsServer() as server:
        async with parts(server) as one, parts(server) as other:
            one.timetable.approach(FAR_US, 1)
            for key in ("altered", "cancelled", "moved", "replaced"):
                await one.put(key, FAR_US)
            items = [
                Item(FAR_US, one.timetable.revision(key), key)
                for key in sorted(one.timetable.keys())
            ]
            assert None not in [one.cache.get(item) for item in items]
            await other.knows("altered", "cancelled", "moved", "replaced")
            await other.cancel("cancelled")
            await other.put("replaced", NEVER)
            await one.put("moved", NEVER)
            one.store.alter("altered", lambda it: it._replace(due_us=NEVER), lambda *_: None)
            await until(lambda: len(one.cache._kept) == 0, "they are forgotten")
            assert one.cache._bytes == 0
            # Nor is it fetched, though it was asked for while it was good.
            one.cache.prepare(items)
            assert one.cache._fetching == {}


async def test_what_is_on_its_way_takes_room_until_it_is_here() -> None:
    """Wanted or not: the server cuts a link on which more waits than it holds back."""
    with NatsServer() as server:
        async with parts(server) as one:
            with RawClient(server.url) as client:
                client.send(entry("a", Gozo_When=str(FAR_US // MICROSECONDS), Gozo_Subject="to"))
                client.confirm()
            await one.knows("a")
            item = Item(FAR_US, one.timetable.revision("a"), "a")
            one.cache.fetch(item)
            one.cache.discard("a", item.revision)
            assert one.cache._flight > 0
            await until(lambda: one.cache._flight == 0, "it is here")


async def test_a_bucket_made_anew_is_read_anew() -> None:
    """The same key has the same revision there, and another message."""
    with NatsServer() as server:
        async with parts(server) as one:
            one.timetable.approach(FAR_US, 1)
            await one.put("a", FAR_US, b"old")
            item = Item(FAR_US, one.timetable.revision("a"), "a")
            assert one.cache.get(item) is not None
            await one.call("STREAM.DELETE.KV_gozo")
            await one.knows()
            with RawClient(server.url) as client:
                line = f"Gozo-When: {FAR_US // MICROSECONDS}\r\nGozo-Subject: to\r\n"
                for _ in range(item.revision):
                    headers = f"NATS/1.0\r\n{line}\r\n".encode()
                    client.send(request(b"$KV.gozo.a", headers=headers, payload=b"new"))
                client.confirm()
            await until(lambda: one.timetable.holds(item), "it has that revision again")
            assert one.cache.get(item) is None
            one.cache.fetch(item)
            await until(lambda: one.cache.get(item) is not None, "it is fetched")
            outgoing = one.cache.get(item)
            assert outgoing is not None
            assert outgoing.payload == b"new"


async def test_a_deleted_bucket_is_made_again_but_not_at_once() -> None:
    """The server may still be removing what the old one held: it would be in the new one again."""
    with NatsServer() as server:
        async with parts(server) as one:
            assert await one.put("old") is Result.STORED
            began_us = wall_us()
            await one.call("STREAM.DELETE.KV_gozo")
            await one.knows()
            created_us = parse_time((await one.bucket.state()).created)
            assert created_us - began_us > DELETION * MICROSECONDS
            assert await one.put("new") is Result.STORED
            await one.knows("new")


async def test_requests_for_one_id_keep_their_order() -> None:
    """Of many requests for one id, sent without waiting, the last one stands."""
    with NatsServer() as server:
        async with parts(server) as one:
            results = await asyncio.gather(
                *(one.put("a", FAR_US - number) for number in range(200)),
                one.cancel("a"),
                one.put("a", 42),
            )
            assert results[-2] is Result.CANCELLED
            assert [item.key for item in one.timetable.pop_due(42, 5)] == ["a"]
            assert one.timetable.keys() == ["a"]


async def test_a_replica_that_lost_the_lease_goes_on_with_its_own_keys() -> None:
    """What it wrote itself is no newer than what waits behind it; what another wrote is."""
    with NatsServer() as server:
        async with parts(server) as one, parts(server) as other:
            one.store.fence = one.follower.position
            assert await one.put("a") is Result.STORED
            assert await one.put("a") is Result.REPLACED
            assert await one.cancel("a") is Result.CANCELLED
            assert await one.put("a") is Result.STORED
            await other.knows("a")
            assert await other.put("a") is Result.REPLACED
            assert await one.put("a") is Result.SUPERSEDED
            assert await one.cancel("a") is Result.SUPERSEDED


async def test_a_write_of_somebody_else_is_noticed() -> None:
    """A revision that is not the expected one leads to another look, and then to the write."""
    with NatsServer() as server:
        async with parts(server) as one:
            await one.put("a")
            # Make the store believe in a revision that the bucket does not have.
            one.timetable.put("a", FAR_US, 1_000)
            assert await one.put("a", 77) is Result.REPLACED
            assert one.timetable.revision("a") == 2
            with RawClient(server.url) as client:
                client.send(entry("a", Gozo_When="9999999999", Gozo_Subject="to"))
                client.confirm()
            assert await one.cancel("a") is Result.CANCELLED


async def test_cancel_finds_what_was_stored_a_moment_ago() -> None:
    """A schedule that the follower has not seen yet is found at the stream's leader."""
    with NatsServer() as server:
        async with parts(server) as one:
            one.follower._break("test")
            with RawClient(server.url) as client:
                client.send(entry("late", Gozo_When="9999999999", Gozo_Subject="to"))
                client.confirm()

            async def stored() -> bool:
                return (await one.bucket.state()).keys == 1

            await until(stored, "JetStream has it, which is later than that the server has it")
            assert await one.cancel("late") is Result.CANCELLED
            assert await one.cancel("never") is Result.NOT_FOUND


async def test_settling_spares_a_newer_version() -> None:
    """What was delivered is removed; what replaced it meanwhile stays."""
    with NatsServer() as server:
        async with parts(server) as one:
            await one.put("a", 10)
            item = one.timetable.pop_due(20, 1)[0]
            await one.put("a", FAR_US)
            one.store.settle(item)
            await until(lambda: one.store.outstanding == 0, "it is settled")
            message = await one.bucket.read("a")
            assert message is not None
            assert message.sequence == one.timetable.revision("a")
            assert one.timetable.keys() == ["a"]


async def test_cancel_of_what_is_out_for_delivery() -> None:
    """Once it was taken for delivery, a cancel comes too late and says so."""
    with NatsServer() as server:
        async with parts(server) as one:
            await one.put("a", 10)
            item = one.timetable.pop_due(20, 1)[0]
            assert await one.cancel("a") is Result.ALREADY_DELIVERED
            one.store.settle(item)
            assert await one.cancel("a") is Result.ALREADY_DELIVERED


async def test_writes_go_on_after_the_server_was_away() -> None:
    """Writes wait while the server is away, and each is stored once."""
    with NatsServer() as server:
        async with parts(server) as one:
            server.kill()
            writing = [asyncio.create_task(one.put(f"k{number}")) for number in range(50)]
            await until(lambda: not one.connection.connected, "the loss is noticed")
            server.restart()
            assert set(await asyncio.gather(*writing)) == {Result.STORED}
            await one.knows(*(f"k{number}" for number in range(50)))


async def test_a_lost_answer_is_not_a_second_write() -> None:
    """A write that was stored though its answer was lost is recognised as one's own."""
    with NatsServer() as server:
        async with parts(server) as one:
            one.connection.on_connected.clear()
            writing = asyncio.create_task(one.put("a", 5))
            await asyncio.sleep(0)  # written, not yet answered
            one.connection.drop("test")
            assert await writing is Result.STORED
            state = await one.bucket.state()
            assert state.keys == 1
            message = await one.bucket.read("a")
            assert message is not None
            assert message.sequence == one.timetable.revision("a")


@pytest.mark.parametrize("fault", ["consumer", "restart", "kill", "drop"])
async def test_following_goes_on(fault: str) -> None:
    """Whatever ends the consumer, changes made afterwards are seen."""
    with NatsServer() as server:
        async with parts(server) as one:
            await one.put("before")
            match fault:
                case "consumer":
                    assert one.follower._consumer is not None
                    await one.call(f"CONSUMER.DELETE.KV_gozo.{one.follower._consumer.name}")
                case "drop":
                    one.connection.drop("test")
                case _:
                    server.kill() if fault == "kill" else server.stop()
                    server.restart()
            await until(lambda: one.connection.connected, "the link is back")
            with RawClient(server.url) as client:
                client.send(entry("after", Gozo_When="9999999999", Gozo_Subject="to"))
                client.confirm()
            await one.knows("after", "before")


async def test_headers_that_are_large_do_not_end_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    """A load asks for no more at a time than the server keeps for a client that is busy."""
    monkeypatch.setattr("gozo.store.ordered_consumer.MOST_BYTES", 512 * 1024)
    large = [f"n{number}" for number in range(400)]
    with NatsServer(config="max_pending: 4MB") as server, RawClient(server.url) as raw:
        async with parts(server):
            pass  # it makes the bucket
        for key in large:
            raw.send(entry(key, Gozo_When="+9999", Gozo_Subject="to", Large="x" * 60_000))
        raw.confirm()
        take = BucketIndex.take

        def take_first(self: BucketIndex, *message: Any) -> None:
            monkeypatch.setattr(BucketIndex, "take", take)
            time.sleep(1)  # meanwhile the server sends whatever it was asked for
            take(self, *message)

        monkeypatch.setattr(BucketIndex, "take", take_first)
        async with parts(server) as loaded:
            await loaded.knows(*large)
            assert loaded.connection.epoch == 1


async def test_a_purge_and_a_new_bucket_are_noticed() -> None:
    """What is gone from the bucket is gone from memory, though no marker says so."""
    with NatsServer() as server:
        async with parts(server) as one:
            await asyncio.gather(*(one.put(f"k{number}") for number in range(100)))
            await one.call("STREAM.PURGE.KV_gozo", {"filter": "$KV.gozo.k1"})
            one.follower.reload("test")
            await until(lambda: len(one.timetable) == 99, "the purged one is gone")
            await one.call("STREAM.DELETE.KV_gozo")
            await until(lambda: len(one.timetable) == 0, "all are gone")
            assert await one.put("new") is Result.STORED
            await one.knows("new")


async def test_who_waits_for_a_sequence_is_told_of_a_new_bucket() -> None:
    """It would never come: the new one counts from 1."""
    with NatsServer() as server:
        async with parts(server) as one:
            assert await one.put("a") is Result.STORED
            waiting = asyncio.create_task(one.follower.reached(1_000))
            await one.call("STREAM.DELETE.KV_gozo")
            assert not await asyncio.wait_for(waiting, allow(20))
            assert await one.put("b") is Result.STORED
            assert await one.follower.reached(1)


async def test_the_count_tells_of_a_purge() -> None:
    """The comparison with the server's count finds a purge, twice in a row to be sure."""
    with NatsServer() as server:
        async with parts(server) as one:
            await asyncio.gather(*(one.put(f"k{number}") for number in range(10)))
            await one.follower.reached(10)
            await one.follower._compare()
            assert one.follower._doubts == 0
            await one.call("STREAM.PURGE.KV_gozo", {"filter": "$KV.gozo.k1"})
            await one.follower._compare()
            await one.follower._compare()
            await until(lambda: len(one.timetable) == 9, "the purged one is gone")


async def test_the_count_is_compared_while_others_write() -> None:
    """What comes with the server's answer is in no count: nothing is loaded anew for it."""
    with NatsServer() as server:
        async with parts(server) as one:
            for number in range(50):
                one.follower._doubts = 0  # of the number of keys, which takes two in a row
                await asyncio.gather(
                    one.follower._compare(), *(one.put(f"k{number}.{n}") for n in range(40))
                )
                assert not one.follower._full
            assert one.follower._loads == 1


async def test_no_room_for_a_marker() -> None:
    """What is settled by a purge stays settled: for who did it, and for who leads next."""
    with NatsServer(storage=f"max_file: {BYTES}") as server:
        async with (
            parts(server) as one,
            parts(server) as other,
            await Client.connect(server.url) as client,
        ):
            await one.put("due", 10, b"sent")
            await one.put("far")
            await other.knows("due", "far")
            first = one.timetable.revision("due")
            message = await one.bucket.read("due")
            assert message is not None
            async with Limit("server", client):
                one.store.settle(one.timetable.pop_due(20, 1)[0])
                await until(lambda: one.store.outstanding == 0, "it is settled")
                assert await one.bucket.read("due") is None
                # It was still on its way here when it was purged.
                one.index.take("due", first, message.stored_us, message.headers)
                assert one.timetable.keys() == ["far"]
                assert await one.cancel("due") is Result.ALREADY_DELIVERED
                assert sorted(other.timetable.keys()) == ["due", "far"]
                await other.follower.agreed()
                assert other.timetable.keys() == ["far"]
                assert await other.cancel("far") is Result.CANCELLED
                assert await other.cancel("far") is Result.NOT_FOUND
                assert await one.cancel("far") is Result.NOT_FOUND
            assert await one.put("due", 30) is Result.STORED
            assert await one.cancel("due") is Result.CANCELLED
            message = await one.bucket.read("due")
            assert message is not None, "there is room for a marker again"


async def test_a_key_that_is_gone_is_noticed_when_it_is_due() -> None:
    """What was purged unnoticed is not sent, and forgotten as soon as it is to be read."""
    with NatsServer() as server:
        async with parts(server) as one, parts(server) as other:
            await one.put("a", 10)
            await one.put("b", 10)
            await other.knows("a", "b")
            other.cache.on_gone = other.follower.doubt
            await one.bucket.purge("a", one.timetable.revision("a"))
            items = other.timetable.pop_due(20, 2)
            for item in items:
                other.cache.fetch(item)
            await other.knows("b")
            assert [other.cache.get(item) is not None for item in items] == [False, True]


async def test_poison_is_kept_and_told_apart() -> None:
    """Entries that cannot be read stop nothing, are counted, and stay in the bucket."""
    with NatsServer() as server:
        async with parts(server) as one:
            with RawClient(server.url) as client:
                for key in ("bad\x0bkey", "\udcff\udcfe", "\u00e4"):
                    client.send(entry(key, Gozo_When="9999999999", Gozo_Subject="to"))
                client.send(entry("due", Gozo_Due="soon", Gozo_Subject="to"))
                client.send(entry("target", Gozo_When="1", Gozo_Subject="$JS.API.STREAM.DELETE.x"))
                client.send(entry("format", Gozo_Format="2"))
                client.send(request(b"$KV.gozo.block", headers=b"NATS/1.0", payload=b"x"))
                client.send(request(b"$KV.gozo.foreign", payload=b"x"))
                client.send(entry("good", Gozo_When="9999999999", Gozo_Subject="to"))
                client.confirm()
            await until(lambda: "good" in one.timetable, "the good one is known")
            await until(lambda: len(one.index.invalid) == 8, "the others are told apart")
            assert one.index.newer == {"format"}
            assert (await one.bucket.state()).keys == 9
            assert one.timetable.next_due() == FAR_US
            one.follower.reload("test")
            await until(one.follower.loaded.is_set, "it is loaded again")
            assert await one.put("foreign", 5) is Result.REPLACED
            await until(lambda: "foreign" not in one.index.invalid, "it is a good one now")


async def test_what_may_not_be_sent_is_neither_fetched_nor_altered() -> None:
    """Whichever way it came to be due: somebody wrote it where the follower had seen another."""
    with NatsServer() as server:
        async with parts(server) as one:
            with RawClient(server.url) as client:
                client.send(entry("a", Gozo_When="1", Gozo_Subject="$JS.API.STREAM.DELETE.x"))
                client.confirm()
            await until(lambda: "a" in one.timetable, "it is known")
            revision = one.timetable.revision("a")
            item = Item(1, revision, "a")
            arrived = asyncio.Event()
            one.cache.on_arrival = arrived.set
            one.cache.fetch(item)
            await arrived.wait()
            assert one.cache.get(item) is None
            assert one.cache.was_absent(item)
            done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
            one.store.alter("a", lambda it: it, lambda result, words: done.set_result(result))
            assert await done is Result.INVALID
            assert one.timetable.revision("a") == revision
            assert await one.put("a") is Result.REPLACED


async def test_payloads_are_fetched_by_their_version() -> None:
    """A message comes from the bucket byte for byte; an outdated version is never found."""
    payload = bytes(range(256)) * 100
    with NatsServer() as server:
        async with parts(server) as writer:
            await writer.put("a b", 10, payload)
            async with parts(server) as reader:
                item = reader.timetable.pop_due(20, 1)[0]
                assert reader.cache.get(item) is None
                reader.cache.fetch(item)
                await until(lambda: reader.cache.get(item) is not None, "it is fetched")
                outgoing = reader.cache.get(item)
                assert outgoing is not None
                assert outgoing.payload == payload
                assert outgoing.headers == b"NATS/1.0\r\nGozo-Reply: Yes\r\nGozo-Id: a b\r\n\r\n"
                old = Item(10, item.revision + 5, item.key)
                reader.cache.fetch(old)
                await until(lambda: not reader.cache._fetching, "the search has ended")
                assert reader.cache.get(old) is None


async def test_a_stale_write_is_refused() -> None:
    """An entry written with an outdated revision never replaces a newer one."""
    with NatsServer() as server:
        async with parts(server) as one:
            await one.put("a")
            await one.cancel("a")
            reply = await one.connection.request(
                "$KV.gozo.a", b"", headers=block(b"Gozo-Format: 1\r\n", 1)
            )
            assert json.loads(reply.payload)["error"]["err_code"] == 10071


async def test_old_markers_are_purged_and_nothing_else() -> None:
    """Where the server keeps markers for ever, the old ones go, and what came after stays."""
    with NatsServer() as server:
        connection = Connection(ConnectionSettings(addresses=(server.url,)), "admin")
        await connection.open(5)
        # As tools of NATS make a bucket, with markers that do not end by themselves.
        plain = {"name": "KV_gozo", "subjects": ["$KV.gozo.>"], "max_msgs_per_subject": 1}
        await JetStream(connection).call("STREAM.CREATE.KV_gozo", plain)
        await connection.close()
        async with parts(server) as one:
            assert not one.bucket.marker_ttl
            for id_ in ("gone", "back", "kept"):
                await one.put(id_)
            for id_ in ("gone", "back"):
                assert await one.cancel(id_) is Result.CANCELLED
            await one.put("back")
            cleaner = Cleaner(one.bucket, one.index)
            assert await cleaner.purge(wall_us()) == 0
            assert await cleaner.purge(wall_us() + 601_000_000) == 1
            assert (await one.bucket.state()).keys == 2
            assert one.timetable.revision("gone") == 0
            assert await one.put("gone") is Result.STORED
            await one.knows("back", "gone", "kept")


async def test_markers_that_cannot_be_purged_alone_stay() -> None:
    """A marker whose key the server would take for a pattern, or not find, costs no other key.

    Nor does it pass for a difference between the bucket and what is known of it.
    """
    keys = (b"*", b">", b"a.*", b"\xff\xfe", b"b'\\xff\\xfe'", b"form\x0cfeed")
    marker = b"NATS/1.0\r\nKV-Operation: DEL\r\n\r\n"
    with NatsServer() as server:
        async with parts(server) as one:
            for id_ in ("a", "a.b", "c.d"):
                await one.put(id_)
            for key in keys:
                one.connection.write(publication(b"$KV.gozo." + key, b"", marker))
            await one.follower.reached(3 + len(keys))
            cleaner = Cleaner(one.bucket, one.index)
            assert await cleaner.purge(wall_us() + 601_000_000) == 2
            cleaner.forget(wall_us() + 601_000_000)
            assert (await one.bucket.state()).keys == 3 + len(keys) - 2
            for _ in range(2):
                await one.follower._compare()
            assert one.follower._doubts == 0
            await one.knows("a", "a.b", "c.d")


async def test_what_the_server_would_not_take_is_not_sent() -> None:
    """An entry above max_payload is refused here: there it would cost the connection."""
    with NatsServer(config="max_payload: 20000") as server:
        async with parts(server) as one:
            assert await one.put("large", payload=b"x" * 20_000) is Result.REFUSED
            assert await one.put("small", payload=b"x" * 10_000) is Result.STORED
            assert one.connection.epoch == 1
