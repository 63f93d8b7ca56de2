"""Following the bucket never stalls, and nothing that was settled comes back."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.support.client import Arrivals, Client
from tests.support.daemon import Daemon
from tests.support.patience import allow, until, wall_clock
from tests.support.processes import Clients, Daemons, Servers
from tests.support.server import NatsServer


async def call(client: Client, verb: str, body: object = None) -> None:
    """Call the JetStream API."""
    payload = b"" if body is None else json.dumps(body).encode()
    answer = json.loads((await client.nats.request(f"$JS.API.{verb}", payload, timeout=5)).data)
    assert "error" not in answer, answer


async def store(client: Client, key: str, when: str, to: Arrivals) -> None:
    """Write an entry as a client that does without the daemon; its payload is its key."""
    headers = {"Gozo-When": when, "Gozo-Subject": to.subject}
    await client.nats.jetstream().publish(f"$KV.gozo.{key}", key.encode(), headers=headers)


async def settled(client: Client, key: str) -> None:
    """Wait until a delete marker is all that is left of a key."""

    async def marked() -> bool:
        message = await client.nats.jetstream().get_last_msg("KV_gozo", f"$KV.gozo.{key}")
        return "KV-Operation" in (message.headers or {})

    await until(marked, f"{key} is settled")


async def cancel(client: Client, key: str) -> str:
    """Cancel a schedule, and return what the leader says became of it."""
    asked = json.dumps({"ids": [key]}).encode()
    answer = json.loads((await client.nats.request("gozo.admin.cancel", asked, timeout=5)).data)
    return str(answer["results"][0]["status"])


async def consumers_deleted(server: NatsServer, client: Client) -> None:
    """Delete whatever reads the bucket."""
    for consumer in await client.nats.jetstream().consumers_info("KV_gozo"):
        await call(client, f"CONSUMER.DELETE.KV_gozo.{consumer.name}")


async def restarted(server: NatsServer, client: Client) -> None:
    """Restart the server in an orderly way."""
    server.restart()


async def killed(server: NatsServer, client: Client) -> None:
    """Kill the server, and start it again."""
    server.kill()
    server.start()


async def purged(server: NatsServer, client: Client) -> None:
    """Remove everything from the bucket, without a trace."""
    await call(client, "STREAM.PURGE.KV_gozo")


async def deleted(server: NatsServer, client: Client) -> None:
    """Delete the bucket, and wait until it was made again."""
    before = (await client.nats.jetstream().stream_info("KV_gozo")).created
    await call(client, "STREAM.DELETE.KV_gozo")

    async def made_again() -> bool:
        subject = "$JS.API.STREAM.INFO.KV_gozo"
        answer = json.loads((await client.nats.request(subject, timeout=5)).data)
        return "error" not in answer and answer["created"] != before

    await until(made_again, "there is another bucket")


FAULTS: dict[str, tuple[Callable[[NatsServer, Client], Awaitable[None]], bool]] = {
    "consumers deleted": (consumers_deleted, True),
    "server restarted": (restarted, True),
    "server killed": (killed, True),
    "bucket purged": (purged, False),
    "bucket deleted": (deleted, False),
}
"""What happens to the bucket, and whether it holds the same afterwards."""


async def test_following_goes_on(servers: Servers) -> None:
    """After each fault what is stored is delivered, and what was settled is not once more."""

    async def run(fault: str) -> None:
        with Daemons() as daemons:
            async with Clients() as clients:
                await follow(servers, daemons, clients, fault)

    # They wait most of the time, so they run side by side.
    await asyncio.gather(*map(run, FAULTS))


async def follow(servers: Servers, daemons: Daemons, clients: Clients, fault: str) -> None:
    """After a fault what is stored is delivered, and what was settled is not once more."""
    cause, is_kept = FAULTS[fault]
    server = servers.start()
    daemon = await daemons.serve(server)
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    await store(client, "done", "+0", arrivals)
    await store(client, "cancelled", "+2", arrivals)
    await store(client, "kept", "+3600", arrivals)
    await arrivals.wait(1)
    await settled(client, "done")
    assert await cancel(client, "cancelled") == "cancelled"
    over = time.time() + 2
    await cause(server, client)
    await client.confirm()
    await store(client, "after", "+0.5", arrivals)
    await arrivals.wait(2)
    assert await cancel(client, "kept") == ("cancelled" if is_kept else "not_found")
    await wall_clock(over)
    assert await daemon.terminate() == 0
    await client.confirm()
    assert arrivals.payloads == [b"done", b"after"]


async def test_what_was_purged_holds_up_nobody(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """Schedules that are gone without a trace are looked for, and others go out meanwhile."""
    server = servers.start()
    await daemons.serve(server)
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    due = f"{time.time() + 6:.3f}"
    for number in range(60):
        await store(client, f"purged.{number}", due, arrivals)
    await store(client, "kept", due, arrivals)
    await call(client, "STREAM.PURGE.KV_gozo", {"filter": "$KV.gozo.purged.>"})
    # Sooner than the next comparison with the server, which would find that they are gone.
    await arrivals.wait(1, timeout=6 + allow(2))
    assert arrivals.payloads == [b"kept"]


async def test_restored_from_an_older_copy(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """After an older copy took the store's place, what that holds counts, and what comes new."""
    server = servers.start()
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    daemon = await daemons.serve(server)
    await store(client, "in-the-copy", "+3", arrivals)
    copy, folder = server.folder / "copy", server.folder / "store"

    async def restart(source: Path, target: Path) -> None:
        mark = daemon.mark()
        server.stop()
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
        server.start()
        await daemon.event("daemon.leading", since=mark)
        await client.confirm()

    await restart(folder, copy)
    for number in range(20):
        await store(client, f"not-in-the-copy-{number}", "+3", arrivals)
    await restart(copy, folder)
    over = time.time() + 3
    await store(client, "new", "+0.5", arrivals)
    await arrivals.wait(2)
    await wall_clock(over)
    assert await daemon.terminate() == 0
    await client.confirm()
    assert sorted(arrivals.payloads) == [b"in-the-copy", b"new"]


async def test_a_standby_that_was_away_for_longer_than_markers_live(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """What was settled while a standby was frozen is not delivered by it when it leads.

    Its consumer is removed and the delete markers are purged, as the server does in time.
    """
    server = servers.start()
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    leader = await daemons.serve(server)
    standby: Daemon = await daemons.serve(server)
    due = time.time() + 3
    for key in ("cancelled", "kept"):
        await store(client, key, f"{due:.3f}", arrivals)
    await store(client, "done", "+0.5", arrivals)
    standby.send(signal.SIGSTOP)
    await consumers_deleted(server, client)
    await arrivals.wait(1)
    await settled(client, "done")
    assert await cancel(client, "cancelled") == "cancelled"
    for key in ("done", "cancelled"):
        await call(client, "STREAM.PURGE.KV_gozo", {"filter": f"$KV.gozo.{key}"})
    standby.send(signal.SIGCONT)
    await leader.kill()
    await standby.event("daemon.leading")
    await wall_clock(due)
    await store(client, "after", "+0.5", arrivals)
    await arrivals.wait(3)
    assert await standby.terminate() == 0
    await client.confirm()
    assert arrivals.payloads == [b"done", b"kept", b"after"]
