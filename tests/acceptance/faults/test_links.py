"""What networks do to a link, by a proxy between the daemon and its server."""

from __future__ import annotations

import asyncio

from tests.support.account import Account
from tests.support.load import Load
from tests.support.patience import allow
from tests.support.processes import Clients, Daemons, Servers
from tests.support.proxy import Mode, Proxy
from tests.support.replicas import start
from tests.support.rounds import Note

CUTS = 5  # in one round
MAKING = 0.01  # seconds: the making of a connection takes some of them
RATE = 100  # schedules a second
DELIVERING = 0.5  # seconds since the first is due when a link falls silent
SHORT = 40  # connections that end while they are made, in one round
SLOW = 60_000  # bytes a second: some three times what the load and its settling need
SWALLOWED = 1.0  # seconds of swallowing: less than it takes to notice


async def test_cut(
    servers: Servers, daemons: Daemons, clients: Clients, rounds: int, note: Note
) -> None:
    """Connections that are reset, again and again, lose nothing."""
    server, sender, receiver = await start(servers, clients)
    async with Proxy(server.port) as proxy:
        daemon = await daemons.serve(proxy.url)
        async with Load(sender, receiver, rate=500) as load:
            for _ in range(CUTS * rounds):
                await load.delivered(100)
                mark = daemon.mark()
                load.faults.note("cut")
                proxy.cut()
                await daemon.event("lease.renewed", since=mark)
            account = await load.finish()
    note(account)


async def test_cut_while_it_is_made(
    servers: Servers, daemons: Daemons, clients: Clients, rounds: int, note: Note
) -> None:
    """Connections that end at any moment of their making are made anew, and lose nothing."""
    server, sender, receiver = await start(servers, clients)
    async with Proxy(server.port) as proxy:
        await daemons.serve(proxy.url)
        async with Load(sender, receiver) as load:
            for _ in range(rounds):
                await load.delivered(50)
                proxy.end_within(MAKING)
                with load.faults.during("cut", again=True):
                    proxy.cut()
                    await proxy.begins(SHORT)
                    proxy.end_within(None)
                await load.delivered(50)
            account = await load.finish()
    note(account)


async def test_half_open(
    servers: Servers, daemons: Daemons, clients: Clients, rounds: int, note: Note
) -> None:
    """A link that carries nothing, or only one way, and does not close, is left and made anew.

    Little is sent on it, whether an echo is to confirm that or a stream.
    """

    async def run(mode: Mode, into: str = "", ahead: float = 1.0) -> Account:
        server, sender, receiver = await start(servers, clients)
        async with Proxy(server.port) as proxy:
            daemon = await daemons.serve(proxy.url, "--name", "one")
            async with Load(sender, receiver, rate=RATE, ahead=ahead, into=into) as load:
                some = round((ahead + DELIVERING) * RATE)
                for _ in range(rounds):
                    await load.created(some)
                    mark = daemon.mark()
                    load.faults.note(mode.name)
                    proxy.be(mode)
                    lost = ("connection.lost", {"name": "one"}, mark, allow(40))
                    await asyncio.to_thread(daemon.find_event, *lost)
                    load.faults.note("cut", repeats=False)  # the daemon has left it
                    proxy.be(Mode.PASS)
                    proxy.cut()  # no network goes on with the middle of a stream
                    await load.created(some)
                return await load.finish()

    # They wait most of the time, so they run side by side.
    works = [
        *map(run, (Mode.HOLD, Mode.DEAF, Mode.SWALLOW)),
        run(Mode.DEAF, into="taken", ahead=3.0),
    ]
    for account in await asyncio.gather(*works):
        note(account)


async def test_swallowed_and_dropped(
    servers: Servers, daemons: Daemons, clients: Clients, rounds: int, note: Note
) -> None:
    """What was sent into a link that swallowed it before it broke is sent again."""
    server, sender, receiver = await start(servers, clients)
    async with Proxy(server.port) as proxy:
        daemon = await daemons.serve(proxy.url)
        async with Load(sender, receiver) as load:
            for _ in range(rounds):
                await load.delivered(50)
                mark = daemon.mark()
                with load.faults.during("swallowed"):
                    proxy.be(Mode.SWALLOW)
                    await asyncio.sleep(SWALLOWED)  # the length of it is the fault
                    proxy.be(Mode.PASS)
                    proxy.cut()
                await daemon.event("lease.renewed", since=mark)
            account = await load.finish()
    note(account)


async def test_slow(servers: Servers, daemons: Daemons, clients: Clients, note: Note) -> None:
    """A link that is slow is used as it is: all arrive, and the lease is kept."""
    server, sender, receiver = await start(servers, clients)
    async with Proxy(server.port) as proxy:
        daemon = await daemons.serve(proxy.url)
        async with Load(sender, receiver, rate=40) as load:
            await load.delivered(20)
            proxy.slow(SLOW)
            await load.delivered(100)
            account = await load.finish()
        assert daemon.events("lease.lost") == []
    note(account)
