"""`gozoctl history` and `Client.history`: what happened to any schedule, and since when."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gozo.client import Client as Schedules
from gozo.client import past
from gozo.errors import RequestError
from gozo.settings.model import ConnectionSettings
from gozo.store.event_history import DESCRIPTION
from tests.support.client import Client
from tests.support.gozoctl import Gozoctl
from tests.support.processes import Clients, Servers
from tests.support.rights import admin
from tests.support.server import NatsServer
from tests.support.storage import call


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    """Run one server for all; each test has a bucket and a request subject of its own."""
    with NatsServer() as server:
        yield server


@pytest.fixture
def ctl(server: NatsServer, tmp_path: Path) -> Gozoctl:
    """Return a `gozoctl` for that server."""
    return Gozoctl(tmp_path, server.url)


async def keep(client: Client, name: str, **more: Any) -> None:
    """Make the stream that keeps the events of a bucket and a request subject of one name."""
    made = {"name": f"{name}_history", "subjects": [f"{name}.event.>"], "description": DESCRIPTION}
    await call(client, f"STREAM.CREATE.{name}_history", made | more)


async def tell(client: Client, name: str, kind: str, id_: str | None, **more: Any) -> str:
    """Tell an event as a daemon does, and return the time at which it is stored."""
    event = {
        "type": f"gozo.event.v1.{kind}",
        "at": datetime.now(UTC).isoformat(),
        "daemon": "one",
        "id": id_,
    }
    subject = f"{name}.event.{kind}" + ("" if id_ is None else f".{id_}")
    ack = await client.nats.jetstream().publish(subject, json.dumps(event | more).encode())
    answer = await call(client, f"STREAM.MSG.GET.{name}_history", {"seq": ack.seq})
    return re.sub(r"(\.\d{6})\d*", r"\1", str(answer["message"]["time"]))


def own(name: str) -> tuple[str, str, str, str]:
    """Return the options for a bucket and a request subject of one name."""
    return ("--bucket", name, "--request-subject", name)


def settings_of(server: NatsServer, name: str) -> ConnectionSettings:
    """Return the same as settings."""
    return ConnectionSettings((server.url,), bucket=name, request_subject=name)


async def test_of_all(server: NatsServer, clients: Clients, ctl: Gozoctl) -> None:
    """Without an id it is that of all schedules, as much as is asked for of it."""
    client = await clients.connect(server)
    await keep(client, "all")
    await tell(client, "all", "leader", None)
    await tell(client, "all", "accepted", "tea", subject="kitchen.tea", state="pending")
    second = await tell(client, "all", "failed", "tea", subject="kitchen.tea", attempts=1)
    await tell(client, "all", "failed", None, subject="hall", attempts=1)
    last = await tell(client, "all", "missed", "tea.green")

    everything = [
        *[("leader", None), ("accepted", "tea"), ("failed", "tea"), ("failed", None)],
        ("missed", "tea.green"),
    ]
    begin, end = datetime.fromisoformat(second), datetime.fromisoformat(last)
    async with await Schedules.connect(settings_of(server, "all")) as schedules:

        async def found(id_: str | None = None, **asked: Any) -> list[tuple[str, str | None]]:
            return [(event.kind, event.id) async for event in schedules.history(id_, **asked)]

        assert await found() == everything
        assert await found("tea") == everything[1:3]
        assert await found(kinds=["failed"]) == everything[2:4]
        assert await found("tea", kinds=["failed"]) == [("failed", "tea")]
        assert await found("tea", kinds=["failed", "accepted"]) == everything[1:3]
        assert await found(kinds={"missed", "leader"}) == [everything[0], everything[4]]
        assert await found(since=begin) == everything[2:]
        assert await found(until=begin) == everything[:2]
        assert await found(since=begin, until=end) == everything[2:4]
        assert await found(subject="kitchen.>") == everything[1:3]
        assert await found(subject="hall", kinds=["failed"]) == [("failed", None)]
    asked = ("--type", "failed", "--type", "accepted", "--subject", "kitchen.>", "--since", second)
    (line,) = ctl.ok("history", *asked, *own("all"), "-o", "jsonl").out.splitlines()
    assert json.loads(line).items() >= {"event": "failed", "id": "tea", "attempts": 1}.items()
    assert ctl.ok("history", "--until", "1h", *own("all"), "-o", "json").json == []
    listed = ctl.ok("history", *own("all"), "-o", "json").json
    assert [(one["event"], one["id"]) for one in listed] == everything
    head, *rows = ctl.ok("history", *own("all")).rows
    assert head[:3] == ["AT", "EVENT", "ID"]
    assert [row[1] for row in rows] == [kind for kind, _ in everything]
    with ctl.terminal("history", *own("all")) as terminal:
        assert terminal.ends() == 0
        assert terminal.text.splitlines()[0].split() == ["AT", "EVENT", "ID", "WHAT"]
        assert "after 1 attempt" in terminal.text


async def test_nothing_is_known(server: NatsServer, clients: Clients, ctl: Gozoctl) -> None:
    """Who finds nothing is told since when anything is kept, and how to keep it."""
    client = await clients.connect(server)

    def none(*arguments: str, code: int, name: str = "nothing") -> str:
        done = ctl.run("history", *arguments, *own(name))
        assert (done.code, done.out) == (code, "")
        return done.err

    assert "no history is kept: start the daemons with --history 30d" in none("tea", code=3)
    assert "no history is kept" in none(code=3)
    age = 30 * 86_400 * 1_000_000_000
    await keep(client, "nothing", max_age=age, max_bytes=1_000_000)
    said = "no events of schedule 'tea': nothing_history keeps events for 30d"
    assert f"{said}, at most 1000000 bytes, and has none yet" in none("tea", code=3)
    assert "no events: nothing_history keeps events for 30d" in none(code=0)
    await tell(client, "nothing", "accepted", "coffee")
    stream = await client.nats.jetstream().stream_info("nothing_history")
    assert stream.state.messages == 1
    first = none("tea", code=3).partition("and has events from ")[2]
    assert f"{datetime.now(UTC).year}-" in first
    narrowed = none("coffee", "--type", "failed", code=3)
    assert "no matching events of schedule 'coffee': nothing_history" in narrowed
    earlier = ctl.ok("history", "coffee", "--since", "2020-01-01", *own("nothing"))
    assert len(earlier.rows) == 2
    assert "no earlier events: nothing_history keeps events for 30d" in earlier.err
    assert ctl.ok("history", "coffee", *own("nothing")).err == ""
    # A history of another request subject is none of this.
    options = ("--bucket", "nothing", "--request-subject", "else")
    done = ctl.run("history", "tea", *options)
    assert done.code == 3
    assert "stores nothing.event.>, and not else.event.>: start the daemons with" in done.err


async def test_mistakes(server: NatsServer, clients: Clients, ctl: Gozoctl) -> None:
    """What no event could match is refused before it is looked for."""
    for arguments, said in (
        (("--since", "17"), "invalid --since '17': add a unit: 17s, 17m or 17h"),
        (("--since", "2999-01-01"), "it is in the future; expected a past time"),
        (("--type", "fail"), "'failed'"),
        (("--since", "1h", "--until", "2h"), "invalid --until '2h': it is not after --since '1h'"),
        (("--type", "missed", "--subject", "a"), "events of the kind missed have no subject"),
    ):
        done = ctl.run("history", *arguments)
        assert (done.code, done.out) == (2, ""), arguments
        assert said in done.err
    async with await Schedules.connect(server.url) as schedules:
        with pytest.raises(RequestError, match="invalid kind of event 'fail': expected accepted, "):
            schedules.history(kinds=["fail"])
        with pytest.raises(RequestError, match="invalid subject"):
            schedules.history(subject="a..b")
        with pytest.raises(RequestError, match="is not before until"):
            schedules.history(since=datetime.now(UTC), until=datetime(2020, 1, 1, tzinfo=UTC))
        with pytest.raises(TypeError, match="kinds is 'failed' \\(str\\): give a list"):
            schedules.history(kinds="failed")
        assert await schedules.history_info() is None


async def test_page_by_page(
    server: NatsServer, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it is read once, though the consumer is lost and a message is larger than a page."""
    monkeypatch.setattr(past, "PAGE", 10)
    monkeypatch.setattr(past, "PAGE_BYTES", 4_000)
    client = await clients.connect(server)
    await keep(client, "pages")
    for number in range(95):
        note = "x" * 10_000 if number in (7, 8, 50) else ""
        await tell(client, "pages", "paused", f"id-{number}", note=note)
    async with await Schedules.connect(settings_of(server, "pages")) as schedules:
        found: list[str | None] = []
        async for event in schedules.history():
            found.append(event.id)
            if len(found) in (5, 33, 94):
                await _remove_consumers(client, "pages_history")
            if len(found) == 60:  # what comes meanwhile is not waited for
                await tell(client, "pages", "paused", "later")
        assert found == [f"id-{number}" for number in range(95)]
        some = schedules.history(since=datetime.now(UTC) - timedelta(hours=1), kinds=["paused"])
        assert len([event async for event in some]) == 96
        info = await schedules.history_info()
        assert info is not None
        assert (info.events, info.max_age, info.is_current) == (96, None, True)


