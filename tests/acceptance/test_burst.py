"""Many requests at once: none is lost, or it is refused and said so."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from tests.support.client import Client
from tests.support.gozoctl import Gozoctl
from tests.support.patience import allow, until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.raw import RawClient, header_block, request
from tests.support.server import NatsServer

BURST = 200_000
PAYLOAD = bytes(100)


async def flood(server: NatsServer, count: int, when: str, payload: bytes) -> None:
    """Send so many requests with ids, as fast as one connection takes bytes."""
    headers = [header_block(Gozo_When=when, Gozo_Id=f"n{number}") for number in range(count)]
    data = b"".join(
        request(b"gozo", reply=b"later", headers=header, payload=payload) for header in headers
    )

    def send() -> None:
        with RawClient(server.url) as raw:
            raw.send(data)
            raw.confirm()

    await asyncio.to_thread(send)


async def statistics(client: Client) -> dict[str, Any]:
    """Return what the daemon tells of its requests as a NATS service."""
    answer = json.loads((await client.nats.request("$SRV.STATS.gozo", timeout=allow(5))).data)
    endpoint: dict[str, Any] = answer["endpoints"][0]
    return endpoint


async def test_burst(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """200,000 requests of 100 bytes, at full speed from one client: every one is stored."""
    server = servers.start()
    daemon = await daemons.serve(server)
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    before = await client.stored()
    await flood(server, BURST, f"{time.time() + 3600:.3f}", PAYLOAD)
    await client.schedule("+0", reply=arrivals, payload=b"serves")
    await arrivals.wait(timeout=allow(20))

    async def all_stored() -> bool:
        return await client.stored() >= before + BURST

    await until(all_stored, f"{BURST} schedules stored", timeout=allow(20))
    assert daemon.events("request.refused") == []
    assert daemon.events("connection.lost") == []
    assert await daemon.terminate() == 0
    # Who counts them is the next daemon, from nothing but the bucket.
    second = await daemons.serve(server)
    assert (await second.ready()).fields["pending"] == str(BURST)


async def test_backlog_is_full(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """Beyond `--max-backlog` requests are refused, logged and counted; the daemon goes on."""
    server = servers.start()
    daemon = await daemons.serve(server, "--max-backlog", "64KiB")
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    before = await client.stored()
    await flood(server, 20_000, "+3600", bytes(1000))
    refused = await daemon.event("request.refused", code="busy")
    assert refused.fields["reason"]

    async def served() -> bool:
        # The backlog may still be full: this client asks again, as any would have to.
        await client.schedule("+0", reply=arrivals, payload=b"served")
        await client.confirm()
        return arrivals.payloads[:1] == [b"served"]

    await until(served, "a request was served after the flood")
    counted = await statistics(client)
    busy = int(counted["data"]["refused"]["busy"])
    assert counted["num_requests"] >= 20_000
    assert 0 < busy < 20_000

    async def all_stored() -> bool:
        return await client.stored() >= before + 20_000 - busy

    # Neither stored nor refused would be lost; those refused may be the client's own as well.
    await until(all_stored, f"{20_000 - busy} schedules stored")
    assert daemon.alive


async def test_a_verb_finds_the_backlog_full(
    servers: Servers, daemons: Daemons, tmp_path: Path
) -> None:
    """Who administers is told so at once, and does not wait for an answer in vain."""
    server = servers.start()
    daemon = await daemons.serve(server, "--max-backlog", "1KiB")
    ids = [f"{number}-{'x' * 200}" for number in range(10)]
    done = await asyncio.to_thread(Gozoctl(tmp_path, server.url).run, "pause", *ids)
    assert done.code == 1
    assert "are already waiting to be stored: send it again later" in done.err
    await daemon.event("request.refused", code="busy")
