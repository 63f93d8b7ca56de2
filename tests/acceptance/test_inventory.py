"""What is over costs those who look nothing: the leader says which keys there are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest
from nats.aio.msg import Msg

from gozo.client import Client, Counts
from gozo.client.loading import FEW
from gozo.settings.model import ConnectionSettings
from tests.support.aged import age, followed, keys, read_by_consumers
from tests.support.client import Client as Plain
from tests.support.gozoctl import Gozoctl
from tests.support.patience import allow
from tests.support.places import LATER, listed, write
from tests.support.processes import Clients, Daemons, Servers
from tests.support.rights import LOGIN, admin, withholding
from tests.support.runs import put_run, run_of
from tests.support.server import NatsServer

MARKERS = FEW + 1_000
WAITING = 120


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    """Run a server for the module, with a daemon that leads."""
    with NatsServer() as server, Daemons() as daemons:
        daemon = daemons.start("serve", "--address", server.url)
        daemon.find_event("daemon.ready", {"role": "leader"}, since=0, timeout=allow(10))
        yield server


@pytest.fixture(scope="module")
def ids(server: NatsServer) -> list[str]:
    """Fill its bucket: delete markers, and some schedules in between."""
    return age(server, MARKERS, WAITING)


@pytest.fixture
async def plain(server: NatsServer, ids: list[str], clients: Clients) -> Plain:
    """Connect as others would, once the leader has seen what is there."""
    client = await clients.connect(server)
    await followed(client)
    return client


@pytest.fixture
async def client(server: NatsServer) -> AsyncIterator[Client]:
    """Connect gozo's client."""
    async with await Client.connect(server.url) as client:
        yield client


async def test_markers_are_not_read(
    server: NatsServer, plain: Plain, client: Client, ids: list[str], tmp_path: Path
) -> None:
    """Lists, counts and completions are complete, and the server sends no marker for them."""
    before = await read_by_consumers(plain)
    assert set(ids) <= set(await listed(client))
    assert (await client.count()).schedules >= WAITING
    ctl = Gozoctl(tmp_path, server.url)
    assert set(ids) <= set(ctl.ok("list", "-o", "id").out.split())
    assert ctl.ok("status", "-o", "json").json["schedules"] >= WAITING
    complete = {"_GOZOCTL_COMPLETE": "complete_fish"}
    line = complete | {"_TYPER_COMPLETE_ARGS": "gozoctl inspect wait-000"}
    offered = ctl.run(variables=line).out.splitlines()[1:]
    assert [one.partition("\t")[0] for one in offered] == ids[:10]
    line = complete | {"_TYPER_COMPLETE_ARGS": "gozoctl list --subject to.wait-0"}
    assert len(ctl.run(variables=line).out.splitlines()[1:]) == WAITING
    assert await read_by_consumers(plain) - before < MARKERS // 10


@asynccontextmanager
async def calls(plain: Plain) -> AsyncIterator[list[str]]:
    """Record all calls of the JetStream API."""
    called: list[str] = []

    async def note(message: Msg) -> None:
        called.append(message.subject.removeprefix("$JS.API."))

    subscription = await plain.nats.subscribe("$JS.API.>", cb=note)
    await plain.confirm()
    yield called
    await plain.confirm()
    await subscription.unsubscribe()


async def test_many_schedules_are_read_with_one_request(plain: Plain, client: Client) -> None:
    """One request for all keys is answered much faster than one for each."""
    async with calls(plain) as called:
        assert len(await listed(client)) >= WAITING
    assert called.count("DIRECT.GET.KV_gozo") == 1
    assert called.count("STREAM.MSG.GET.KV_gozo") < WAITING // 10


async def test_the_same_as_a_full_read(server: NatsServer, client: Client, plain: Plain) -> None:
    """Whatever is stored, readable or not, is listed and counted as by who reads everything."""
    await client.schedule("to", b"x" * 20_000, when=LATER, id="large")
    await client.schedule("to", when=LATER, id="ü.=..")
    await client.schedule("to", when="@every 1h", id="recurs")
    await client.schedule("to", when=LATER)
    await client.pause("recurs", note="why")
    write(server, "failed", Gozo_Subject="to", Gozo_When="1000", Gozo_State="failed")
    write(server, "soon", Gozo_Subject="to", Gozo_When="soon")
    write(server, "foreign", b"something else")
    write(server, "a=b", msgpack.packb({"when": 4_000_000_000, "subject": "to", "payload": b"old"}))
    write(server, "deleted", b"", KV_Operation="DEL")
    await followed(plain)
    everything = await read_fully(server)
    before = await read_by_consumers(plain)
    assert await listed(client) == everything
    assert await read_by_consumers(plain) - before < MARKERS // 10
    assert {one.state for one in everything.values()} == {
        *("pending", "paused", "failed", "invalid")
    }
    due = [one.due for one in everything.values() if one.state == "pending"]
    assert await client.count() == Counts(len(everything), 0, 1, 1, 2, min(due), failing=1)
    found = [one.id async for one in client.list(prefix="ü.=")]
    assert found == ["ü.=.."]
    assert [one.id async for one in client.list(prefix="a=")] == ["a=b"]


