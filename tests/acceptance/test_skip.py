"""`--skip-due-before`: a restored backup does not send again what went out since."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import msgpack

from gozo.client import Client as GozoClient
from tests.support.client import Client
from tests.support.gozoctl import Gozoctl
from tests.support.patience import allow, until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.receipts import ask
from tests.support.storage import marker

COUNT = 300
USAGE, NOT_FOUND = 2, 3  # exit codes


async def missed(client: Client) -> int:
    """Return how many schedules a daemon says were missed."""
    answer = await client.nats.request("$SRV.STATS.gozo", timeout=allow(2))
    return int(json.loads(answer.data)["endpoints"][0]["data"]["missed"])


async def test_skipped(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """What was due before is settled as missed, once; all else is delivered, late or not."""
    server = servers.start()
    client = await clients.connect(server)
    await (await daemons.serve(server)).terminate()  # it makes the bucket
    arrivals = await client.arrivals()
    now = time.time()
    for number in range(COUNT):
        headers = {"Gozo-When": "1", "Gozo-Due": f"{now - 100 + number / COUNT:.6f}"}
        headers["Gozo-Subject"] = arrivals.subject
        await client.nats.request(f"$KV.gozo.old{number}", b"old", headers=headers)
    kept = {"Gozo-When": "1", "Gozo-Due": f"{now - 50:.6f}", "Gozo-Subject": arrivals.subject}
    await client.nats.request("$KV.gozo.kept", b"kept", headers=kept)
    original = {"when": int(now) - 1_000, "subject": arrivals.subject, "payload": b"original"}
    await client.nats.request("$KV.gozo.original", msgpack.packb(original))

    daemon = await daemons.serve(server, "--skip-due-before", f"{now - 60:.3f}")
    told = await daemon.event("daemon.skipped")
    assert told.fields["schedules"] == f"{COUNT}"
    await arrivals.wait(2)
    # What comes in afterwards means now, whenever it says it was due.
    await client.nats.request("$KV.gozo.later", b"later", headers=kept | {"Gozo-Due": "5"})
    await client.schedule(f"{now - 500:.3f}", reply=arrivals, id="asked", payload=b"asked")
    await arrivals.wait(4)

    async def counted() -> bool:
        return await missed(client) == COUNT

    await until(counted, "they are counted")
    assert await marker(client, "$KV.gozo.old7") == "missed"
    assert (await ask(client, {"Gozo-Del-Id": "old7"}))["status"] == "not_found"
    assert sorted(arrivals.payloads) == [b"asked", b"kept", b"later", b"original"]
    assert len(daemon.events("daemon.skipped")) == 1
    inspected = await asyncio.to_thread(Gozoctl(tmp_path, server.url).run, "inspect", "old7")
    assert inspected.code == NOT_FOUND
    assert "no schedule 'old7': missed " in inspected.err
    async with await GozoClient.connect(server.url) as other:
        outcome = await other.last_outcome("old7")
        assert outcome is not None
        assert outcome.reason == "missed"


async def test_not_a_moment(daemons: Daemons) -> None:
    """A delay would mean another moment at each start, and is refused."""
    daemon = daemons.start("serve", "--skip-due-before", "+1h")
    assert await daemon.wait() == USAGE
    assert "invalid --skip-due-before '+1h': expected epoch seconds" in daemon.stderr
