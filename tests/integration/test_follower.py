"""Following the bucket, against a real server."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import datetime, timedelta
from typing import Any

import pytest

from gozo.runtime.clock import wall_us
from gozo.schedule.model import MICROSECONDS, Reason
from gozo.schedule.timetable import Item
from gozo.settings.model import ConnectionSettings
from gozo.store.changes import Result
from gozo.store.follower import DELETION
from gozo.store.index import BucketIndex
from gozo.store.marker_cleaner import Cleaner
from gozo.transport.commands import publication
from gozo.transport.connection import Connection
from gozo.transport.jetstream import JetStream, parse_time
from tests.support.patience import allow, until
from tests.support.proxy import Proxy
from tests.support.raw import RawClient, request
from tests.support.server import NatsServer
from tests.support.store import FAR_US, entry, parts


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


async def test_a_key_that_is_gone_is_noticed_when_it_is_due() -> None:
    """What was purged unnoticed is not sent, and forgotten as soon as it is to be read."""
    with NatsServer() as server:
        async with parts(server) as one, parts(server) as other:
            await one.put("a", 10)
            await one.put("b", 10)
            await other.knows("a", "b")
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
                client.send(entry("format", Gozo_Format="3"))
                client.send(request(b"$KV.gozo.block", headers=b"NATS/1.0", payload=b"x"))
                client.send(request(b"$KV.gozo.foreign", payload=b"x"))
                client.send(entry("good", Gozo_When="9999999999", Gozo_Subject="to"))
                client.confirm()
            await until(lambda: "good" in one.timetable, "the good one is known")
            await until(lambda: len(one.index.traits.invalid) == 8, "the others are told apart")
            assert one.index.traits.newer == {"format"}
            assert (await one.bucket.state()).keys == 9
            assert one.timetable.next_due() == FAR_US
            one.follower.reload("test")
            await until(one.follower.loaded.is_set, "it is loaded again")
            assert await one.put("foreign", 5) is Result.REPLACED
            await until(lambda: "foreign" not in one.index.traits.invalid, "it is a good one now")


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
            cleaner = Cleaner(one.bucket, one.timetable, wall_us)
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
            cleaner = Cleaner(one.bucket, one.timetable, wall_us)
            assert await cleaner.purge(wall_us() + 601_000_000) == 2
            cleaner.forget(wall_us() + 601_000_000)
            assert (await one.bucket.state()).keys == 3 + len(keys) - 2
            for _ in range(2):
                await one.follower._compare()
            assert one.follower._doubts == 0
            await one.knows("a", "a.b", "c.d")