async def test_runs_are_found_by_the_prefix_of_their_id(
    server: NatsServer, client: Client, plain: Plain
) -> None:
    """Their keys begin differently, but a list by prefix includes them."""
    key = put_run(server, run_of("wait-0001"))
    await followed(plain)
    before = await read_by_consumers(plain)
    found = {one.key async for one in client.list(prefix="wait-0001")}
    assert found == {"wait-0001", key}
    assert await read_by_consumers(plain) - before < MARKERS // 10
    assert (await listed(client))[key].is_run


async def test_what_was_just_stored_is_counted(
    server: NatsServer, client: Client, plain: Plain
) -> None:
    """Also an entry that a leader has to read on its own, since its message has no headers."""
    known = (await client.count()).invalid
    for number in range(20):
        write(server, f"foreign-{number}", b"something else")
        assert (await client.count()).invalid == known + number + 1


async def read_fully(server: NatsServer) -> dict[str, Any]:
    """List the schedules as who finds no leader."""
    alone = ConnectionSettings(addresses=(server.url,), request_subject="nobody")
    async with await Client.connect(alone) as client:
        return await listed(client)


async def test_pages(plain: Plain, ids: list[str], client: Client) -> None:
    """While others come and go, what stays is in one page, once, and all keys are in order."""
    stays, goes = ids[10:100:2], ids[11:100:2]
    seen: list[str] = []
    after, number = "", 0
    while True:
        answer: dict[str, Any] = await keys(plain, prefix="wait-0", after=after, limit=7)
        assert len(answer["keys"]) <= 7
        seen += [key for key, _ in answer["keys"]]
        if not answer["more"]:
            break
        after = seen[-1]
        await client.cancel(goes[number % len(goes)])
        await client.schedule("to", when=LATER, id=f"wait-00{number % 10}x")
        await client.schedule("to", when=LATER, id=stays[number % len(stays)])
        number += 1
    assert number > 10
    assert seen == sorted(set(seen))
    assert set(stays) <= set(seen)
    assert all(key.startswith("wait-0") for key in seen)
    await asyncio.gather(*(client.schedule("to", when=LATER, id=id_) for id_ in goes))


async def test_a_list_is_complete(server: NatsServer, client: Client, ids: list[str]) -> None:
    """Each schedule that stays is listed once, while all are put off and others come and go."""
    stay = set(ids[:100])

    async def disturb(two: Client) -> None:
        number = 0
        while True:
            for id_ in reversed(ids[:100]):
                number += 1
                await two.reschedule(id_, LATER)
                await two.schedule("to", when=LATER, id=f"short-{number}")
                await two.cancel(f"short-{number}")

    async with await Client.connect(server.url) as two:
        disturbance = asyncio.create_task(disturb(two))
        try:
            for number in range(10):
                await client.schedule("to", when=LATER, id=f"new-{number}")
                stay.add(f"new-{number}")
                seen = [one.key async for one in client.list()]
                assert len(seen) == len(set(seen))
                assert stay <= set(seen)
            assert not disturbance.done()
        finally:
            disturbance.cancel()
            await asyncio.gather(disturbance, return_exceptions=True)


BAD = [b"[]", b"{", b'{"prefix": 1}', b'{"limit": -1}', b'{"limit": "x"}', b'{"counts": 1}']


@pytest.mark.parametrize("asked", BAD)
async def test_bad_questions(plain: Plain, asked: bytes) -> None:
    """They are refused, with a sentence, and the next one is answered."""
    reply = json.loads((await plain.nats.request("gozo.admin.keys", asked)).data)
    assert (reply["status"], reply["error"]) == ("refused", "invalid_request")
    assert reply["message"]
    assert "schedules" in await keys(plain)


