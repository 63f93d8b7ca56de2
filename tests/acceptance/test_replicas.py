"""Two daemons on one bucket: one leads, the other stands by and takes over."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

from nats.aio.msg import Msg

from gozo.client import Client as Gozo
from tests.support.client import Arrivals, Client
from tests.support.daemon import Daemon
from tests.support.patience import until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.replicas import stored

COUNT = 4000
INTERVAL = 0.0005  # seconds between two due times


@dataclass(frozen=True, slots=True)
class Pair:
    """A leader and a standby, and a client that has scheduled a stream of deliveries."""

    leader: Daemon
    standby: Daemon
    client: Client
    arrivals: Arrivals
    due: list[float]

    def early(self) -> list[bytes]:
        """Return what arrived before it was due."""
        return [a.data for a in self.arrivals.all if a.at < self.due[int(a.data)]]

    def counts(self) -> Counter[int]:
        """Return how often each number arrived."""
        return Counter(int(payload) for payload in self.arrivals.payloads)


async def pair(servers: Servers, daemons: Daemons, clients: Clients) -> Pair:
    """Start two daemons, and schedule two deliveries per millisecond; every tenth has no id."""
    server = servers.start()
    leader = await daemons.serve(server, "--name", "one")
    assert (await leader.ready()).fields["role"] == "leader"
    standby = await daemons.serve(server, "--name", "two")
    assert (await standby.ready()).fields["role"] == "standby"
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    start = time.time() + 1.5
    due = [round(start + number * INTERVAL, 6) for number in range(COUNT)]
    for number, moment in enumerate(due):
        id_ = None if number % 10 == 0 else f"n{number}"
        await client.schedule(moment, reply=arrivals, id=id_, payload=b"%d" % number)
    await stored(client, COUNT * 9 // 10)
    return Pair(leader, standby, client, arrivals, due)


async def test_nothing_twice(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """When nothing fails, each is delivered exactly once, by one of the two."""
    both = await pair(servers, daemons, clients)
    await both.arrivals.wait(COUNT)
    assert await both.standby.terminate() == 0
    assert await both.leader.terminate() == 0
    await both.client.confirm()
    assert both.counts() == Counter(range(COUNT))
    assert both.early() == []


async def test_orderly_handover(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """The leader ends in the middle of its deliveries: nothing lost, twice or early."""
    both = await pair(servers, daemons, clients)
    await both.arrivals.wait(COUNT // 4)
    assert await both.leader.terminate() == 0
    await both.standby.event("lease.acquired")
    await both.arrivals.wait(COUNT)
    assert await both.standby.terminate() == 0
    await both.client.confirm()
    assert both.counts() == Counter(range(COUNT))
    assert both.early() == []


async def test_leader_is_killed(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """The leader is killed: nothing that had an id is lost, nothing that was settled goes again."""
    both = await pair(servers, daemons, clients)
    removed: set[str] = set()

    async def on_change(message: Msg) -> None:
        if message.headers and "KV-Operation" in message.headers:
            removed.add(message.subject.removeprefix("$KV.gozo."))

    await both.client.nats.subscribe("$KV.gozo.>", cb=on_change)
    await both.arrivals.wait(COUNT // 4)
    await until(lambda: bool(removed), "something is settled")
    settled = frozenset(removed)
    await both.leader.kill()
    await both.standby.event("lease.acquired")
    with_id = {number for number in range(COUNT) if number % 10}
    await until(lambda: with_id <= both.counts().keys(), "every schedule with an id arrived")
    assert await both.standby.terminate() == 0
    await both.client.confirm()
    assert both.early() == []
    assert max(both.counts().values()) <= 2
    twice = {f"n{number}" for number, count in both.counts().items() if count == 2}
    assert settled.isdisjoint(twice)


async def test_standby_ends(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """A standby that goes, in order or killed, is not noticed by anybody."""
    both = await pair(servers, daemons, clients)
    since = both.leader.mark()
    assert await both.standby.terminate() == 0
    server_url = both.leader.arguments[2]
    third = daemons.start("serve", "--address", server_url, "--name", "three")
    assert (await third.ready()).fields["role"] == "standby"
    await third.kill()
    await both.arrivals.wait(COUNT)
    assert await both.leader.terminate() == 0
    await both.client.confirm()
    assert both.counts() == Counter(range(COUNT))
    assert both.leader.events("lease.acquired", since=since) == []


async def test_requests_after_a_takeover(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """The new leader takes requests, cancels and replacements of what the old one had stored."""
    server = servers.start()
    leader = await daemons.serve(server)
    standby = await daemons.serve(server)
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    for id_ in ("cancelled", "replaced", "kept"):
        await client.schedule("+4", reply=arrivals, id=id_, payload=id_.encode())
    await client.schedule("+4", reply=arrivals, payload=b"without id")
    await stored(client, 3)
    assert await leader.terminate() == 0
    await standby.event("lease.acquired")
    await client.cancel("cancelled")
    await client.schedule("+1", reply=arrivals, id="replaced", payload=b"new")
    await arrivals.wait(3)
    assert await standby.terminate() == 0
    await client.confirm()
    assert sorted(arrivals.payloads) == [b"kept", b"new", b"without id"]


async def test_requests_while_nobody_leads(
    servers: Servers, daemons: Daemons, clients: Clients, new_id: str
) -> None:
    """The leader was killed, and no other leads yet: what is asked for meanwhile is done then."""
    server = servers.start()
    leader = await daemons.serve(server)
    standby = await daemons.serve(server)
    arrivals = await (await clients.connect(server)).arrivals(new_id)
    async with await Gozo.connect(server.url) as client:
        await client.schedule(new_id, b"unwanted", when="+3600", id="cancelled")
        await leader.kill()
        assert not standby.events("lease.acquired")
        assert await client.request(new_id, b"asked", when="+0", receipt=True) is not None
        (gone,) = await client.cancel("cancelled")
        assert gone.status == "cancelled"
    await arrivals.wait(1)
    assert await standby.terminate() == 0
    assert arrivals.payloads == [b"asked"]
