"""`--max-pending`, `--max-payload`, `--max-delay` and `--max-rate`: what is refused, and how."""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.support.client import Client
from tests.support.daemon import Daemon
from tests.support.gozoctl import Gozoctl
from tests.support.patience import allow, until
from tests.support.places import write
from tests.support.processes import Clients, Daemons, Servers
from tests.support.raw import RawClient, header_block, request
from tests.support.server import free_port

FAR = "+9999"


async def ask(
    client: Client,
    id_: str | None,
    when: str = FAR,
    payload: bytes = b"",
    reply: str = "to",
    **headers: str,
) -> str:
    """Send a request, and return what its receipt says: the status, or why it was refused."""
    receipts = await client.arrivals()
    wanted = {"Gozo-When": when, "Gozo-Receipt": receipts.subject}
    wanted |= {name.replace("_", "-"): value for name, value in headers.items()}
    await client.send(wanted | ({"Gozo-Id": id_} if id_ else {}), reply=reply, payload=payload)
    (answer,) = await receipts.wait()
    told = json.loads(answer.data)
    assert told["id"] == id_
    return str(told.get("error", told["status"]))


async def refusals(client: Client) -> dict[str, int]:
    """Return how many requests the daemon has refused, by reason."""
    answer = json.loads((await client.nats.request("$SRV.STATS.gozo", timeout=allow(5))).data)
    counted: dict[str, int] = answer["endpoints"][0]["data"]["refused"]
    return counted


