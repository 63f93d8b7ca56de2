"""`gozo.client` changes schedules: the same promises with a daemon and without one."""

from __future__ import annotations

import asyncio
import json
import signal
from datetime import UTC, datetime, timedelta

import pytest
from nats.aio.msg import Msg

from gozo.client import Client, ExistsError, NotFoundError, Outcome, Stored, UnansweredError
from gozo.errors import (
    NoServerError,
    RequestError,
)
from tests.support.client import Arrivals
from tests.support.patience import allow, until
from tests.support.places import LATER, Place, listed
from tests.support.processes import Clients, Daemons, Servers

ODD_IDS = [
    "plain",
    "with space",
    ".dots..",
    "a=b",
    "ä/ö",
    "_x",
    "=_x",
    "*",
    ">",
    "x" * 1024,
    "\x0b",
]


async def test_schedule_and_get(client: Client, new: str) -> None:
    """What was scheduled is read back whole, and has the due time that was answered."""
    before = datetime.now(UTC)
    stored = await client.schedule(
        f"to.{new}",
        b"\x00\xffbytes",
        when="+1h30m",
        id=new,
        headers=[("X-One", "1"), ("x-two", "ä: b"), ("X-One", "again"), ("Nats-Msg-Id", "m")],
        confirm=True,
        attempts=7,
    )
    assert (stored.id, stored.replaced) == (new, False)
    assert timedelta(0) <= stored.due - before - timedelta(hours=1.5) < timedelta(seconds=5)
    found = await client.get(new)
    assert found is not None
    assert found.due == stored.due
    assert found.payload == b"\x00\xffbytes"
    assert found.headers == (
        ("X-One", "1"),
        ("x-two", "ä: b"),
        ("X-One", "again"),
        ("Nats-Msg-Id", "m"),
    )
    assert (found.id, found.key, found.subject, found.when) == (new, new, f"to.{new}", "+1h30m")
    assert (found.state, found.size, found.confirm, found.attempts) == ("pending", 7, True, 7)
    assert before - timedelta(seconds=1) <= found.created <= datetime.now(UTC)
    in_list = (await listed(client, f"to.{new}"))[new]
    assert (in_list.payload, in_list.size, in_list.headers) == (None, 7, found.headers)


@pytest.mark.parametrize("id_", ODD_IDS)
async def test_odd_ids(client: Client, new: str, id_: str) -> None:
    """Any id serves for everything: stored, listed, read, put off, cancelled."""
    subject = f"odd.{new}"
    await client.schedule(subject, b"x", when=LATER, id=id_)
    assert [schedule.id for schedule in (await listed(client, subject)).values()] == [id_]
    moment = datetime(2099, 1, 2, 3, 4, 5, 600_007, tzinfo=UTC)
    assert await client.reschedule(id_, moment) == Stored(id_, moment, replaced=True)
    found = await client.get(id_)
    assert found is not None
    assert (found.due, found.payload) == (moment, b"x")
    assert [done.status for done in await client.cancel(id_)] == ["cancelled"]
    assert await client.get(id_) is None


async def test_replace(client: Client, new: str) -> None:
    """A second schedule with an id replaces the first; with `replace=False` it is refused."""
    first = await client.schedule("to", b"1", when=LATER, id=new, replace=False)
    second = await client.schedule("to", b"2", when=LATER, id=new)
    assert (first.replaced, second.replaced) == (False, True)
    with pytest.raises(ExistsError, match=new):
        await client.schedule("to", b"3", when=LATER, id=new, replace=False)
    found = await client.get(new)
    assert found is not None
    assert found.payload == b"2"
    await client.cancel(new)
    assert not (await client.schedule("to", b"4", when=LATER, id=new, replace=False)).replaced
    assert [done.status for done in await client.cancel(new)] == ["cancelled"]


async def test_only_one_is_first(client: Client, new: str) -> None:
    """Of many that schedule the same id at once without replacing, exactly one does."""

    async def attempt(number: int) -> int:
        try:
            await client.schedule("to", b"%d" % number, when=LATER, id=new, replace=False)
        except ExistsError:
            return 0
        return number

    winners = [n for n in await asyncio.gather(*map(attempt, range(1, 21))) if n]
    assert len(winners) == 1
    found = await client.get(new)
    assert found is not None
    assert found.payload == b"%d" % winners[0]


