"""Many requests at once: none is lost, or it is refused and said so."""

from __future__ import annotations

import time

from tests.support.patience import allow, until
from tests.support.processes import Clients, Daemons, Servers

BURST = 200_000
PAYLOAD = bytes(100)


async def test_burst(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """200,000 requests of 100 bytes, at full speed from one client: every one is stored."""
    server = servers.start()
    daemon = await daemons.serve(server)
    client = await clients.connect(server)
    due = time.time() + 3600
    for number in range(BURST):
        await client.schedule(due, reply="later", id=f"n{number}", payload=PAYLOAD)
    await client.confirm()

    async def all_stored() -> bool:
        return await client.stored() >= BURST

    await until(all_stored, f"{BURST} schedules stored", timeout=allow(20))
    assert daemon.events("request.refused") == []
    assert await daemon.terminate() == 0
    # Who counts them is the next daemon, from nothing but the bucket.
    second = await daemons.serve(server)
    assert (await second.ready()).fields["pending"] == str(BURST)


async def test_backlog_is_full(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """Beyond `--max-backlog` requests are refused and logged; the daemon goes on."""
    server = servers.start()
    daemon = await daemons.serve(server, "--max-backlog", "64KiB")
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    for number in range(20_000):
        await client.schedule("+3600", reply=arrivals, id=f"n{number}", payload=bytes(1000))
    refused = await daemon.event("request.refused", code="busy")
    assert refused.fields["reason"]
    await client.confirm()

    async def served() -> bool:
        # The backlog may still be full: this client asks again, as any would have to.
        await client.schedule("+0", reply=arrivals, id="after", payload=b"served")
        await client.confirm()
        return arrivals.payloads[:1] == [b"served"]

    await until(served, "a request was served after the flood")
    assert daemon.alive
