"""`gozo.client` looks: lists, watches and listens, whoever wrote what is there."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import msgpack
import pytest

from gozo.client import Change, Client
from gozo.errors import (
    RequestError,
)
from tests.support.patience import allow, until
from tests.support.places import LATER, Place, listed, write
from tests.support.processes import Clients, Servers
from tests.support.raw import RawClient, request


async def test_states(servers: Servers) -> None:
    """Each schedule is listed with its state and the reason, the unreadable ones included."""
    server = servers.start()
    async with await Client.connect(server.url) as client:
        await client.schedule("to", when=LATER, id="pending")
        write(server, "overdue", Gozo_Subject="to", Gozo_When="+1", Gozo_Due="1000")
        retry = {"Gozo_State": "retrying", "Gozo_Tried": "3", "Gozo_Reason": "no stream"}
        write(server, "retrying", Gozo_Subject="to", Gozo_When="1000", Gozo_Next="9000.5", **retry)
        failed = {"Gozo_State": "failed", "Gozo_Tried": "3", "Gozo_Reason": "no stream"}
        write(server, "failed", Gozo_Subject="to", Gozo_When="1000", **failed)
        write(server, "=61", Gozo_Subject="to", Gozo_When="+1h")
        write(server, "soon", Gozo_Subject="to", Gozo_When="soon")
        write(server, "mine", Gozo_Subject="$SYS.x", Gozo_When="+1h")
        write(server, "foreign", b"something else")
        write(server, "=_barrier", b"")
        old = msgpack.packb({"when": 4_000_000_000, "subject": "to", "payload": b"old"})
        write(server, "original", old)
        write(server, "deleted", b"", KV_Operation="DEL")
        found = await listed(client)
        states = {key: schedule.state for key, schedule in found.items()}
        assert states == {
            "pending": "pending",
            "overdue": "overdue",
            "retrying": "retrying",
            "failed": "failed",
            "=61": "invalid",
            "soon": "invalid",
            "mine": "invalid",
            "foreign": "invalid",
            "original": "pending",
        }
        assert found["=61"].id is None
        assert (found["soon"].id, found["soon"].when) == ("soon", "soon")
        assert "error at position" in found["soon"].reason
        assert "'$'" in found["mine"].reason
        assert (found["retrying"].tried, found["retrying"].reason) == (3, "no stream")
        assert found["retrying"].next == datetime(1970, 1, 1, 2, 30, 0, 500_000, tzinfo=UTC)
        assert (found["original"].size, found["original"].payload) == (3, None)
        assert found["original"].due == datetime.fromtimestamp(4_000_000_000, UTC)
        whole = await client.get("original")
        assert whole is not None
        assert whole.payload == b"old"
        assert [done.status for done in await client.cancel("soon", "foreign")] == ["cancelled"] * 2
        assert (await client.reschedule("failed", LATER)).id == "failed"
        again = await client.get("failed")
        assert again is not None
        assert (again.state, again.tried) == ("pending", 0)
        write(server, "soon", Gozo_Subject="to", Gozo_When="soon")
        with pytest.raises(RequestError, match="invalid"):
            await client.reschedule("soon", LATER)


async def test_odd_key_of_an_original(servers: Servers) -> None:
    """The original gozo used ids as keys as they are; such a schedule is found by its id."""
    server = servers.start()
    async with await Client.connect(server.url) as client:
        await client.schedule("to", when=LATER, id="other")
        old = msgpack.packb({"when": 4_000_000_000, "subject": "to", "payload": b"old"})
        write(server, "a=b", old)
        assert (await client.reschedule("a=b", LATER)).replaced
        found = await listed(client, "to")
        assert set(found) == {"other", "a=3Db"}
        whole = await client.get("a=b")
        assert whole is not None
        assert whole.payload == b"old"
        write(server, "c=d", old)
        assert (await client.schedule("to", b"new", when=LATER, id="c=d")).replaced
        write(server, "e=f", old)
        assert [done.status for done in await client.cancel("e=f")] == ["cancelled"]
        assert set(await listed(client)) == {"other", "a=3Db", "c=3Dd"}


async def test_a_list_is_complete(servers: Servers) -> None:
    """Each schedule is listed once, also while all of them are being put off."""
    server = servers.start()
    async with await Client.connect(server.url) as client, await Client.connect(server.url) as two:
        ids = [f"id-{number}" for number in range(3_000)]
        for start in range(0, len(ids), 500):
            some = ids[start : start + 500]
            await asyncio.gather(*(client.schedule("to", when=LATER, id=id_) for id_ in some))

        async def disturb() -> None:
            while True:
                for id_ in reversed(ids):
                    await two.reschedule(id_, LATER)

        disturbance = asyncio.create_task(disturb())
        try:
            for _ in range(5):
                seen = []
                async for schedule in client.list():
                    seen.append(schedule.id)
                    if len(seen) % 100 == 0:
                        await asyncio.sleep(0.005)
                assert sorted(filter(None, seen)) == sorted(ids)
        finally:
            disturbance.cancel()
            await asyncio.gather(disturbance, return_exceptions=True)


class Watch:
    """What a watcher has seen."""

    def __init__(self, client: Client) -> None:
        self._changes = client.watch()
        self.seen: list[Change] = []

    async def until(self, kind: str, id_: str | None = None, **fields: object) -> Change:
        """Return the next change of a kind, of an id."""
        async with asyncio.timeout(allow(10)):
            async for change in self._changes:
                self.seen.append(change)
                if change.kind == kind and change.id == id_:
                    assert {name: getattr(change, name) for name in fields} == fields
                    return change
        raise AssertionError("the watch ended")


async def test_watch(client: Client, new: str) -> None:
    """A watcher is told what is there, that this was all, and each change with its reason."""
    await client.schedule("to", b"before", when=LATER, id=f"{new}/1")
    watch = Watch(client)
    await watch.until("current")
    before = [change for change in watch.seen if change.id == f"{new}/1"]
    assert [change.kind for change in before] == ["put"]
    assert before[0].schedule is not None
    assert (before[0].schedule.size, before[0].schedule.payload) == (6, None)
    await client.schedule("to", b"after", when=LATER, id=f"{new}/2")
    await watch.until("put", f"{new}/2")
    await client.cancel(f"{new}/1")
    await watch.until("removed", f"{new}/1", reason="cancelled")


async def test_watch_outlives_the_link(servers: Servers) -> None:
    """What changed while the link was lost is told once it is back: also what left no trace."""
    server = servers.start()
    async with await Client.connect(server.url) as client, await Client.connect(server.url) as two:
        for id_ in ("cancelled", "purged", "stays"):
            await client.schedule("to", when=LATER, id=id_)
        watch = Watch(client)
        await watch.until("current")
        client._connection.drop("test")
        await two.cancel("cancelled")
        await two._reader.js.call("STREAM.PURGE.KV_gozo", {"filter": "$KV.gozo.purged"})
        await two.schedule("to", when=LATER, id="new")
        watch.seen.clear()
        await watch.until("put", "new")
        await watch.until("removed", "purged", reason="")
        told = [(change.kind, change.id) for change in watch.seen]
        assert sorted(told, key=str) == [
            ("put", "new"),
            ("removed", "cancelled"),
            ("removed", "purged"),
        ]
        links = two._connection.epoch
        server.restart()
        await until(lambda: two._connection.epoch > links, "the link is back")
        await two.schedule("to", when=LATER, id="newer")
        await watch.until("put", "newer")


async def test_watch_before_there_is_a_bucket(servers: Servers) -> None:
    """A watcher waits for the bucket, and sees it being deleted and made again."""
    server = servers.start()
    async with await Client.connect(server.url) as client, await Client.connect(server.url) as two:
        watch = Watch(client)
        await watch.until("current")
        assert await two.bucket() is None
        await two.schedule("to", when=LATER, id="a")
        await watch.until("put", "a")
        await two._reader.js.call("STREAM.DELETE.KV_gozo")
        await watch.until("removed", "a", reason="")
        await two.schedule("to", when=LATER, id="b")
        await watch.until("put", "b")


async def test_listen(client: Client, place: Place, clients: Clients, new: str) -> None:
    """Once entered it hears everything, with headers in order and what comes twice."""
    other = await clients.connect(place.server)
    async with client.listen(f"{new}.*") as messages:
        with RawClient(place.server.url) as raw:
            block = b"NATS/1.0\r\nA: 1\r\nb: 2\r\nA: 3\r\n\r\n"
            raw.send(request(f"{new}.x".encode(), reply=b"r", headers=block, payload=b"\xff"))
            raw.confirm()
        async with asyncio.timeout(allow(5)):
            message = await anext(messages)
    assert (message.subject, message.payload, message.reply) == (f"{new}.x", b"\xff", "r")
    assert message.headers == (("A", "1"), ("b", "2"), ("A", "3"))
    assert abs(message.at - datetime.now(UTC)) < timedelta(seconds=10)
    await other.nats.publish(f"{new}.x", b"not heard any more")
    await other.confirm()
    async with client.listen(f"{new}.*") as messages:
        await client.request(f"{new}.x", b"heard", when="+0") if place.daemon else (
            await other.nats.publish(f"{new}.x", b"heard")
        )
        async with asyncio.timeout(allow(5)):
            assert (await anext(messages)).payload == b"heard"
    for subject in ("", "a..b", "a b", ".a", "a\r\nPUB x 0"):
        with pytest.raises(RequestError, match="invalid subject"):
            client.listen(subject)