async def test_without_id(client: Client, place: Place, new: str, clients: Clients) -> None:
    """A schedule without an id is stored as well, listed as such, and delivered without one."""
    subject = f"to.{new}"
    arrivals = await (await clients.connect(place.server)).arrivals(subject)
    stored = await client.schedule(subject, b"x", when="+0.5")
    assert stored.id is None
    assert [schedule.id for schedule in (await listed(client, subject)).values()] == [None]
    if place.daemon:
        (arrival,) = await arrivals.wait()
        assert "Gozo-Id" not in arrival.headers


async def test_list_by_subject(client: Client, new: str) -> None:
    """A subject keeps those that are sent to it, with the wildcards of NATS."""
    for number, tail in enumerate(["a.b", "a.b.c", "x"]):
        await client.schedule(f"{new}.{tail}", when=LATER, id=f"{new}/{number}")
    for pattern, expected in {
        "a.b": {0},
        "a.*": {0},
        "a.>": {0, 1},
        ">": {0, 1, 2},
        "*": {2},
        "*.b.*": {1},
        "a": set(),
    }.items():
        found = await listed(client, f"{new}.{pattern}")
        assert set(found) == {f"{new}/{number}" for number in expected}, pattern


@pytest.mark.parametrize(
    ("code", "asked"),
    [
        ("forbidden_subject", {"subject": "$JS.API.STREAM.DELETE.KV_gozo"}),
        ("forbidden_subject", {"subject": "gozo"}),
        ("forbidden_subject", {"subject": "a b"}),
        ("forbidden_subject", {"subject": "a\ud800"}),
        ("invalid_header", {"headers": {"X": "\ud800"}}),
        ("invalid_id", {"id": "\udc80"}),
        ("no_reply_subject", {"subject": ""}),
        ("invalid_when", {"when": "soon"}),
        ("invalid_when", {"when": datetime(2030, 1, 1)}),  # noqa: DTZ001  # that is the point
        ("invalid_id", {"id": ""}),
        ("invalid_id", {"id": "x" * 1025}),
        ("invalid_id", {"id": " a"}),
        ("invalid_id", {"id": "a\t"}),
        ("invalid_id", {"id": "a\r\nGozo-When: +1"}),
        ("invalid_header", {"headers": {"Nats-Rollup": "all"}}),
        ("invalid_header", {"headers": {"Gozo-Id": "other"}}),
        ("invalid_header", {"headers": {"X": "a\r\nNats-Rollup: all"}}),
        ("invalid_header", {"headers": {"X Y": "a"}}),
        ("invalid_header", {"headers": {"": "a"}}),
        ("invalid_request", {"attempts": 3}),
        ("invalid_request", {"attempts": -1, "confirm": True}),
        ("too_large", {"payload": b"x" * (1024 * 1024 - 4000)}),
        ("too_large", {"headers": {"X": "%" * 1024 * 600}}),
    ],
)
async def test_refused(client: Client, new: str, code: str, asked: dict[str, object]) -> None:
    """What the daemon would refuse is refused, with its code, and nothing is stored."""
    arguments = {"subject": "to", "when": LATER, "id": new} | asked
    with pytest.raises(RequestError) as caught:
        await client.schedule(**arguments)  # type: ignore[arg-type]  # wrong on purpose
    assert caught.value.code == code
    assert await client.get(new) is None


async def test_confirm(client: Client, place: Place, clients: Clients, new: str) -> None:
    """With `confirm`, a schedule reaches a stream, with its headers and without loss."""
    other = await clients.connect(place.server)
    await client.schedule(new, b"kept", when="+0.1", id=new, confirm=True, headers={"X": "y"})
    if not place.daemon:
        return
    stream = other.nats.jetstream()
    await stream.add_stream(name=new, subjects=[new])
    subscription = await stream.subscribe(new)
    message = await subscription.next_msg(timeout=allow(10))
    assert (message.data, (message.headers or {})["X"]) == (b"kept", "y")


