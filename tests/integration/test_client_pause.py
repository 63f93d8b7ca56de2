"""`gozo.client` pauses, resumes and triggers schedules."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from gozo.client import Answer, Client, Wanted
from gozo.errors import NoServerError, RequestError
from gozo.schedule.model import ScheduleSpec
from tests.support.patience import allow
from tests.support.places import LATER, Place
from tests.support.processes import Clients, Daemons, Servers


async def test_pause_and_resume(client: Client, new: str) -> None:
    """Paused, a schedule is kept as it is, with a note; resumed, it is as it was before."""
    await client.schedule("to", b"p", when=LATER, id=new, headers={"X": "y"}, confirm=True)
    before = await client.get(new)
    assert before is not None
    assert await client.pause(new, f"{new}-none", note="till\nMonday") == [
        Answer(new, "paused"),
        Answer(f"{new}-none", "not_found"),
    ]
    paused = await client.get(new)
    assert paused is not None
    assert (paused.state, paused.reason) == ("paused", "till Monday")
    assert paused._replace(state="pending", reason="", revision=before.revision) == before
    assert await client.resume(new) == [Answer(new, "resumed")]
    resumed = await client.get(new)
    assert resumed is not None
    assert resumed._replace(revision=before.revision) == before


async def test_pause_and_resume_again(client: Client, new: str) -> None:
    """Who pauses or resumes twice writes nothing, but for another note."""
    await client.schedule("to", when=LATER, id=new)
    revisions = []
    for attempt in (
        client.resume(new),
        client.pause(new, note="a"),
        client.pause(new),
        client.pause(new, note="a"),
        client.pause(new, note="b"),
    ):
        ((answer),) = await attempt
        assert answer.status in ("paused", "resumed")
        found = await client.get(new)
        assert found is not None
        revisions.append((found.revision, found.reason))
    first, second, third, fourth, fifth = revisions
    assert second == third == fourth
    assert (second[1], fifth[1]) == ("a", "b")
    assert first[0] < second[0] < fifth[0]


async def test_what_is_applied_stays_paused(client: Client, new: str) -> None:
    """A file of schedules that changes one does not resume it, and keeps the note."""
    wanted = Wanted(new, "to", "@every 1h", b"1", spec=ScheduleSpec(recurs=True), managed_by=new)
    await client.apply([wanted])
    await client.pause(new, note="why")
    await client.apply([replace(wanted, payload=b"2")])
    found = await client.get(new)
    assert found is not None
    assert (found.payload, found.state, found.reason) == (b"2", "paused", "why")


async def test_what_cannot_be_paused(client: Client) -> None:
    """A note that is too long and an id that is none are refused before anything is sent."""
    with pytest.raises(RequestError, match="201 characters"):
        await client.pause("a", note="x" * 201)
    for attempt in (client.pause(""), client.resume(""), client.trigger("")):
        with pytest.raises(RequestError, match="is empty"):
            await attempt


async def test_pause_many(client: Client, new: str) -> None:
    """Each of more ids than fit into one message has its answer, in order."""
    ids = [f"{new}-{number:04}" for number in range(1_203)]
    for id_ in ids[::400]:
        await client.schedule("to", when=LATER, id=id_)
    answers = await client.pause(*ids, timeout=allow(5))
    assert [answer.id for answer in answers] == ids
    assert [answer.id for answer in answers if answer.status == "paused"] == ids[::400]


async def test_a_paused_schedule_waits(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """Past its time, and through a restart, it is not delivered before it is resumed."""
    server = servers.start()
    daemon = await daemons.serve(server)
    arrivals = await (await clients.connect(server)).arrivals()
    async with await Client.connect(server.url) as client:
        when = datetime.now(UTC) + timedelta(seconds=1)
        await client.schedule(arrivals.subject, b"paused", when=when, id="a")
        await client.pause("a")
        await client.schedule(arrivals.subject, b"later", when=when + timedelta(seconds=0.1))
        await arrivals.wait()
        assert arrivals.payloads == [b"later"]
        await daemon.terminate()
        await daemons.serve(server)
        await client.schedule(arrivals.subject, b"last", when="+0")
        await arrivals.wait(2)
        assert (await client.resume("a"))[0].status == "resumed"
        await arrivals.wait(3)
        assert arrivals.payloads == [b"later", b"last", b"paused"]
        assert arrivals.all[-1].headers["Gozo-Id"] == "a"


async def test_trigger(client: Client, place: Place, clients: Clients, new: str) -> None:
    """What is triggered comes at once, once, with all it has, and the schedule stays."""
    arrivals = await (await clients.connect(place.server)).arrivals(new)
    headers = {"X": "y", "Nats-Msg-Id": "m"}
    await client.schedule(new, b"p", when=LATER, id=new, headers=headers)
    if not place.daemon:
        with pytest.raises(NoServerError, match="no daemon listens on gozo"):
            await client.trigger(new)
        return
    before = await client.get(new)
    now = datetime.now(UTC)
    assert await client.trigger(new, f"{new}-none") == [
        Answer(new, "triggered"),
        Answer(f"{new}-none", "not_found"),
    ]
    (arrival,) = await arrivals.wait()
    assert (arrival.data, arrival.headers["Gozo-Id"], arrival.headers["X"]) == (b"p", new, "y")
    due = datetime.fromisoformat(arrival.headers["Gozo-Due"])
    assert abs(due - now) < timedelta(seconds=30)
    assert arrival.headers["Nats-Msg-Id"] == f"m@{arrival.headers['Gozo-Due']}"
    assert await client.get(new) == before
    await client.pause(new)
    assert await client.trigger(new) == [Answer(new, "triggered")]
    await arrivals.wait(2)
    paused = await client.get(new)
    assert paused is not None
    assert paused.state == "paused"


async def test_many_large_ones(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """More than a server keeps for a link are triggered at once; each has its answer, in order."""
    server = servers.start()
    await daemons.serve(server)
    arrivals = await (await clients.connect(server)).arrivals()
    ids = [f"{number:03}" for number in range(100)]
    async with await Client.connect(server.url) as client:
        for id_ in ids:
            await client.schedule(arrivals.subject, b"x" * 1_000_000, when=LATER, id=id_)
        answers = await client.trigger(*ids, timeout=allow(20))
        assert answers == [Answer(id_, "triggered") for id_ in ids]
        await arrivals.wait(100)
        assert {len(payload) for payload in arrivals.payloads} == {1_000_000}
        assert sorted(one.headers["Gozo-Id"] for one in arrivals.all) == ids


async def test_trigger_what_a_stream_confirms(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """The answer is the stream's: `failed` where there is none, `triggered` once it has it."""
    server = servers.start()
    await daemons.serve(server)
    other = await clients.connect(server)
    async with await Client.connect(server.url) as client:
        await client.schedule("jobs.a", when=LATER, id="a", confirm=True)
        (answer,) = await client.trigger("a")
        assert (answer.status, "no stream" in answer.reason) == ("failed", True)
        await other.nats.jetstream().add_stream(name="JOBS", subjects=["jobs.>"])
        assert await client.trigger("a") == [Answer("a", "triggered")]
        info = await other.nats.jetstream().stream_info("JOBS")
        assert info.state.messages == 1
        found = await client.get("a")
        assert found is not None
        assert (found.state, found.tried) == ("pending", 0)


