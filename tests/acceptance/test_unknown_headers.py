"""Unknown headers that begin with `Gozo-`: refused in requests, reported in entries."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.daemon import Daemon
from tests.support.gozoctl import Gozoctl
from tests.support.processes import Clients, Daemons, Servers
from tests.support.receipts import ask, entry_of
from tests.support.running import Running

SORRY = "the header 'Gozo-Untill' is unknown: did you mean Gozo-Until?"


@pytest.fixture
def ctl(running: Running, tmp_path: Path) -> Gozoctl:
    """Run gozoctl on the module's server."""
    return Gozoctl(tmp_path, running.server.url)


async def warning(daemon: Daemon, key: str) -> str:
    """Wait for a daemon's warning about an entry."""
    event = await daemon.event("entry.unknown_header", since=0, key=key)
    assert event.level == "warning"
    return str(event.fields["reason"])


async def test_a_request_is_refused(running: Running, client: Client, new_id: str) -> None:
    """Receipt and log name the header and the closest known one, and nothing is stored."""
    mark = running.daemon.mark()
    said = {"Gozo-When": "@every 1h", "Gozo-Id": new_id, "gozo-untill": "+1d"}
    receipt = await ask(client, said, reply="to")
    assert receipt == {
        "status": "refused",
        "id": new_id,
        "error": "unknown_header",
        "message": SORRY,
    }
    event = await running.daemon.event("request.refused", since=mark, code="unknown_header")
    assert event.fields["reason"] == SORRY
    assert await entry_of(client, new_id) == {}


async def test_a_cancel_is_refused(client: Client, new_id: str) -> None:
    """The schedule is not cancelled."""
    arrivals = await client.arrivals()
    await client.schedule("+1", reply=arrivals, id=new_id)
    receipt = await ask(client, {"Gozo-Del-Id": new_id, "Gozo-Force": "Yes"})
    assert (receipt["error"], receipt["id"]) == ("unknown_header", new_id)
    await arrivals.wait()


async def test_what_was_received_is_scheduled_again(client: Client, new_id: str) -> None:
    """A request may have all headers of the delivery."""
    arrivals = await client.arrivals()
    said = {"Gozo-When": "@every 100ms", "Gozo-Id": new_id, "Gozo-Count": "1", "X": "y"}
    await client.send(said, reply=arrivals.subject)
    (first,) = await arrivals.wait()
    assert {"Gozo-Reply", "Gozo-Due", "Gozo-Occurrence"} < first.headers.keys()
    receipt = await ask(client, {**first.headers, "Gozo-When": "+0"}, reply=arrivals.subject)
    assert receipt["status"] == "stored"
    _, again = await arrivals.wait(2)
    assert again.headers["X"] == "y"
    assert "Gozo-Occurrence" not in again.headers


async def test_an_entry_is_delivered_and_reported(
    running: Running, client: Client, ctl: Gozoctl, new_id: str
) -> None:
    """Even after gozo has stored it again, which keeps the header."""
    arrivals = await client.arrivals()
    headers = {
        "Gozo-When": "@every 200ms",
        "Gozo-Subject": arrivals.subject,
        "Gozo-Untill": "+0",
        "Gozo-Foo-Bar": "1m",
    }
    await client.nats.jetstream().publish(f"$KV.gozo.{new_id}", b"", headers=headers)
    assert await warning(running.daemon, new_id) == SORRY
    for arrival in await arrivals.wait(3):
        assert not {"Gozo-Untill", "Gozo-Foo-Bar"} & arrival.headers.keys()
    entry = await entry_of(client, new_id)
    assert (entry["Gozo-Format"], entry["Gozo-Untill"], entry["Gozo-Foo-Bar"]) == ("1", "+0", "1m")
    one = await asyncio.to_thread(ctl.ok, "inspect", new_id, "-o", "json")
    assert one.json["unknown_headers"] == ["Gozo-Untill", "Gozo-Foo-Bar"]
    assert one.json["state"] == "pending"
    lines = await asyncio.to_thread(ctl.ok, "inspect", new_id)
    assert ["warning", SORRY] in lines.rows
    listed = await asyncio.to_thread(ctl.ok, "list", "--id", new_id)
    assert f"headers, which have no effect: 1; see gozoctl inspect {new_id}" in listed.err
    await asyncio.to_thread(ctl.ok, "create", new_id, arrivals.subject, "--in", "1h")
    listed = await asyncio.to_thread(ctl.ok, "list", "--id", new_id)
    assert listed.err == ""
    warned = running.daemon.events("entry.unknown_header")
    assert [event.fields["key"] for event in warned].count(new_id) == 1


async def test_an_entry_is_reported_by_the_daemon_that_finds_it(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """This includes entries that were stored while no daemon ran."""
    server = servers.start()
    first = await daemons.serve(server)
    assert await first.terminate() == 0
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    headers = {"Gozo-When": "+0", "Gozo-Subject": arrivals.subject, "Gozo-Timezone": "UTC"}
    await client.nats.jetstream().publish("$KV.gozo.late", b"x", headers=headers)
    second = await daemons.serve(server)
    assert "did you mean Gozo-Time-Zone?" in await warning(second, "late")
    (arrival,) = await arrivals.wait()
    assert arrival.data == b"x"


def test_gozoctl_says_what_to_give_instead(ctl: Gozoctl, new_id: str) -> None:
    """No command that takes headers sends anything."""
    (ctl.home / "a.toml").write_text(
        f'[schedules."{new_id}"]\nsubject = "to"\nwhen = "+1h"\nheaders = ["Gozo-Untill: +5"]\n'
    )
    for command in (
        ("create", new_id, "to", "--in", "1h", "-H", "Gozo-Untill: +5"),
        ("send", "to", "--in", "1h", "-H", "Gozo-Untill: +5"),
        ("apply", "a.toml"),
    ):
        done = ctl.run(*command)
        assert done.code != 0
        assert f"{SORRY} If so, use the option until" in done.err
    assert len(ctl.ok("list", "--id", new_id).rows) == 1  # the header