async def test_cancel(client: Client, new: str) -> None:
    """What became of each id is answered in the order given, however many there are."""
    stored = [f"{new}/{number}" for number in range(40)]
    await asyncio.gather(*(client.schedule("to", when=LATER, id=id_) for id_ in stored))
    missing = [f"{new}/missing/{number}" for number in range(1_200)]
    ids = [*stored[:20], *missing, *stored[20:]]
    done = await client.cancel(*ids)
    assert [one.id for one in done] == ids
    assert {one.status for one in done if one.id in stored} == {"cancelled"}
    assert {one.status for one in done if one.id not in stored} == {"not_found"}
    assert await client.cancel() == []
    outcome = await client.last_outcome(stored[0])
    assert outcome is not None
    assert outcome.reason == "cancelled"
    assert outcome.at is not None
    assert abs(outcome.at - datetime.now(UTC)) < timedelta(seconds=30)
    with pytest.raises(RequestError, match="is empty"):
        await client.cancel("a", "")


async def test_cancel_of_long_ids(client: Client) -> None:
    """A thousand ids of a thousand bytes do not fit into one message, and are cancelled."""
    ids = [f"{number:04}" + "ö" * 500 for number in range(1_000)]
    await client.schedule("to", when=LATER, id=ids[-1])
    statuses = [done.status for done in await client.cancel(*ids)]
    assert statuses == ["not_found"] * 999 + ["cancelled"]


async def test_reschedule(client: Client, new: str) -> None:
    """Only the due time changes; where there is no schedule, the error says what is known."""
    await client.schedule("to", b"p", when=LATER, id=new, headers={"X": "y"}, confirm=True)
    before = await client.get(new)
    stored = await client.reschedule(new, timedelta(days=2, microseconds=1))
    assert timedelta(days=2) < stored.due - datetime.now(UTC) + timedelta(seconds=5)
    after = await client.get(new)
    assert before is not None
    assert after is not None
    assert after.due == stored.due
    for name in ("id", "subject", "payload", "headers", "created", "confirm"):
        assert getattr(after, name) == getattr(before, name)
    await client.cancel(new)
    with pytest.raises(NotFoundError) as caught:
        await client.reschedule(new, LATER)
    assert caught.value.status == "not_found"
    with pytest.raises(RequestError, match="error at position"):
        await client.reschedule(new, "tomorrow")


async def told(client: Client) -> bool:
    """Tell whether the bucket says that the schedule `a` was delivered."""
    outcome = await client.last_outcome("a")
    return outcome is not None and outcome.reason == "delivered"


