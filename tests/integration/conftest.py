"""A server that the tests of one module share, once with a daemon and once without."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from gozo.client import Client
from tests.support.patience import allow
from tests.support.places import Place
from tests.support.processes import Daemons
from tests.support.server import NatsServer


@pytest.fixture(scope="module", params=[True, False], ids=["daemon", "no-daemon"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Run a server for the module, once with a daemon and once without."""
    with NatsServer() as server, Daemons() as daemons:
        if request.param:
            daemon = daemons.start("serve", "--address", server.url)
            daemon.find_event("daemon.ready", {"role": "leader"}, since=0, timeout=allow(10))
        yield Place(server, request.param)


@pytest.fixture
async def client(place: Place) -> AsyncIterator[Client]:
    """Connect gozo's client."""
    async with await Client.connect(place.server.url) as client:
        yield client


@pytest.fixture
def new() -> str:
    """Make a word that no other test uses, for ids and subjects."""
    return f"new-{uuid.uuid4().hex}"
