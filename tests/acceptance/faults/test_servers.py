"""The server goes away and comes back: one alone, and those of a cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.daemon import Daemon
from tests.support.load import Load
from tests.support.patience import until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.rounds import LONG_FORM, Note
from tests.support.server import NatsServer

STREAM = "arrived"
FREEZE = 8.0  # seconds: longer than an election takes

WAYS: dict[str, Callable[[NatsServer], None]] = {
    "SIGTERM": NatsServer.stop,
    "SIGKILL": NatsServer.kill,
    "SIGSTOP": NatsServer.freeze,
}


@pytest.mark.parametrize("ending", ["SIGTERM", "SIGKILL"])
async def test_restart(
    servers: Servers, daemons: Daemons, clients: Clients, rounds: int, note: Note, ending: str
) -> None:
    """A lone server restarts: what it stored is delivered, what fell due meanwhile at once."""
    server = servers.start()
    sender, receiver = await clients.connect(server), await clients.connect(server)
    daemon = await daemons.serve(server)
    async with Load(sender, receiver, into=STREAM) as load:
        for _ in range(rounds):
            await load.created(100)
            mark = daemon.mark()
            load.faults.note(ending)
            WAYS[ending](server)
            await daemon.event("connection.lost", since=mark)
            server.start()
            await daemon.event("daemon.leading", since=mark)
        account = await load.finish()
    note(account)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Run three servers."""
    with Cluster() as cluster:
        yield cluster


async def test_a_cluster_comes_up(daemons: Daemons) -> None:
    """A daemon that is there before the second server of three waits for JetStream, and starts."""
    first, *others = Cluster().servers
    with first, ExitStack() as later:
        daemon = daemons.start("serve", "--address", first.url, "--connect-timeout", "60")
        await daemon.event("connection.made")
        for server in others:
            later.enter_context(server)
        await daemon.ready()


async def settled(cluster: Cluster, client: Client) -> None:
    """Wait until both buckets have a leader and all three copies are up to date."""

    async def current() -> bool:
        return all(
            [await cluster.is_current(client, stream) for stream in ("KV_gozo", "KV_gozo_lease")]
        )

    await until(current, "three copies of both buckets", 60)


def server_of(cluster: Cluster, daemon: Daemon) -> NatsServer:
    """Return the server that a daemon is connected to."""
    return cluster.named(daemon.events("connection.made")[-1].fields["server"])


@pytest.mark.parametrize(
    ("whose", "ending"),
    [
        ("stream", "SIGKILL"),
        ("daemon", "SIGTERM"),
        pytest.param("stream", "SIGTERM", marks=LONG_FORM),
        pytest.param("stream", "SIGSTOP", marks=LONG_FORM),
        pytest.param("daemon", "SIGKILL", marks=LONG_FORM),
        pytest.param("daemon", "SIGSTOP", marks=LONG_FORM),
    ],
)
async def test_one_of_three(
    cluster: Cluster,
    daemons: Daemons,
    clients: Clients,
    rounds: int,
    note: Note,
    whose: str,
    ending: str,
) -> None:
    """The stream's leader, or the daemon's server, ends, dies or freezes: nothing is lost."""
    await cluster.ready()
    everywhere = ",".join(cluster.urls)
    serving = [await daemons.serve(everywhere, "--replicas", "3") for _ in range(2)]
    spared = cluster.servers[-1]  # the load's own link is not what is tested
    sender, receiver = await clients.connect(spared), await clients.connect(spared)
    async with Load(sender, receiver, into=STREAM, replicas=3) as load:
        for _ in range(rounds):
            await settled(cluster, sender)
            await load.created(100)
            struck = server_of(cluster, serving[0])
            if whose == "stream":
                struck = await cluster.led_elsewhere(sender, "KV_gozo", spared)
            with load.faults.during(ending):
                WAYS[ending](struck)
                if ending == "SIGSTOP":
                    await asyncio.sleep(FREEZE)  # its length is the fault
                    struck.thaw()
                await load.created(100)
            if ending != "SIGSTOP":
                struck.start()
        account = await load.finish(20)
    note(account)