async def _remove_consumers(client: Client, stream: str) -> None:
    for consumer in await client.nats.jetstream().consumers_info(stream):
        assert await client.nats.jetstream().delete_consumer(stream, consumer.name)


RIGHTS = ("STREAM.INFO", "CONSUMER.CREATE", "CONSUMER.MSG.NEXT")


async def test_without_the_right(servers: Servers, clients: Clients, tmp_path: Path) -> None:
    """What must be granted is said, whichever of the permissions is missing."""
    users = "".join(
        f"{{ user: u{number}, password: p, permissions: {{ publish: {{ deny: "
        f'["$JS.API.{verb}.told_history", "$JS.API.{verb}.told_history.>"] }} }} }}\n'
        for number, verb in enumerate(RIGHTS)
    )
    server = servers.start(
        f"authorization {{ users: [\n{{ user: admin, password: p }}\n{users}] }}"
    )
    client = await admin(clients, server)
    await keep(client, "told")
    await tell(client, "told", "leader", None)
    ctl = Gozoctl(tmp_path, server.url)
    for number, verb in enumerate(RIGHTS):
        login = ("--user", f"u{number}", "--password", "p")
        refused = ctl.run("history", *own("told"), *login)
        assert (refused.code, refused.out) == (4, "")
        assert f"$JS.API.{verb}.told_history" in refused.err