async def test_trigger_what_may_not_be_published(servers: Servers, daemons: Daemons) -> None:
    """A subject that the server refuses is told, and not tried again."""
    users = (
        '{ user: gozo, password: p, permissions: { publish: { deny: ["secret"] } } },'
        "{ user: u, password: p }"
    )
    server = servers.start(f"authorization {{ users: [ {users} ] }}")
    address = server.url.replace("nats://", "nats://gozo:p@")
    daemon = await daemons.serve(address)
    async with await Client.connect(server.url.replace("nats://", "nats://u:p@")) as client:
        await client.schedule("secret", when=LATER, id="a")
        (answer,) = await client.trigger("a")
        assert answer.status == "failed"
        assert "no permission to publish" in answer.reason
        assert not daemon.events("delivery.postponed")


async def test_trigger_while_the_lead_changes(servers: Servers, daemons: Daemons) -> None:
    """Asked of a daemon that has just ended, the next one delivers."""
    server = servers.start()
    first = await daemons.serve(server, "--name", "first")
    await daemons.serve(server, "--name", "second")
    async with await Client.connect(server.url) as client, client.listen("to") as messages:
        await client.schedule("to", when=LATER, id="a")
        await first.kill()
        asked = asyncio.create_task(client.trigger("a", timeout=allow(15)))
        message = await anext(messages)
        assert ("Gozo-Id", "a") in message.headers
        assert await asked == [Answer("a", "triggered")]
