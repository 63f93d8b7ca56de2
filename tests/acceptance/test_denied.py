"""What clients have sent where the daemon may not publish costs others next to nothing."""

from __future__ import annotations

import json
import time

from tests.support.client import Client
from tests.support.daemon import Daemon
from tests.support.patience import allow, until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.rights import LOGIN, admin, withholding

MANY = 5_000


async def cost(client: Client, daemon: Daemon, subject: str, counted: str) -> float:
    """Seconds of CPU that the daemon takes for many messages that are due at once."""
    clock = ~daemon.pid << 3 | 2  # that of another process, see clock_getcpuclockid(3)
    due = time.time() + 1
    for _ in range(MANY):
        await client.schedule(due, reply=subject)
    await client.confirm()
    before = time.clock_gettime(clock)

    async def are_done() -> bool:
        answer = await client.nats.request("$SRV.STATS.gozo", timeout=allow(10))
        data = json.loads(answer.data)["endpoints"][0]["data"]
        return int(data[counted]) >= MANY

    await until(are_done, f"{MANY} are {counted}", timeout=allow(20))
    return time.clock_gettime(clock) - before


async def test_thousands_of_refused_messages_cost_little_more_than_sent_ones(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """Each was looked for among all that were sent: of 8,000, all were blocked for 10 s."""
    server = servers.start(withholding("publish", "nope.>"))
    daemon = await daemons.serve(server, *LOGIN)
    client = await admin(clients, server)

    sent = await cost(client, daemon, "jobs.x", "delivered")
    refused = await cost(client, daemon, "nope.x", "undeliverable")

    assert refused < 8 * sent, (refused, sent)