class FalseLeader:
    """Answers as a leader would that knows no more than it is given."""

    def __init__(self, client: Plain, answer: dict[str, Any]) -> None:
        self.answer = answer
        self.asked = 0
        self._client = client

    async def listen(self) -> None:
        """Answer from now on."""
        await self._client.nats.subscribe("gozo.admin.keys", cb=self._tell)
        await self._client.confirm()

    async def _tell(self, message: Msg) -> None:
        self.asked += 1
        await message.respond(json.dumps(self.answer).encode())


@pytest.fixture
async def false_leader(servers: Servers, clients: Clients) -> AsyncIterator[tuple[Client, Any]]:
    """Run a server with an aged bucket and no daemon, and a leader that is none."""
    server = servers.start()
    plain = await clients.connect(server)
    async with await Client.connect(server.url) as client:
        await client.schedule("to", when=LATER, id="first")
        age(server, MARKERS, 20)
        before = {one.id: one async for one in client.list()}
        info = json.loads((await plain.nats.request("$JS.API.STREAM.INFO.KV_gozo")).data)
        rows = sorted((one.key, one.revision) for one in before.values())
        leader = FalseLeader(
            plain,
            {
                "bucket": "gozo",
                "created": info["created"],
                "position": info["state"]["last_seq"],
                "schedules": len(rows),
                "keys": rows,
                "more": False,
                "bytes": 0,
            },
        )
        await leader.listen()
        yield client, leader


async def test_what_the_leader_has_not_seen(false_leader: tuple[Client, FalseLeader]) -> None:
    """A leader may be behind: what was stored or removed since is read from the stream."""
    client, leader = false_leader
    assert len(await listed(client)) == 21
    await client.schedule("elsewhere", when=LATER, id="first")
    await client.schedule("to", when=LATER, id="second")
    await client.cancel("wait-0003")
    found = [one async for one in client.list()]
    assert leader.asked >= 2
    assert len(found) == 21
    by_id = {one.id: one for one in found}
    assert by_id["first"].subject == "elsewhere"
    assert "second" in by_id
    assert "wait-0003" not in by_id
    assert (await client.count()).schedules == 21


@pytest.mark.parametrize(
    "wrong",
    [
        {"created": "2020-01-01T00:00:00Z"},
        {"bucket": "another"},
        {"position": 1 << 40},
        {"keys": [["wait-0000", 1]]},
        {"keys": "x"},
        {"bytes": 1 << 30},
        {"status": "refused", "created": None},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
async def test_a_leader_that_cannot_tell(
    false_leader: tuple[Client, FalseLeader], wrong: dict[str, Any]
) -> None:
    """One of another bucket, of one that was restored since, or of no sense: all is read."""
    client, leader = false_leader
    leader.answer |= wrong
    assert len(await listed(client)) == 21
    assert leader.asked


@pytest.mark.parametrize("kind", ["subscribe", "publish"])
async def test_without_the_permission(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path, kind: str
) -> None:
    """A daemon that may not be asked delivers, and who may not ask it reads the bucket."""
    server = servers.start()
    async with await Client.connect(server.url) as client:
        await client.schedule("to", when=LATER, id="first")
    ids = ["first", *age(server, MARKERS, 20)]
    server.configure(withholding(kind, "gozo.admin.keys"))
    server.restart()
    await daemons.serve(server, *LOGIN)
    ctl = Gozoctl(tmp_path, server.url)
    said = ctl.ok("status", *LOGIN, "-o", "json").json
    assert (said["schedules"], said["delivers"]) == (21, True)
    assert sorted(ctl.ok("list", *LOGIN, "-o", "id").out.split()) == ids
    plain = await admin(clients, server)
    assert await read_by_consumers(plain) > MARKERS


async def test_without_the_permission_for_batches(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """Each schedule is read by itself from the stream's leader."""
    server = servers.start()
    async with await Client.connect(server.url) as client:
        await client.schedule("to", when=LATER, id="first")
    ids = ["first", *age(server, MARKERS, 20)]
    server.configure(withholding("publish", "$JS.API.DIRECT.GET.KV_gozo"))
    server.restart()
    await daemons.serve(server, "--user", "admin", "--password", "p")
    plain = await admin(clients, server)
    await followed(plain)
    ctl = Gozoctl(tmp_path, server.url)
    async with calls(plain) as called:
        assert sorted(ctl.ok("list", *LOGIN, "-o", "id").out.split()) == ids
    assert called.count("STREAM.MSG.GET.KV_gozo") >= len(ids)
    assert await read_by_consumers(plain) < 2 * MARKERS
