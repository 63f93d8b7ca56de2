"""The storage is full: what is due goes out once, a cancel counts, and nothing new is promised."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.support.client import Client
from tests.support.processes import Clients, Daemons, Servers
from tests.support.receipts import ask
from tests.support.storage import Limit, call, marker, without

COUNT = 200
LARGE = b"x" * 2_000
CANCELLED = ("far.0", "far.0", "due.0")


async def store(client: Client, key: str, due: float, subject: str, **more: str) -> None:
    """Store a small entry, as clients do that write to the bucket themselves."""
    headers = {"Gozo-When": f"{due:.3f}", "Gozo-Subject": subject, **more}
    await client.nats.request(f"$KV.gozo.{key}", key.encode(), headers=headers)


@pytest.mark.parametrize("kind", ["bucket", "server"])
async def test_full(servers: Servers, daemons: Daemons, clients: Clients, kind: str) -> None:
    """Delivered once, settled, cancelled for good; refused with a receipt; then as before."""
    server = Limit.start(kind, servers)
    client = await clients.connect(server)
    daemon = await daemons.serve(server)
    arrivals, others = await client.arrivals(), await client.arrivals()
    due = time.time() + 1
    for number in range(COUNT):
        await store(client, f"due.{number}", due, arrivals.subject)
    for number in range(3):
        await store(client, f"far.{number}", due + 1_000_000, others.subject)
    async with Limit(kind, client) as limit:
        await arrivals.wait(COUNT)
        await without(client, "due")
        assert daemon.events("store.full")
        assert [(await ask(client, {"Gozo-Del-Id": id_}))["status"] for id_ in CANCELLED] == [
            "cancelled",
            "not_found",
            "already_delivered",
        ]
        await limit.reached()
        new = {"Gozo-When": "+1", "Gozo-Id": "new"}
        again = {"Gozo-When": "+1", "Gozo-Id": "far.2"}
        refused = await asyncio.gather(
            ask(client, new, reply=others.subject, payload=LARGE),
            ask(client, again, reply=others.subject, payload=LARGE),
        )
        assert [one["error"] for one in refused] == ["unavailable", "unavailable"]
        assert await marker(client, "$KV.gozo.far.2") is None, "what was to be replaced stands"
        await daemon.kill()

        daemon = await daemons.serve(server)
        await client.schedule("+0.1", reply=others, payload=b"without an id")
        await others.wait()
        assert (await ask(client, {"Gozo-Del-Id": "far.1"}))["status"] == "cancelled"
        assert daemon.events("lease.lost") == []
    # There is room again.
    receipt = await ask(
        client, {"Gozo-When": "+0.1", "Gozo-Id": "due.1"}, reply=others.subject, payload=b"again"
    )
    assert receipt["status"] == "stored"
    await others.wait(2)
    assert await daemon.terminate() == 0
    assert sorted(arrivals.payloads) == sorted(b"due.%d" % number for number in range(COUNT))
    assert others.payloads == [b"without an id", b"again"]
    assert await marker(client, "$KV.gozo.due.1") == "delivered"


async def test_tried_again_while_full(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """A delivery that no stream took is tried again, though that cannot be noted."""
    server = Limit.start("server", servers)
    client = await clients.connect(server)
    daemon = await daemons.serve(server)
    due = time.time() + 1
    await store(client, "due.1", due, "late", **{"Gozo-Confirm": "stream"})
    async with Limit("server", client):
        await daemon.event("delivery.postponed")
        await daemon.event("delivery.postponed", attempts="2")
        await call(
            client,
            "STREAM.CREATE.late",
            {"name": "late", "subjects": ["late"], "storage": "memory"},
        )
        await without(client, "due")
        assert (await call(client, "STREAM.INFO.late"))["state"]["messages"] == 1
