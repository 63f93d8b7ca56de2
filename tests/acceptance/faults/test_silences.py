"""A replica that is not heard of for longer than a lease lasts, and then comes back.

The cases wait most of the time, so they run side by side, each on a server of its own.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gozo.requests.standby import ID_KEPT_TIME
from tests.support.account import Account
from tests.support.daemon import Daemon
from tests.support.load import Load
from tests.support.processes import Clients, Daemons, Servers
from tests.support.proxy import Mode, Proxy
from tests.support.replicas import leader_of, start
from tests.support.requests import Requests
from tests.support.rounds import Note

SILENCE = 15.0  # seconds: longer than a lease lasts
OLD = ID_KEPT_TIME + 1  # seconds: what has an id would have been handled long since
AHEAD = 3.0  # seconds: most of what is pending when the silence begins is due well after that
RATE = 50  # a second, of each of the two loads: three clusters take over at the same time
LATEST = 12.0  # seconds that a schedule may be late, as promised
UNNOTICED = 3.0  # seconds, where the leader is not the one who is silent


@dataclass(frozen=True, slots=True)
class Case:
    """Who falls silent, and how."""

    silence: Callable[[Daemon, Proxy], None]
    end: Callable[[Daemon, Proxy], None]
    is_leader: bool


def partitioned(*, leader: bool) -> Case:
    """A replica whose link carries nothing any more."""
    return Case(lambda _, way: way.be(Mode.HOLD), lambda _, way: way.be(Mode.PASS), leader)


def frozen() -> Case:
    """A leader that is stopped and goes on later."""
    return Case(
        lambda daemon, _: daemon.send(signal.SIGSTOP),
        lambda daemon, _: daemon.send(signal.SIGCONT),
        is_leader=True,
    )


async def test_silence(
    servers: Servers, daemons: Daemons, clients: Clients, rounds: int, note: Note
) -> None:
    """Frozen or cut off: another replica delivers in time; who comes back disturbs nothing."""

    async def run(case: Case) -> list[Account]:
        server, sender, receiver = await start(servers, clients)
        requesting, asked = await clients.connect(server), await clients.connect(server)
        async with Proxy(server.port) as one, Proxy(server.port) as other:
            ways = {one.url: one, other.url: other}
            serving = [await daemons.serve(url) for url in ways]
            async with (
                Load(sender, receiver, rate=RATE) as load,
                Requests(requesting, asked, rate=RATE, ahead=AHEAD) as requests,
            ):
                for _ in range(rounds):
                    await load.delivered(50)
                    leader = await leader_of(serving)
                    silent = next(d for d in serving if (d is leader) == case.is_leader)
                    way = ways[silent.arguments[2]]
                    if case.is_leader:
                        load.faults.note("silence")
                        requests.faults.note("silence")
                    case.silence(silent, way)
                    await asyncio.sleep(SILENCE)  # its length is the fault
                    case.end(silent, way)
                    # Until then, what has no id is in the memory of one only.
                    await load.delivered(200)
                return [await load.finish(), await requests.finish()]

    async def in_memory() -> None:
        """What has no id is in the memory of two, however long it has been there."""
        server, sender, receiver = await start(servers, clients)
        serving = [await daemons.serve(server) for _ in range(2)]
        arrivals = await receiver.arrivals()
        for number in range(50):
            await sender.schedule(f"+{OLD + 2}", reply=arrivals, payload=b"%d" % number)
        await asyncio.sleep(OLD)  # their age is what matters
        await (await leader_of(serving)).kill()
        await arrivals.wait(50)
        await receiver.confirm()
        assert sorted(map(int, arrivals.payloads)) == list(range(50))

    cases = [frozen(), partitioned(leader=True), partitioned(leader=False)]
    work: list[Awaitable[list[Account]]] = [run(case) for case in cases]
    results, _ = await asyncio.gather(asyncio.gather(*work), in_memory())
    for case, accounts in zip(cases, results, strict=True):
        for account in accounts:
            note(account)
            assert account.latest <= (LATEST if case.is_leader else UNNOTICED)
