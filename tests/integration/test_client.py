"""`gozo.client` against a real server: the same promises with a daemon and without one."""

from __future__ import annotations

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgpack
import pytest
from nats.aio.msg import Msg

from gozo.client import (
    Change,
    Client,
    ExistsError,
    NotFoundError,
    Schedule,
    Stored,
    UnansweredError,
)
from gozo.errors import (
    DisconnectedError,
    GozoError,
    JetStreamError,
    NoServerError,
    NotAllowedError,
    RequestError,
    SettingsError,
)
from gozo.settings import ConnectionSettings
from tests.support.client import Arrivals
from tests.support.patience import allow, until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.raw import RawClient, header_block, request
from tests.support.server import NatsServer, free_port

LATER = timedelta(hours=1)
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


@dataclass(frozen=True, slots=True)
class Place:
    """A server, with a daemon on it or without."""

    server: NatsServer
    daemon: bool


@pytest.fixture(scope="module", params=[True, False], ids=["daemon", "no-daemon"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Run a server for the module, once with a daemon and once without."""
    with NatsServer() as server, Daemons() as daemons:
        if request.param:
            daemon = daemons.start("serve", "--address", server.url)
            daemon.find_event("daemon.ready", {"role": "leader"}, since=0, timeout=allow(10))
        yield Place(server, request.param)


@pytest.fixture
async def client(place: Place) -> AsyncIterator[Client]:
    """Connect gozo's client."""
    async with await Client.connect(place.server.url) as client:
        yield client


@pytest.fixture
def new() -> str:
    """Make a word that no other test uses, for ids and subjects."""
    return f"new-{uuid.uuid4().hex}"


async def listed(client: Client, subject: str | None = None) -> dict[str, Schedule]:
    """Return the schedules by their keys."""
    return {schedule.key: schedule async for schedule in client.list(subject=subject)}


def write(server: NatsServer, key: str, value: bytes = b"p", /, **headers: str) -> None:
    """Write an entry as another program would."""
    with RawClient(server.url) as raw:
        block = header_block(**headers) if headers else None
        raw.send(request(b"$KV.gozo." + key.encode(), headers=block, payload=value))
        raw.confirm()


# Schedule and look


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


# Cancel and put off


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
    with pytest.raises(RequestError, match="cannot be read"):
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


# What others wrote


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
        assert "cannot be read" in found["soon"].reason
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


# Watch and listen


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
        with pytest.raises(RequestError, match="no subject"):
            client.listen(subject)


# Requests to the daemon


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
                with pytest.raises(UnansweredError, match="unknown whether it was done"):
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
            with pytest.raises(UnansweredError, match="something else than gozo"):
                await attempt


# What is not there


async def test_no_bucket(servers: Servers) -> None:
    """To look, to cancel and to put off creates nothing: there are no schedules."""
    server = servers.start()
    async with await Client.connect(server.url) as client:
        assert await client.get("a") is None
        assert await client.last_outcome("a") is None
        assert await listed(client) == {}
        assert [done.status for done in await client.cancel("a")] == ["not_found"]
        with pytest.raises(NotFoundError):
            await client.reschedule("a", LATER)
        assert await client.bucket() is None
        await client.schedule("to", b"x", when=LATER, id="a")
        info = await client.bucket()
        assert info is not None
        assert (info.name, info.keys, info.replicas, info.storage) == ("gozo", 1, 1, "file")
        assert info.settings["max_msgs_per_subject"] == 1


async def test_other_names(servers: Servers, daemons: Daemons) -> None:
    """The bucket and the request subject of the settings are used, and no others."""
    server = servers.start()
    names = ("--bucket", "mine", "--request-subject", "my.gozo")
    await daemons.serve(server, *names)
    settings = ConnectionSettings((server.url,), request_subject="my.gozo", bucket="mine")
    async with await Client.connect(settings) as client, await Client.connect(server.url) as other:
        await client.schedule("to", when=LATER, id="a")
        assert (set(await listed(client)), await listed(other)) == ({"a"}, {})
        assert [replica.role for replica in await client.replicas()] == ["leader"]
        assert await other.replicas() == []
        assert [done.status for done in await client.cancel("a")] == ["cancelled"]


async def test_no_server() -> None:
    """Without a server there is no client; the error names the address."""
    port = free_port()
    with pytest.raises(NoServerError, match=str(port)):
        await Client.connect(f"nats://127.0.0.1:{port}", timeout=0.5)
    with pytest.raises(SettingsError, match="scheme"):
        await Client.connect("http://127.0.0.1")


async def test_a_lost_server(servers: Servers) -> None:
    """While there is no connection each call says so; once it is back, all goes on."""
    server = servers.start()
    async with await Client.connect(server.url) as client:
        assert client.server.address == server.url
        assert (client.server.name, client.server.max_payload) == (server.name, 1024 * 1024)
        await client.schedule("to", when=LATER, id="a")
        server.stop()
        for attempt in (
            client.get("a"),
            client.cancel("a"),
            client.schedule("to", when=LATER, id="b"),
            client.replicas(),
            listed(client),
        ):
            with pytest.raises(DisconnectedError):
                await attempt
        server.start()
        await until(lambda: client._connection.connected, "the link is back")
        assert set(await listed(client)) == {"a"}


async def test_closed(servers: Servers) -> None:
    """Whoever iterates over a client that is closed is told so, and does not wait for ever."""
    server = servers.start()
    client = await Client.connect(server.url)
    messages, changes = client.listen("a"), client.watch()
    assert (await anext(changes)).kind == "current"
    waiting = [asyncio.ensure_future(anext(one)) for one in (messages, changes)]
    await client._connection.echo()
    await client.close()
    async with asyncio.timeout(allow(5)):
        results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [DisconnectedError] * 2


async def test_no_jetstream(servers: Servers) -> None:
    """Without JetStream the error says how to turn it on."""
    server = servers.start(jetstream=False)
    async with await Client.connect(server.url) as client:
        for attempt in (
            client.get("a"),
            listed(client),
            client.cancel("a"),
            client.bucket(),
            client.schedule("to", when=LATER, id="a"),
            anext(client.watch()),
        ):
            with pytest.raises(JetStreamError, match="JetStream"):
                await attempt


@pytest.mark.parametrize("denied", ["gozo.>", "$JS.API.>", "$KV.gozo.>", "$SRV.>"])
async def test_missing_permission(servers: Servers, denied: str) -> None:
    """A right that is missing is named, at once, by whatever needs it."""
    users = f'{{ user: u, password: p, permissions: {{ publish: {{ deny: ["{denied}"] }} }} }}'
    server = servers.start(f"authorization {{ users: [ {users} ] }}")
    settings = ConnectionSettings((server.url,), user="u", password="p")  # noqa: S106
    async with await Client.connect(settings) as client:
        match denied:
            case "$SRV.>":
                attempt: asyncio.Future[object] = asyncio.ensure_future(client.replicas())
            case "$JS.API.>":
                attempt = asyncio.ensure_future(listed(client))
            case _:
                attempt = asyncio.ensure_future(client.schedule("to", when=LATER, id="a"))
        with pytest.raises(NotAllowedError, match="grant that permission"):
            await attempt


async def test_missing_permission_to_listen(servers: Servers) -> None:
    """To listen where one may not is an error, not silence."""
    users = '{ user: u, password: p, permissions: { subscribe: { deny: ["secret"] } } }'
    server = servers.start(f"authorization {{ users: [ {users} ] }}")
    settings = ConnectionSettings((server.url,), user="u", password="p")  # noqa: S106
    async with await Client.connect(settings) as client:
        with pytest.raises(NotAllowedError, match="subscribe to secret"):
            async with client.listen("secret"):
                pass
        with pytest.raises(GozoError, match="subscribe to secret"):
            await anext(client.listen("secret"))
