"""A server and a daemon that the tests of one module share, where none needs its own."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gozo.client import Client as Gozo
from tests.support.client import Client
from tests.support.hosts import Hosts
from tests.support.patience import allow
from tests.support.processes import Clients, Daemons
from tests.support.running import Running
from tests.support.server import NatsServer


@pytest.fixture(scope="module")
def options() -> tuple[str, ...]:
    """Return the options of the module's daemon besides its address; a module may have its own."""
    return ()


@pytest.fixture(scope="module")
def running(options: tuple[str, ...]) -> Iterator[Running]:
    """Run one daemon on one server for a whole module, as most users do."""
    with NatsServer() as server, Daemons() as daemons:
        daemon = daemons.start("serve", "--address", server.url, *options)
        daemon.find_event("daemon.ready", {"role": "leader"}, since=0, timeout=allow(10))
        yield Running(server, daemon)


@pytest.fixture
async def client(running: Running, clients: Clients) -> Client:
    """Connect a client to the module's server."""
    return await clients.connect(running.server)


@pytest.fixture
def new_id() -> str:
    """Make an id that no other test uses."""
    return f"id-{uuid.uuid4().hex}"


@pytest.fixture
async def gozo(running: Running) -> AsyncIterator[Gozo]:
    """Connect gozo's own client to the module's server."""
    async with await Gozo.connect(running.server.url) as client:
        yield client


@pytest.fixture
def hosts(running: Running, daemons: Daemons, tmp_path: Path) -> Hosts:
    """Have workers on the module's server, whose commands write to a folder of the test."""
    return Hosts(running.server, daemons, tmp_path)
