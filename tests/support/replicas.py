"""Replicas on one server, with or without a proxy before one of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from tests.support.client import Arrivals, Client
from tests.support.daemon import Daemon
from tests.support.patience import until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.proxy import Proxy
from tests.support.server import NatsServer


async def start(servers: Servers, clients: Clients) -> tuple[NatsServer, Client, Client]:
    """Start a server, and connect a sender and a receiver."""
    server = servers.start()
    return server, await clients.connect(server), await clients.connect(server)


class Pair(NamedTuple):
    """Two replicas, one of them behind a proxy."""

    sender: Client
    arrivals: Arrivals
    proxy: Proxy
    leader: Daemon
    standby: Daemon


@asynccontextmanager
async def behind_proxy(
    servers: Servers, daemons: Daemons, clients: Clients, *, leader: bool = True
) -> AsyncIterator[Pair]:
    """Start a server and two replicas of which the leader, or the standby, is behind a proxy."""
    server, sender, receiver = await start(servers, clients)
    async with Proxy(server.port) as proxy:
        near, far = (proxy.url, server) if leader else (server, proxy.url)
        one = await daemons.serve(near, "--name", "one")
        other = await daemons.serve(far)
        yield Pair(sender, await receiver.arrivals(), proxy, one, other)


async def leader_of(replicas: list[Daemon]) -> Daemon:
    """Wait until one replica leads, and return it."""
    found: list[Daemon] = []

    async def one_leads() -> bool:
        for daemon in replicas:
            led = [*daemon.events("daemon.leading"), *daemon.events("lease.lost")]
            last = max(led, key=lambda event: event.line[:24], default=None)
            if daemon.alive and last is not None and last.name == "daemon.leading":
                found.append(daemon)
        return bool(found)

    await until(one_leads, "one replica leads")
    return found[-1]


async def stored(client: Client, count: int) -> None:
    """Wait until the bucket holds at least so many messages."""

    async def enough() -> bool:
        return await client.stored() >= count

    await until(enough, f"{count} messages stored")
