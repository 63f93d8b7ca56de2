"""When a standby takes the lease, against a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gozo import lease
from gozo.clock import steady
from gozo.connection import Connection
from gozo.jetstream import JetStream
from gozo.lease import Lease, Role
from gozo.policy import Policy
from gozo.settings import ConnectionSettings
from gozo.store.bucket import open_bucket
from tests.support.patience import until
from tests.support.server import NatsServer

KEY = "$KV.gozo_lease.leader"
TAKEOVER = 1.0  # seconds, as they are in these tests
NEVER = 1_000.0  # seconds


@asynccontextmanager
async def connected(server: NatsServer, name: str) -> AsyncIterator[Connection]:
    """Connect, and keep the connection."""
    connection = Connection(ConnectionSettings(addresses=(server.url,)), name)
    await connection.open(5)
    keeping = asyncio.create_task(connection.keep())
    try:
        yield connection
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await connection.close()


@asynccontextmanager
async def standing_by(connection: Connection) -> AsyncIterator[Lease]:
    """Run the lease of a replica that may lead."""
    standby = Lease(
        connection, "gozo", Policy("gozo"), name="standby", replicas=None, may_lead=lambda: True
    )
    running = asyncio.create_task(standby.run())
    try:
        yield standby
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten what a standby waits for, and lengthen what it must not depend on."""
    monkeypatch.setattr(lease, "TAKEOVER", TAKEOVER)
    monkeypatch.setattr(lease, "OVERDUE", TAKEOVER / 4)
    monkeypatch.setattr(lease, "RENEW", NEVER)
    monkeypatch.setattr(lease, "ANSWER_TIME", NEVER)


@pytest.mark.usefixtures("hasty")
async def test_a_silent_holder_is_replaced_the_moment_its_lease_is_free() -> None:
    """Neither the next turn nor an answer is waited for; and a renewal counts when it is seen."""
    with NatsServer() as server:
        async with connected(server, "holder") as holder, connected(server, "other") as other:
            await open_bucket(JetStream(holder), "gozo_lease", replicas=None, memory=True)
            asked = asyncio.Event()
            holder.listen("gozo.admin.leader", lambda *_: asked.set())
            await holder.request(KEY, b"first")
            async with standing_by(other) as standby:
                await asyncio.wait_for(asked.wait(), 10)
                renewed = steady()
                await holder.request(KEY, b"again")
                await until(lambda: standby.role is Role.LEADER, "the standby leads")
                assert steady() >= renewed + TAKEOVER
