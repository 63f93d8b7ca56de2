"""Requests that only standbys heard, since the leader's link for requests was lost for a moment.

Those without an id are handed to the leader: none is lost, none comes twice, whoever leads next.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal

import pytest

from tests.support.account import Account, total
from tests.support.batches import BATCH, SWALLOWED, account, schedule
from tests.support.daemon import Daemon
from tests.support.patience import until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.proxy import Mode, Proxy
from tests.support.replicas import start
from tests.support.requests import Kind, Requests
from tests.support.rounds import Note

AHEAD = 8  # seconds: another replica leads by then though the leader is cut off
HANDED = 5.0  # seconds after which the leader has what only standbys have heard


async def miss(one: Daemon, proxy: Proxy, mode: Mode) -> None:
    """End the leader's link for requests, or let it bring nothing."""
    mark = one.mark()
    proxy.be(mode, only="requests")
    if mode is Mode.REFUSE:
        await one.event("connection.lost", since=mark)


async def come_back(one: Daemon, proxy: Proxy) -> None:
    """Let a new link be made."""
    mark = one.mark()
    proxy.be(Mode.PASS)
    proxy.cut("requests")
    await one.event("connection.made", since=mark)


async def cut_off(one: Daemon, others: list[Daemon], proxy: Proxy) -> None:
    """Take both links away until another replica leads."""
    proxy.be(Mode.HOLD)
    proxy.cut()
    await until(lambda: any(other.events("daemon.leading") for other in others), "another leads")
    proxy.be(Mode.PASS)
    proxy.cut()
    await one.event("lease.lost")


async def test_the_leader_missed_some(
    servers: Servers, daemons: Daemons, clients: Clients, rounds: int, note: Note
) -> None:
    """It acts on them once, and so does who leads if it dies or is cut off later."""

    async def run(after: str, mode: Mode) -> Account:
        server, sender, receiver = await start(servers, clients)
        async with Proxy(server.port) as proxy:
            one = await daemons.serve(proxy.url, "--name", "one")
            others = [await daemons.serve(server) for _ in range(2)]
            arrivals = await receiver.arrivals()
            sent = await schedule(sender, arrivals, AHEAD)
            await miss(one, proxy, mode)
            for ahead in (AHEAD, 0, AHEAD):
                sent += await schedule(sender, arrivals, ahead)
            await come_back(one, proxy)
            sent += await schedule(sender, arrivals, AHEAD)
            for other in others:
                await other.event("standby.requests_offered")
            await arrivals.wait(BATCH)  # those that were due at once
            await asyncio.sleep(SWALLOWED)  # this is told by then
            if after == "killed":
                await one.kill()
            elif after == "cut off":
                await cut_off(one, others, proxy)
            result = await account(arrivals, sent, AHEAD)
            assert after != "goes on" or not one.events("lease.lost")
            return result

    cases = [(after, Mode.REFUSE) for after in ("goes on", "killed", "cut off")]
    cases.append(("goes on", Mode.DEAF))
    for _ in range(rounds):
        for result in await asyncio.gather(*(run(*case) for case in cases)):
            note(result)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
async def test_the_leader_came_later(
    servers: Servers, daemons: Daemons, clients: Clients, note: Note, end: signal.Signals
) -> None:
    """It was started while the only standby was paused, which alone has heard some requests."""
    server, sender, receiver = await start(servers, clients)
    one, other = [await daemons.serve(server) for _ in range(2)]
    arrivals = await receiver.arrivals()
    sent = await schedule(sender, arrivals, AHEAD)
    other.send(signal.SIGSTOP)
    one.send(end)
    await one.wait()
    sent += await schedule(sender, arrivals, AHEAD)
    await daemons.serve(server)
    sent += await schedule(sender, arrivals, AHEAD)
    other.send(signal.SIGCONT)
    await other.event("standby.requests_offered")
    note(await account(arrivals, sent, AHEAD))


async def test_requests_of_many(
    servers: Servers, daemons: Daemons, clients: Clients, rounds: int, note: Note
) -> None:
    """Several clients send all the time, so that replicas hear them in different orders."""
    server, sender, receiver = await start(servers, clients)
    async with Proxy(server.port) as proxy, contextlib.AsyncExitStack() as stack:
        one = await daemons.serve(proxy.url, "--name", "one")
        for _ in range(2):
            await daemons.serve(server)
        loads = []
        for ahead in (1.0, 0.0):
            load = Requests(sender, receiver, kinds=[Kind.WITHOUT_ID], rate=200, ahead=ahead)
            loads.append(await stack.enter_async_context(load))
            sender = await clients.connect(server)
        for _ in range(3 * rounds):
            await loads[0].created(100)
            await miss(one, proxy, Mode.REFUSE)
            await loads[0].created(40)
            await come_back(one, proxy)
        await loads[0].created(200)
        result = total([await load.finish() for load in loads])
    note(result)
    assert result.latest < HANDED
    assert not one.events("lease.lost")
