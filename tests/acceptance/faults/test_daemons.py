"""The leader ends or dies; another replica takes over."""

from __future__ import annotations

import signal

import pytest

from gozo.leadership.feed_messages import read_feed_message
from tests.support.daemon import Daemon
from tests.support.load import Load
from tests.support.patience import until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.replicas import leader_of, start
from tests.support.requests import MIXED, Kind, Requests
from tests.support.rounds import LONG_FORM, Note

LATEST = {"SIGTERM": 2.0, "SIGKILL": 5.0}
"""Seconds that a schedule may be late when the leader is sent this signal.

On an idle machine it takes 0.1 s and 1 s; a lease that runs out takes ten.
"""


async def end(leader: Daemon, ending: str, *loads: Load) -> None:
    """End the leader; a crash explains what comes twice, an orderly end nothing."""
    if ending == "SIGKILL":
        for load in loads:
            load.faults.note(ending)
    leader.send(signal.Signals[ending])
    await leader.wait()


@pytest.mark.parametrize("replicas", [2, pytest.param(3, marks=LONG_FORM)])
@pytest.mark.parametrize("ending", ["SIGTERM", "SIGKILL"])
async def test_leader_ends(
    servers: Servers,
    daemons: Daemons,
    clients: Clients,
    rounds: int,
    note: Note,
    ending: str,
    replicas: int,
) -> None:
    """The leader is stopped or killed: nothing is lost, and the next is on time.

    In an orderly change nothing goes out twice either.
    """
    server, sender, receiver = await start(servers, clients)
    serving = [await daemons.serve(server) for _ in range(replicas)]
    async with Load(sender, receiver, rate=200) as load:
        for _ in range(rounds):
            leader = await leader_of(serving)
            await load.delivered(100)
            await end(leader, ending, load)
            serving.remove(leader)
            await leader_of(serving)
            serving.append(await daemons.serve(server))
        account = await load.finish()
    note(account)
    assert account.latest <= LATEST[ending]


@pytest.mark.parametrize("ahead", [0.0, 1.0], ids=["at once", "soon"])
@pytest.mark.parametrize("ending", ["SIGTERM", "SIGKILL"])
async def test_requests_go_on(
    servers: Servers,
    daemons: Daemons,
    clients: Clients,
    rounds: int,
    note: Note,
    ending: str,
    ahead: float,
) -> None:
    """Requests that nobody waits for are acted on, though no daemon leads when they are sent."""
    server, sender, receiver = await start(servers, clients)
    serving = [await daemons.serve(server) for _ in range(2)]
    kinds = MIXED if ahead else (Kind.WITH_ID, Kind.WITHOUT_ID)  # no cancel comes before now
    async with Requests(sender, receiver, rate=500, ahead=ahead, kinds=kinds) as load:
        for _ in range(rounds):
            leader = await leader_of(serving)
            # The standby has heard all that has no id, and lives in the leader's memory.
            await load.delivered(600)
            await end(leader, ending, load)
            serving.remove(leader)
            await leader_of(serving)
            serving.append(await daemons.serve(server))
        await load.delivered(200)
        account = await load.finish()
    note(account)


@pytest.mark.parametrize("delivered_first", [False, True], ids=["before", "after"])
async def test_the_same_request_again(
    servers: Servers, daemons: Daemons, clients: Clients, delivered_first: bool
) -> None:
    """One was delivered that is older than the standby: it keeps the one that is the same."""
    server, sender, receiver = await start(servers, clients)
    leader = await daemons.serve(server)
    arrivals, told = await receiver.arrivals(), await receiver.arrivals("gozo.admin.told")
    await receiver.confirm()
    await sender.schedule("+5", reply=arrivals)
    await daemons.serve(server)
    if delivered_first:
        await arrivals.wait(1)
    else:
        await sender.schedule("+5", reply=arrivals)
    await arrivals.wait(1)

    def is_told() -> bool:
        read = map(read_feed_message, told.payloads)
        return any(one is not None and one.digests for one in read)

    await until(is_told, "it is told")
    if delivered_first:
        count = len(told.payloads)
        await sender.schedule("+5", reply=arrivals)
        await told.wait(count + 1)
    await leader.kill()
    assert len(await arrivals.wait(2)) == 2
