"""What a delete marker would have told comes too late: it is gone by then."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import AsyncIterator
from contextlib import ExitStack

import pytest
from nats import errors as nats_errors

from tests.support.client import Arrivals, Client
from tests.support.cluster import Cluster
from tests.support.daemon import Daemon
from tests.support.patience import allow, until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.proxy import Mode, Proxy
from tests.support.server import NatsServer
from tests.support.short_lives import SHORT_LIVES

KEPT, GONE = 5, 200


@pytest.fixture(params=["one server", "R3"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[NatsServer]:
    """Run a server, or three and return one."""
    with ExitStack() as stack:
        if request.param == "R3":
            cluster = stack.enter_context(Cluster())
            await cluster.ready()
            yield cluster.servers[0]
        else:
            yield stack.enter_context(NatsServer())


class Delay(Proxy):
    """A way on which the first write of the key `late` is held up."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.held = b""

    def _asked(self, data: bytes) -> bytes:
        match = None if self.held else re.search(rb"HPUB \$KV\.gozo\.late \S+ \d+ (\d+)\r\n", data)
        if match is None:
            return data
        end = match.end() + int(match[1]) + 2
        assert end <= len(data), "it was cut in two"
        self.held = data[match.start() : end]
        return data[: match.start()] + data[end:]

    def hand_on(self) -> None:
        """Let it arrive."""
        both = next(both for name, both in self._links.items() if "requests" not in name.text)
        both[1].write(self.held)


async def schedule_each(
    client: Client, arrivals: Arrivals, *, cancelled: str, delivered: str
) -> list[str]:
    """Schedule some to be cancelled, some to be delivered, and one to be kept.

    Returns the ids of those to be cancelled.
    """
    ids = [f"cancelled{number}" for number in range(KEPT)]
    for id_ in ids:
        await client.schedule(cancelled, reply=arrivals, id=id_)
    for number in range(KEPT):
        await client.schedule(delivered, reply=arrivals, id=f"delivered{number}")
    await client.schedule("+3600", reply=arrivals, id="kept")
    return ids


async def cancel(client: Client, *ids: str) -> None:
    """Cancel schedules, and see that they are."""
    asked = json.dumps({"ids": ids}).encode()
    answer = json.loads((await client.nats.request("gozo.admin.cancel", asked, timeout=10)).data)
    assert {one["status"] for one in answer["results"]} == {"cancelled"}


async def holds(client: Client, messages: int) -> None:
    """Wait until the bucket holds so many messages, markers included."""

    async def counted() -> bool:
        return await client.stored() == messages

    await until(counted, f"the bucket holds {messages} messages", allow(15))


async def test_a_follower_that_stood_still(
    server: NatsServer, daemons: Daemons, clients: Clients
) -> None:
    """A standby was stopped for longer than markers live, and its link held: it loads anew.

    What it had seen, and others removed meanwhile, it drops long before it compares its count with
    the server's, and before it leads.
    """
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    leader = daemons.start(server.url, program=SHORT_LIVES)
    await leader.ready()
    standby: Daemon = daemons.start(server.url, program=SHORT_LIVES)
    await standby.ready()
    before = await client.stored()
    ids = [f"gone{number}" for number in range(GONE)]
    for id_ in [*ids, *(f"kept{number}" for number in range(KEPT))]:
        await client.schedule("+3600", reply=arrivals, id=id_)
    await client.confirm()
    await holds(client, before + GONE + KEPT)
    mark = standby.mark()
    standby.send(signal.SIGSTOP)
    await cancel(client, *ids)
    await holds(client, before + KEPT)
    standby.send(signal.SIGCONT)
    dropped = await standby.event("follower.dropped", since=mark)
    assert 0 < int(dropped.fields["keys"]) <= GONE  # it may have been stopped before it saw all
    assert standby.events("connection.lost", since=mark) == []
    reasons = [event.fields["reason"] for event in standby.events("follower.reset", since=mark)]
    assert reasons[-1].startswith("not up to date for "), reasons


async def test_a_create_that_comes_when_the_marker_is_gone(
    server: NatsServer, daemons: Daemons, clients: Clients
) -> None:
    """What was given up, made again, cancelled and forgotten does not rise from the dead.

    It is not delivered, by this leader or the next one, and removed from the bucket.
    """
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    async with Delay(server.port) as way:
        leader = daemons.start(way.url, program=SHORT_LIVES)
        await leader.ready()
        before = await client.stored()
        await client.schedule("+3600", reply=arrivals, id="late")
        await leader.event("store.waiting", key="late")
        await holds(client, before + 1)
        assert way.held
        await cancel(client, "late")
        await holds(client, before)
        way.hand_on()
        await leader.event("entry.late", key="late")
        await holds(client, before + 1)
        second = daemons.start(server.url, program=SHORT_LIVES)
        await second.ready()
        assert leader.events("daemon.ready")[0].fields["pending"] == "0"
        assert second.events("daemon.ready")[0].fields["pending"] == "0"
        await holds(client, before)


async def test_a_server_that_is_killed_when_the_markers_are_gone(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """It brings back what was delivered and cancelled: that is not delivered, but removed."""
    server = servers.start()
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    leader = daemons.start(server.url, program=SHORT_LIVES)
    await leader.ready()
    standby = daemons.start(server.url, program=SHORT_LIVES)
    await standby.ready()
    before = await client.stored()
    ids = await schedule_each(client, arrivals, cancelled="+5", delivered="+0.1")
    await arrivals.wait(KEPT)
    await cancel(client, *ids)
    await holds(client, before + 1)
    marks = leader.mark(), standby.mark()
    server.kill()
    server.start()
    for one, mark in zip((leader, standby), marks, strict=True):
        await one.event("entry.revived", since=mark)
    await holds(client, before + 1)
    await leader.terminate()

    async def is_told() -> bool:
        try:
            reply = await client.nats.request("gozo.admin.keys", b"{}", timeout=1)
        except nats_errors.Error:
            return False
        schedules: int = json.loads(reply.data).get("schedules", 0)
        return schedules == 1

    await until(is_told, "the standby leads, and knows one schedule", allow(15))
    assert len(arrivals.all) == KEPT


async def test_a_server_that_is_killed_when_a_standby_has_not_seen_the_markers(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """The standby has seen that the schedules were gone, which is as good."""
    server = servers.start()
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    async with Proxy(server.port) as way:
        leader = daemons.start(server.url, program=SHORT_LIVES)
        await leader.ready()
        before = await client.stored()
        ids = await schedule_each(client, arrivals, cancelled="+3600", delivered="+4")
        await holds(client, before + 2 * KEPT + 1)
        standby = daemons.start(way.url, program=SHORT_LIVES)
        await standby.ready()
        way.be(Mode.HOLD)
        way.cut()
        await arrivals.wait(KEPT)
        await cancel(client, *ids)
        await holds(client, before + 1)
        way.be(Mode.PASS)
        await standby.event("follower.dropped", keys=str(2 * KEPT))
        server.kill()
        await leader.kill()
        server.start()
        await standby.event("daemon.leading")
        await holds(client, before + 1)
    assert len(standby.events("entry.revived")) > 0
    assert len(arrivals.all) == KEPT
