"""Requests without an id when the lead changes: none is lost, and none comes twice.

They live in the memory of replicas, which know them by a digest: those that are the same byte
for byte are told apart by their order alone.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from gozo.requests.intake import CATCH_UP_TIME
from tests.support.account import Account
from tests.support.batches import BATCH, SWALLOWED, account, schedule
from tests.support.daemon import Daemon
from tests.support.patience import until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.proxy import Mode, Proxy
from tests.support.replicas import behind_proxy, start
from tests.support.requests import Identical, Kind, Requests
from tests.support.rounds import Note

JOINED = 1.0  # seconds for which a standby has heard requests when the leader ends
RATES = (200, 1000)  # identical requests a second
SOON = 2.5  # seconds until they are due
LATER = 5  # seconds: another replica leads by then
LATEST = 9  # seconds: what is due `LATER` has arrived by then, and the leader is killed
LATE = 16  # seconds: another replica leads by then though the leader is silent
ALL = 1_000_000  # that are the same: more than are sent


async def test_a_standby_joins(
    servers: Servers, daemons: Daemons, clients: Clients, rounds: int, note: Note
) -> None:
    """It has heard some of a flow of identical requests: it begins with those and no others."""

    async def run(rate: int) -> Account:
        server, sender, receiver = await start(servers, clients)
        leader = await daemons.serve(server)
        flow = Identical(sender, receiver, group=ALL, rate=rate, ahead=SOON)
        async with flow:
            await flow.created(rate)
            for _ in range(rounds):
                standby = await daemons.serve(server)
                await asyncio.sleep(JOINED)  # what it has heard by then is what matters
                assert await leader.terminate() == 0
                await standby.event("daemon.leading")
                leader = standby
            return await flow.finish()

    for result in await asyncio.gather(*map(run, RATES)):
        note(result)


async def test_after_a_change(
    servers: Servers, daemons: Daemons, clients: Clients, rounds: int, note: Note
) -> None:
    """What another leader had in a change that is over leaves nothing out in the next one."""

    async def blip() -> Account:
        """The link is away, and what was pending has been sent when the next change comes."""
        async with behind_proxy(servers, daemons, clients) as pair:
            sender, arrivals, proxy, one, other = pair
            sent = await schedule(sender, arrivals, LATER)
            proxy.be(Mode.HOLD)
            proxy.cut()
            await other.event("daemon.leading")
            proxy.be(Mode.PASS)
            proxy.cut()
            await one.event("lease.lost")
            await arrivals.wait(BATCH)
            sent += await schedule(sender, arrivals, LATER)
            assert await other.terminate() == 0
            await until(lambda: len(one.events("daemon.leading")) == 2, "it leads again")
            assert await one.terminate() == 0
            await daemons.serve(other.arguments[2])
            return await account(arrivals, sent, LATER)

    async def deleted() -> Account:
        """The lease is deleted by hand, and two lead for half a second."""
        server, sender, receiver = await start(servers, clients)
        one, other = [await daemons.serve(server) for _ in range(2)]
        kinds = (Kind.WITHOUT_ID, Kind.WITHOUT_ID, Kind.WITH_ID)
        load = Requests(sender, receiver, kinds=kinds, rate=300, ahead=SOON)
        async with load:
            await load.created(300)
            with load.faults.during("two lead"):
                await sender.delete_lease()
                await other.event("daemon.leading")
                await one.event("lease.lost")
            await load.created(300)
            assert await other.terminate() == 0
            await until(lambda: len(one.events("daemon.leading")) == 2, "it leads again")
            await load.created(100)
            last = await daemons.serve(server)
            assert await one.terminate() == 0
            await last.event("daemon.leading")
            return await load.finish()

    for _ in range(rounds):
        # They wait most of the time, so they run side by side.
        for result in await asyncio.gather(blip(), deleted()):
            note(result)


def cut_off(_: Daemon, way: Proxy) -> None:
    """Take both connections away."""
    way.be(Mode.HOLD)
    way.cut()


def come_back(_: Daemon, way: Proxy) -> None:
    """Let new connections through."""
    way.be(Mode.PASS)
    way.cut()


WAYS: dict[str, tuple[Callable[[Daemon, Proxy], None], Callable[[Daemon, Proxy], None]]] = {
    "link": (cut_off, come_back),
    "main link": (
        lambda _, way: way.be(Mode.HOLD, only="one"),
        lambda _, way: way.be(Mode.PASS),
    ),
    "swallowed": (lambda _, way: way.be(Mode.SWALLOW), come_back),  # it hears on, unheard
    "frozen": (
        lambda daemon, _: daemon.send(signal.SIGSTOP),
        lambda daemon, _: daemon.send(signal.SIGCONT),
    ),
}
"""How a leader is away for so long that another one leads, and how it comes back."""


async def test_away(
    servers: Servers, daemons: Daemons, clients: Clients, rounds: int, note: Note
) -> None:
    """A leader that comes back hands over what the next one has not heard, and nothing else."""

    async def run(way: str) -> Account:
        leave, come = WAYS[way]
        server, sender, receiver = await start(servers, clients)
        async with Proxy(server.port) as proxy:
            one = await daemons.serve(proxy.url, "--name", "one")
            arrivals = await receiver.arrivals()
            sent = await schedule(sender, arrivals, LATE)
            other = await daemons.serve(server)
            sent += await schedule(sender, arrivals, LATE)
            leave(one, proxy)
            sent += await schedule(sender, arrivals, LATE)
            await other.event("daemon.leading")
            sent += await schedule(sender, arrivals, LATER)
            come(one, proxy)
            await one.event("lease.lost")
            sent += await schedule(sender, arrivals, LATER)
            return await account(arrivals, sent, LATER)

    async def held() -> None:
        """What it wrote under keys of its own arrives once another leads, and counts no more."""
        async with behind_proxy(servers, daemons, clients) as pair:
            sender, arrivals, proxy, one, other = pair
            proxy.be(Mode.HOLD, only="one")
            await one.event("lease.waiting")  # a second later: it writes for another one or so
            sent = await schedule(sender, arrivals, LATER, receipts="nobody")
            await other.event("daemon.leading")
            proxy.be(Mode.PASS)
            note(await account(arrivals, sent, LATER))
            await other.event("entry.late")

    for _ in range(rounds):
        results, _ = await asyncio.gather(asyncio.gather(*map(run, WAYS)), held())
        for result in results:
            note(result)


async def test_the_next_leader_dies(
    servers: Servers, daemons: Daemons, clients: Clients, rounds: int, note: Note
) -> None:
    """What the one before gave up, since that one had it, goes out all the same, and once."""

    async def run(replicas: int) -> Account:
        server, sender, receiver = await start(servers, clients)
        one, *others = [await daemons.serve(server) for _ in range(replicas)]
        arrivals = await receiver.arrivals()
        sent = await schedule(sender, arrivals, LATER)
        await sender.delete_lease()
        while others:
            await until(lambda: any(leads(other) for other in others), "another one leads")
            leader = next(other for other in others if leads(other))
            others.remove(leader)
            await one.event("handover.answered")
            some = await schedule(sender, arrivals, 0)
            await arrivals.wait((replicas - 1 - len(others)) * BATCH)
            await asyncio.sleep(SWALLOWED)  # that has been told by then
            sent += some + await schedule(sender, arrivals, LATER)
            await leader.kill()
            await until(lambda: leads(one, 2) or any(map(leads, others)), "another one leads")
            if leads(one, 2):
                break
        return await account(arrivals, sent, LATER)

    for _ in range(rounds):
        for result in await asyncio.gather(run(2), run(3)):
            note(result)


def leads(daemon: Daemon, times: int = 1) -> bool:
    """Tell whether a daemon has begun to lead so often."""
    return len(daemon.events("daemon.leading")) >= times


async def test_the_leader_is_not_heard(
    servers: Servers, daemons: Daemons, clients: Clients, rounds: int, note: Note
) -> None:
    """A standby that missed what the leader told keeps what it hears from then on, all of it."""
    for _ in range(rounds):
        async with behind_proxy(servers, daemons, clients) as pair:
            sender, arrivals, proxy, one, other = pair
            soon = await sender.arrivals()
            sent = await schedule(sender, arrivals, LATER)
            proxy.be(Mode.SWALLOW, only="requests")
            await sender.schedule("+0", reply=soon)
            await soon.wait()
            await asyncio.sleep(SWALLOWED)  # it has been told by then
            proxy.be(Mode.PASS)
            proxy.cut("requests")
            await other.event("standby.reports_missed")
            sent += await schedule(sender, arrivals, LATEST)
            await arrivals.wait(BATCH)
            await asyncio.sleep(SWALLOWED)  # so has that
            await one.kill()
            await other.event("daemon.leading")
            result = await account(arrivals, sent, LATER)
        note(result)


async def test_the_requests_link_is_away(
    servers: Servers, daemons: Daemons, clients: Clients, rounds: int, note: Note
) -> None:
    """A leader that gives way for that, or ends meanwhile, tells by its other link what it did."""

    async def run(mode: Mode, ends: bool) -> Account:
        async with behind_proxy(servers, daemons, clients) as pair:
            sender, arrivals, proxy, one, other = pair
            sent = await schedule(sender, arrivals, LATER)
            proxy.be(mode, only="requests")
            if mode is Mode.REFUSE:
                await one.event("connection.lost")
                sent += await schedule(sender, arrivals, 0)  # the other one has heard these
            if ends:
                assert await one.terminate() == 0
            await other.event("daemon.leading")
            sent += await schedule(sender, arrivals, LATER)
            return await account(arrivals, sent, LATER)

    cases = ((Mode.REFUSE, True), (Mode.REFUSE, False), (Mode.HOLD, True))
    for _ in range(rounds):
        for result in await asyncio.gather(*(run(*case) for case in cases)):
            note(result)


async def test_the_standby_lags(
    servers: Servers, daemons: Daemons, clients: Clients, rounds: int, note: Note
) -> None:
    """It has not read yet what a leader told that dies, and reads that before it acts."""
    for _ in range(rounds):
        async with behind_proxy(servers, daemons, clients, leader=False) as pair:
            sender, arrivals, proxy, one, other = pair
            proxy.be(Mode.HOLD, only="requests")
            sent = await schedule(sender, arrivals, 0)
            await arrivals.wait(BATCH)
            await asyncio.sleep(SWALLOWED)  # it has told that by then
            await one.kill()
            await other.event("lease.acquired")
            await asyncio.sleep(CATCH_UP_TIME / 3)  # it would act before that
            proxy.be(Mode.PASS)
            await other.event("daemon.leading")
            result = await account(arrivals, sent, 0)
        note(result)


async def test_a_former_leader_lags(
    servers: Servers, daemons: Daemons, clients: Clients, rounds: int, note: Note
) -> None:
    """It leads again, and has not read yet what the one in between stored when it ended."""

    async def run() -> Account:
        async with behind_proxy(servers, daemons, clients) as pair:
            sender, arrivals, proxy, one, other = pair
            sent = await schedule(sender, arrivals, LATER)
            await sender.delete_lease()
            await other.event("daemon.leading")
            await one.event("handover.answered")
            proxy.be(Mode.HOLD, only="requests")
            assert await other.terminate() == 0
            await until(lambda: len(one.events("lease.acquired")) == 2, "it has the lease")
            await asyncio.sleep(CATCH_UP_TIME / 3)  # it would act before that
            proxy.be(Mode.PASS)
            await until(lambda: leads(one, 2), "it leads again")
            return await account(arrivals, sent, LATER)

    for _ in range(rounds):
        note(await run())