async def test_pending(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """At the limit an id can be replaced and cancelled; a new one is refused until there is room.

    What has no id counts as well, and what waits to be stored.
    """
    server = servers.start()
    await daemons.serve(server, "--max-pending", "3")
    client = await clients.connect(server)
    assert await ask(client, "a") == "stored"
    assert await ask(client, None) == "stored"
    await client.schedule(FAR, reply="to", payload=b"in memory")
    assert await ask(client, "b") == "too_many_pending"
    never = "*/5 2 * 3 sunL"  # clocks leave that hour out, which only a search finds
    assert await ask(client, "b", never, Gozo_Time_Zone="Europe/Malta") == "too_many_pending"
    assert await ask(client, "a", never, Gozo_Time_Zone="Europe/Malta") == "invalid_when"
    assert await ask(client, "a") == "stored"
    await client.cancel("a")
    assert await ask(client, "b") == "stored"
    assert await ask(client, "a") == "too_many_pending"
    assert await refusals(client) == {"too_many_pending": 3, "invalid_when": 1}


async def test_pending_all_at_once(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """However many come at once, no more than the limit are stored."""
    server = servers.start()
    await daemons.serve(server, "--max-pending", "100")
    client = await clients.connect(server)
    receipts = await client.arrivals()
    before = await client.stored()
    for number in range(1000):
        headers = {"Gozo-When": FAR, "Gozo-Id": f"{number % 500}", "Gozo-Receipt": receipts.subject}
        await client.send(headers, reply="to")
    await receipts.wait(1000)
    assert await client.stored() - before == 100
    stored = {told["id"] for told in map(json.loads, receipts.payloads) if "error" not in told}
    assert stored == {f"{number}" for number in range(100)}


async def test_pending_cancelled_and_stored_again(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """Who cancels each and stores it again, all at once, gets no more than the limit either.

    What is cancelled makes room at once, as the bucket has it once all is done.
    """
    server = servers.start()
    await daemons.serve(server, "--max-pending", "5")
    client = await clients.connect(server)
    before = await client.stored()
    receipts = await client.arrivals()
    for number in range(100):
        schedule = {"Gozo-When": FAR, "Gozo-Id": f"n{number}", "Gozo-Receipt": receipts.subject}
        await client.send(schedule, reply="to")
        await client.cancel(f"n{number}")
        await client.send(schedule, reply="to")
    await receipts.wait(200)
    assert await client.stored() - before == 5
    assert await ask(client, "n0") == "stored"
    assert await ask(client, "n99") == "too_many_pending"
    for number in range(5):
        await client.cancel(f"n{number}")
    assert [await ask(client, f"m{number}") for number in range(5)] == ["stored"] * 5


async def test_pending_is_delivered(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """What was delivered makes room."""
    server = servers.start()
    await daemons.serve(server, "--max-pending", "1")
    client = await clients.connect(server)
    for number in range(3):
        arrivals = await client.arrivals()
        assert await ask(client, f"n{number}", "+0", reply=arrivals.subject) == "stored"
        await arrivals.wait()

        async def has_room() -> bool:
            return await ask(client, "probe") == "stored"

        await until(has_room, "there is room again")
        await client.cancel("probe")


async def test_payload_and_delay(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """A payload may have so many bytes, and a request be due so far ahead, and no more.

    Of what recurs the first time counts, with the longest delay.
    """
    server = servers.start()
    await daemons.serve(server, "--max-payload", "1kB", "--max-delay", "1h")
    client = await clients.connect(server)
    assert await ask(client, "a", "+1h", bytes(1000)) == "stored"
    assert await ask(client, "a", "+1h", bytes(1001)) == "payload_too_large"
    assert await ask(client, "a", "+3601") == "too_far_ahead"
    assert await ask(client, None, "9999999999") == "too_far_ahead"
    assert await ask(client, "b", "@every 59m") == "stored"
    assert await ask(client, "c", "@every 61m") == "too_far_ahead"
    assert await ask(client, "d", "@every 29m", Gozo_Jitter="31m") == "stored"
    assert await ask(client, "d", "@every 30m", Gozo_Jitter="31m") == "too_far_ahead"
    assert await refusals(client) == {"payload_too_large": 1, "too_far_ahead": 4}


async def test_interval(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """A request may ask for an interval of 100ms or more, or as is set; an administrator for less.

    So may whoever can write to the bucket.
    """
    server = servers.start()
    daemon = await daemons.serve(server)
    client = await clients.connect(server)
    assert await ask(client, "a", "@every 99.9ms") == "too_often"
    assert await ask(client, "b", "@every 100ms") == "stored"
    assert await ask(client, "c", "* * * * * *") == "stored"
    assert await refusals(client) == {"too_often": 1}
    ctl = Gozoctl(tmp_path, server.url)
    refused = ctl.run("create", "d", "to", "x", "--every", "10ms")
    assert refused.code == 2
    assert "--min-interval" in refused.err
    ctl.ok("reschedule", "c", "--when", "@every 20ms")
    schedules = ("applied", "written")
    heard = {id_: await client.arrivals() for id_ in schedules}
    (tmp_path / "set.toml").write_text(
        f'[schedules.applied]\nsubject = "{heard["applied"].subject}"\nwhen = "@every 20ms"\n'
    )
    ctl.ok("apply", "set.toml")
    write(server, "written", Gozo_When="@every 20ms", Gozo_Subject=heard["written"].subject)
    for arrivals in heard.values():
        await arrivals.wait(3)
    assert await daemon.terminate() == 0

    await daemons.serve(server, "--min-interval", "1h")
    assert await ask(client, "a", "@every 59m") == "too_often"
    assert await ask(client, "a", "@every 1h") == "stored"
    assert await ask(client, "a", "* * * * * *") == "too_often"
    assert await ask(client, "a", "0,59 9-10 * * *") == "too_often"
    assert await ask(client, "a", "30 9-17 * * *") == "stored"
    assert await ask(client, "a", "@daily") == "stored"
    await heard["written"].wait(len(heard["written"].all) + 3)


async def test_deliver_rate(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """No more messages a second than are allowed, whatever they come from: late, in order, all."""
    server = servers.start()
    port = free_port()
    options = ("--max-deliver-rate", "100", "--metrics", f"127.0.0.1:{port}")
    daemon = await daemons.serve(server, *options)
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    began = time.time()
    for number in range(150):
        write_ids = {"id": f"n{number}"} if number % 2 else {}
        await client.schedule(began + 1, reply=arrivals, payload=b"%d" % number, **write_ids)
    await arrivals.wait(150)
    assert sorted(map(int, arrivals.payloads)) == list(range(150))
    stored = [int(payload) for payload in arrivals.payloads if int(payload) % 2]
    assert stored == sorted(stored)
    times = [arrival.at for arrival in arrivals.all]
    assert times[0] >= began + 1
    assert times[-1] - times[0] >= (150 - 10 - 1) / 100 - 0.05
    await daemon.event("delivery.held_back", max_deliver_rate="100")
    text = await asyncio.to_thread(page, port)
    (held,) = re.findall(r"^gozo_deliveries_held_back_seconds_total (\S+)$", text, re.MULTILINE)
    assert float(held) > 0.5
    assert await daemon.terminate() == 0


def page(port: int) -> str:
    """Read the metrics."""
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=allow(5)) as answer:
        return str(answer.read().decode())


async def test_rate(servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path) -> None:
    """Beyond the rate requests are refused, cancels too; an administrator's are not."""
    server = servers.start()
    await daemons.serve(server, "--max-rate", "0.01")
    client = await clients.connect(server)
    assert await ask(client, "a") == "stored"
    assert await ask(client, "b") == "too_many_requests"
    await client.cancel("a")
    await client.confirm()
    refused = Gozoctl(tmp_path, server.url).run("create", "c", "to", "x", "--in", "9999")
    assert refused.code == 1
    assert "--max-rate" in refused.err
    assert await refusals(client) == {"too_many_requests": 3}
    assert Gozoctl(tmp_path, server.url).ok("cancel", "a", "-o", "json").json


async def test_rate_while_nobody_leads(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """What a standby keeps for the time when it leads is no way round; what was taken stays.

    The receipts of what is refused come after those of what was taken before, as always.
    """
    server = servers.start()
    leader = await daemons.serve(server, "--max-rate", "1")
    standby = await daemons.serve(server, "--max-rate", "1")
    client = await clients.connect(server)
    arrivals, receipts = await client.arrivals(), await client.arrivals()
    taken = await client.arrivals("gozo.admin.told")
    await client.schedule("+1", reply=arrivals)
    await taken.wait()
    await leader.kill()
    headers = {"Gozo-When": FAR, "Gozo-Receipt": receipts.subject}
    for _ in range(200):
        await client.send(headers | {"Gozo-Id": "one"}, reply="to")
    await standby.event("daemon.leading")
    await receipts.wait(200)
    answers = [json.loads(payload)["status"] for payload in receipts.payloads]
    assert answers == sorted(answers, key=["stored", "refused"].index)
    assert 1 <= answers.count("stored") < 100
    assert answers.count("refused") > 100
    await arrivals.wait()


def most_memory(daemon: Daemon) -> int:
    """Return the most bytes of memory that a daemon has had (proc(5))."""
    lines = Path(f"/proc/{daemon.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


FLOOD = 28
"""Thousands of requests of some 2 kB. A server keeps 64 MB for a client (`max_pending`) and cuts
off who needs more, as a slow machine does; these are less."""

FLOODS: dict[str, tuple[tuple[str, ...], str]] = {
    "rate": (("--max-rate", "10"), "too_many_requests"),
    "payload": (("--max-payload", "10"), "payload_too_large"),
    "pending": (("--max-pending", "1", "--max-backlog", "16MiB"), "too_many_pending"),
}


@pytest.mark.parametrize("kind", FLOODS)
async def test_flood(servers: Servers, daemons: Daemons, clients: Clients, kind: str) -> None:
    """A flood that is refused takes next to no memory, and delays no delivery for long."""
    options, code = FLOODS[kind]
    server = servers.start()
    daemon = await daemons.serve(server, *options)
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    assert await ask(client, "good", "+1", reply=arrivals.subject) == "stored"
    before = most_memory(daemon)
    headers = [
        header_block(Gozo_When=FAR, Gozo_Id=f"n{n}", Gozo_Receipt="nobody.hears")
        for n in range(1000)
    ]
    part = b"".join(
        request(b"gozo", reply=b"later", headers=header, payload=bytes(2000)) for header in headers
    )

    def flood() -> None:
        with RawClient(server.url) as raw:
            for _ in range(FLOOD):
                raw.send(part)
            raw.confirm()

    await asyncio.to_thread(flood)
    await arrivals.wait()

    async def all_refused() -> bool:
        counted = await refusals(client)
        return sum(counted.values()) >= (FLOOD - 1) * 1000

    await until(all_refused, "all are refused")
    assert (await refusals(client))[code] > 0
    assert most_memory(daemon) - before < 40 * 1024 * 1024
    assert daemon.events("connection.lost") == []
    assert await daemon.terminate() == 0