async def test_delivered(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """Once it was delivered, everything says so, from the daemon and after its end."""
    server = servers.start()
    daemon = await daemons.serve(server)
    arrivals = await (await clients.connect(server)).arrivals()
    async with await Client.connect(server.url) as client:
        await client.schedule(arrivals.subject, b"x", when="+0", id="a")
        await arrivals.wait()
        for _ in ("with the daemon", "without"):
            assert [done.status for done in await client.cancel("a")] == ["already_delivered"]
            with pytest.raises(NotFoundError) as caught:
                await client.reschedule("a", LATER)
            assert caught.value.status == "already_delivered"
            await until(lambda: told(client), "the bucket says that it was delivered")
            if daemon.alive:
                await daemon.terminate()


async def test_delivered_a_while_ago(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """The leader knows what became of schedules whose markers are gone, and the next one too.

    They are removed here as the server does it after a while. A new daemon does not know.
    """
    server = servers.start()
    leader = await daemons.serve(server)
    standby = await daemons.serve(server)
    raw = await clients.connect(server)
    arrivals = await raw.arrivals()
    async with await Client.connect(server.url) as client:
        await client.schedule(arrivals.subject, b"x", when="+0", id="a")
        for id_ in ("b", "live"):
            await client.schedule(arrivals.subject, b"x", when=LATER, id=id_)
        assert [done.status for done in await client.cancel("b")] == ["cancelled"]
        await until(lambda: told(client), "the bucket says that it was delivered")
        for id_ in ("a", "b"):
            answer = await raw.nats.request(
                "$JS.API.STREAM.PURGE.KV_gozo", json.dumps({"filter": f"$KV.gozo.{id_}"}).encode()
            )
            assert json.loads(answer.data)["purged"] == 1
        for daemon in (leader, standby):
            assert await client.last_outcome("a") == Outcome("delivered", None)
            assert await client.last_outcome("b") == Outcome("cancelled", None)
            assert await client.last_outcome("live") is await client.last_outcome("never") is None
            statuses = [done.status for done in await client.cancel("a", "b")]
            assert statuses == ["already_delivered", "not_found"]
            assert await client.last_outcome("a") == Outcome("delivered", None)
            await daemon.terminate()
            if daemon is leader:
                await standby.event("daemon.leading")
        await daemons.serve(server)
        assert [done.status for done in await client.cancel("a")] == ["not_found"]
        assert await client.last_outcome("a") is None


async def test_request(client: Client, place: Place, clients: Clients, new: str) -> None:
    """A request goes to the daemon or fails; without a receipt it is the basic protocol's."""
    arrivals = await (await clients.connect(place.server)).arrivals(new)
    if not place.daemon:
        assert not await client.has_leader()
        assert await client.replicas() == []
        with pytest.raises(NoServerError, match="no daemon listens on gozo"):
            await client.request(new, when="+0")
        return
    assert await client.request(new, b"1", when="+0", id=new) is None
    (arrival,) = await arrivals.wait()
    assert arrival.headers == {"Gozo-Reply": "Yes", "Gozo-Id": new}
    stored = await client.request(new, b"2", when="+0", receipt=True)
    assert stored is not None
    arrival = (await arrivals.wait(2))[1]
    assert "Gozo-Due" in arrival.headers
    assert await client.has_leader()
    (replica,) = await client.replicas()
    assert (replica.role, replica.delivered >= 2, replica.overdue) == ("leader", True, 0)
    assert replica.started < datetime.now(UTC)


async def test_a_daemon_that_is_frozen(servers: Servers, daemons: Daemons) -> None:
    """Without an answer the error says that nobody knows; nothing is written past the daemon."""
    server = servers.start()
    daemon = await daemons.serve(server)
    async with await Client.connect(server.url) as client:
        await client.schedule("to", when=LATER, id="a")
        daemon.send(signal.SIGSTOP)
        try:
            for attempt in (
                client.schedule("to", b"new", when=LATER, id="a", timeout=0.3),
                client.cancel("a", timeout=0.3),
                client.reschedule("a", LATER, timeout=0.3),
            ):
                with pytest.raises(UnansweredError, match="outcome is unknown"):
                    await attempt
            found = await client.get("a")
            assert found is not None
            assert found.payload == b""
        finally:
            daemon.send(signal.SIGCONT)


async def test_a_daemon_started_afterwards(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """What was stored without a daemon is delivered by the next one, with id and headers."""
    server = servers.start()
    arrivals: Arrivals = await (await clients.connect(server)).arrivals()
    async with await Client.connect(server.url) as client:
        await client.schedule(arrivals.subject, b"x", when="+0.1", id="a b", headers={"X": "y"})
        await client.schedule(arrivals.subject, b"z", when="+0.2")
        await client.schedule(arrivals.subject, b"cancelled", when="+0.15", id="c")
        await client.cancel("c")
        await daemons.serve(server)
        first, second = await arrivals.wait(2)
        assert (first.data, first.headers["Gozo-Id"], first.headers["X"]) == (b"x", "a b", "y")
        assert (second.data, "Gozo-Id" in second.headers) == (b"z", False)
        assert await client.has_leader()


async def test_something_else_answers(servers: Servers, clients: Clients) -> None:
    """Who answers nonsense on gozo's subjects gets no schedule lost without a word."""
    server = servers.start()
    other = await clients.connect(server)

    async def babble(message: Msg) -> None:
        subject = (message.headers or {}).get("Gozo-Receipt", message.reply)
        await other.nats.publish(subject, b'"hello"')

    await other.nats.subscribe("gozo.>", cb=babble)
    await other.nats.subscribe("gozo", cb=babble)
    await other.confirm()
    async with await Client.connect(server.url) as client:
        for attempt in (
            client.schedule("to", when=LATER, id="a"),
            client.cancel("a"),
            client.reschedule("a", LATER),
        ):
            with pytest.raises(UnansweredError, match="something other than gozo"):
                await attempt
