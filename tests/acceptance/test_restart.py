"""Schedules outlive the daemon that took them."""

from __future__ import annotations

import random
import time

import pytest

from tests.support.client import Arrivals
from tests.support.ids import ODD_IDS
from tests.support.patience import until, wall_clock
from tests.support.processes import Clients, Daemons, Servers
from tests.support.receipts import ask
from tests.support.replicas import stored


def numbers(arrivals: Arrivals) -> list[int]:
    """Return the payloads as the numbers they are."""
    return [int(payload) for payload in arrivals.payloads]


@pytest.mark.parametrize("ending", ["SIGTERM", "SIGKILL"])
async def test_missed_while_down(
    servers: Servers, daemons: Daemons, clients: Clients, ending: str
) -> None:
    """What fell due while no daemon ran is sent at the start, once, in the order of due times."""
    server = servers.start()
    first = await daemons.serve(server)
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    due = [time.time() + 1 + number * 0.001 for number in range(500)]
    shuffled = random.sample(range(500), 500)
    for number in shuffled:
        await client.schedule(due[number], reply=arrivals, id=f"n{number}", payload=b"%d" % number)
    await stored(client, 500)
    if ending == "SIGTERM":
        assert await first.terminate() == 0
    else:
        await first.kill()
    await wall_clock(due[-1])
    assert arrivals.all == []

    second = await daemons.serve(server)
    await arrivals.wait(500)
    assert await second.terminate() == 0
    await client.confirm()
    assert numbers(arrivals) == list(range(500))


@pytest.mark.parametrize("ending", ["SIGTERM", "SIGKILL"])
async def test_due_after_the_restart(
    servers: Servers, daemons: Daemons, clients: Clients, ending: str
) -> None:
    """Schedules with any id are there again after a restart, with payload, id and moment."""
    server = servers.start()
    first = await daemons.serve(server)
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    due = round(time.time() + 4, 6)
    for number, id_ in enumerate(ODD_IDS):
        await client.schedule(due, reply=arrivals, id=id_, payload=bytes([number]) * 1000)
    await client.schedule(due, reply=arrivals, id="cancelled", payload=b"cancelled")
    cancelled = await ask(client, {"Gozo-Del-Id": "cancelled"})
    assert cancelled["status"] == "cancelled"
    await stored(client, len(ODD_IDS) + 1)
    if ending == "SIGTERM":
        assert await first.terminate() == 0
    else:
        await first.kill()

    second = await daemons.serve(server)
    await arrivals.wait(len(ODD_IDS))
    assert await second.terminate() == 0
    await client.confirm()
    assert [arrival.headers for arrival in arrivals.all] == [
        {"Gozo-Reply": "Yes", "Gozo-Id": id_} for id_ in ODD_IDS
    ]
    assert arrivals.payloads == [bytes([number]) * 1000 for number in range(len(ODD_IDS))]
    assert min(arrival.at for arrival in arrivals.all) >= due


async def test_killed_in_the_middle(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """A daemon killed while it delivers loses nothing, and what it sends twice is little."""
    server = servers.start()
    first = await daemons.serve(server)
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    start = time.time() + 2
    due = [round(start + number * 0.001, 6) for number in range(3000)]
    for number, moment in enumerate(due):
        await client.schedule(moment, reply=arrivals, id=f"n{number}", payload=b"%d" % number)
    await arrivals.wait(1000)
    await first.kill()

    second = await daemons.serve(server)
    await until(lambda: len(set(arrivals.payloads)) == 3000, "each of 3,000 arrived")
    assert await second.terminate() == 0
    await client.confirm()
    assert sorted(set(numbers(arrivals))) == list(range(3000))
    assert [a.data for a in arrivals.all if a.at < due[int(a.data)]] == []
    assert len(arrivals.all) - 3000 < 1000


async def test_without_id_handed_over(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """Schedules without an id outlive an orderly restart, and are still sent without `Gozo-Id`."""
    server = servers.start()
    first = await daemons.serve(server)
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    due = time.time() + 1
    for number in range(200):
        await client.schedule(due + number * 0.01, reply=arrivals, payload=b"%d" % number)
    await client.confirm()
    assert await first.terminate() == 0
    second = await daemons.serve(server)
    await arrivals.wait(200)
    assert await second.terminate() == 0
    await client.confirm()
    assert numbers(arrivals) == list(range(200))
    assert {tuple(arrival.headers.items()) for arrival in arrivals.all} == {
        (("Gozo-Reply", "Yes"),)
    }
    assert [a.data for a in arrivals.all if a.at < due + int(a.data) * 0.01 - 1e-6] == []


async def test_delivered_is_settled(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """What has been delivered and cancelled does not come back with the next daemon."""
    server = servers.start()
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    for round_ in range(3):
        daemon = await daemons.serve(server)
        await client.schedule("+0", reply=arrivals, id="delivered", payload=b"%d" % round_)
        await client.schedule("+3600", reply=arrivals, id="cancelled")
        await client.cancel("cancelled")
        await arrivals.wait(round_ + 1)
        assert await daemon.terminate() == 0
    assert numbers(arrivals) == [0, 1, 2]


async def test_server_restarts(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """The daemon goes on when the server comes back: scheduled before, delivered after."""
    server = servers.start()
    daemon = await daemons.serve(server)
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    due = time.time() + 4
    await client.schedule(due, reply=arrivals, id="before", payload=b"with id")
    await client.schedule(due, reply=arrivals, payload=b"without id")
    await stored(client, 1)
    server.restart()
    await client.confirm()
    await arrivals.wait(2)
    assert sorted(arrivals.payloads) == [b"with id", b"without id"]
    assert min(arrival.at for arrival in arrivals.all) >= due
    await client.schedule("+0", reply=arrivals, id="after", payload=b"after")
    await arrivals.wait(3)
    assert await daemon.terminate() == 0


async def test_server_is_killed(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """The same when the server crashes, and something falls due while it is away."""
    server = servers.start()
    daemon = await daemons.serve(server)
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    due = time.time() + 1.5
    await client.schedule(due, reply=arrivals, id="before", payload=b"tea")
    await stored(client, 1)
    server.kill()
    await wall_clock(due)
    server.start()
    # Who listens decides what arrives: the delivery may have come before the client was back.
    later = await clients.connect(server)
    again = await later.arrivals()

    async def serves() -> bool:
        # A request is lost while the daemon is not back yet: a client has to ask again.
        await later.schedule("+0", reply=again, id="after", payload=b"serves again")
        await later.confirm()
        return again.all != []

    await until(serves, "the daemon serves again")
    assert daemon.alive
    assert await daemon.terminate() == 0
