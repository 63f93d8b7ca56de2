"""Writing to the bucket and reading messages from it, against a real server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from functools import partial

from gozo.protocol.headers import block
from gozo.protocol.inboxes import LENGTH
from gozo.runtime.clock import wall_us
from gozo.schedule.model import MICROSECONDS, NEVER, Confirm, Confirmation, Entry, Run
from gozo.schedule.timetable import Item
from gozo.store.changes import Put, Result
from gozo.store.writer import Writer, WriteResult
from tests.support.client import Client
from tests.support.patience import allow, until
from tests.support.raw import RawClient
from tests.support.server import NatsServer
from tests.support.storage import BYTES, Limit
from tests.support.store import FAR_US, entry, parts


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


async def test_each_write_hears_its_own_answer() -> None:
    """Each writer has an inbox, and each write a token in it."""
    with NatsServer() as server:
        async with parts(server) as it:
            answered: asyncio.Queue[tuple[str, WriteResult]] = asyncio.Queue()

            def note(name: str, outcome: WriteResult, *_: object) -> None:
                answered.put_nowait((name, outcome))

            one, other = (Writer(it.connection, it.bucket) for _ in range(2))
            for writer, name, expected in ((one, "a", 0), (other, "b", 0), (one, "c", 9)):
                writer.write(name, b"", b"", expected, partial(note, name))
            async with asyncio.timeout(allow(5)):
                assert {await answered.get() for _ in range(3)} == {
                    ("a", WriteResult.STORED),
                    ("b", WriteResult.STORED),
                    ("c", WriteResult.CONFLICT),
                }
            assert one.in_flight == other.in_flight == 0


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


async def test_a_change_is_answered_once_its_runs_are_ended() -> None:
    """Otherwise a leader that takes over just then could retry them."""
    with NatsServer() as server:
        async with parts(server) as it:
            ends: dict[str, Callable[[], None]] = {}
            it.hooks.end_runs = ends.__setitem__
            for id_ in ("tea", "milk"):
                await it.put(id_)
                run = Entry(
                    *(id_, "to", "1", FAR_US, 1),
                    confirmation=Confirmation(Confirm.REPLY),
                    run=Run(id_, "1"),
                )
                it.index.traits.note(f"=_run.{id_}.1", run)
            replaced, cancelled = (
                asyncio.create_task(work) for work in (it.put("tea"), it.cancel("milk"))
            )
            await until(lambda: ends.keys() == {"milk", "tea"}, "both are written")
            await it.put("water")  # is answered behind them
            assert not replaced.done()
            assert not cancelled.done()
            for end in ends.values():
                end()
            assert await replaced is Result.REPLACED
            assert await cancelled is Result.CANCELLED


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
            one.store.fence.put_up(one.follower.position)
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
            assert message.sequence == one.timetable.revision("a") == 1


async def test_what_is_awaited_is_not_late() -> None:
    """An entry seen before its acknowledgement is in time, though the server's clock was set."""
    with NatsServer() as server:
        async with parts(server) as one:
            writing = asyncio.create_task(one.put("a"))
            await asyncio.sleep(0)  # written, not yet answered
            change = one.store._queue.active["a"]
            assert isinstance(change, Put)
            now_us = wall_us()
            headers = block(change.lines(now_us / MICROSECONDS), 0)
            one.index.take("a", 1, now_us + 60 * MICROSECONDS, headers, 0)
            assert one.store.outstanding == 0, "it is known to be stored"
            assert await writing is Result.STORED
            assert one.timetable.keys() == ["a"]


async def test_fetches_end_with_the_bucket() -> None:
    """What was asked for of a bucket that was replaced is not waited for."""
    with NatsServer() as server:
        async with parts(server) as one:
            await one.put("a")
            one.cache.fetch(Item(FAR_US, one.timetable.revision("a"), "a"))
            assert one.cache._fetching
            one.index.clear()
            assert not one.cache._fetching


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
            one.hooks.wake = arrived.set
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


async def test_what_the_server_would_not_take_is_not_sent() -> None:
    """An entry above max_payload is refused here: there it would cost the connection."""
    with NatsServer(config="max_payload: 20000") as server:
        async with parts(server) as one:
            assert await one.put("large", payload=b"x" * 20_000) is Result.REFUSED
            assert await one.put("small", payload=b"x" * 10_000) is Result.STORED
            assert one.connection.epoch == 1
