"""The storage is full, by a limit or because the disk is, and later there is room again."""

from __future__ import annotations

import asyncio
import json
import signal
import time
import uuid

from tests.support.client import Client
from tests.support.daemon import Daemon
from tests.support.load import Load
from tests.support.patience import allow, until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.rounds import Note
from tests.support.storage import Limit, fill_disk, small_disk


async def all_delivered(load: Load) -> None:
    """Wait until what is acknowledged by now has arrived."""
    known = len(load.due)
    await until(lambda: load.account().delivered >= known, "all go out")


async def test_limit(
    servers: Servers, daemons: Daemons, clients: Clients, rounds: int, note: Note
) -> None:
    """What was stored goes out once and is settled, though no delete marker finds room."""
    server = Limit.start("server", servers)
    sender, receiver = await clients.connect(server), await clients.connect(server)
    filler = await clients.connect(server)
    daemon = await daemons.serve(server)
    async with Load(sender, receiver) as load:
        for _ in range(rounds):
            await load.delivered(50)
            async with Limit("server", filler):
                await daemon.event("store.full")
                await daemon.terminate()
                daemon = await daemons.serve(server)
                await all_delivered(load)
            # The next round has a daemon that has not told of a full storage just now.
            assert await daemon.terminate() == 0
            daemon = await daemons.serve(server)
        account = await load.finish()
    note(account)
    assert await daemon.terminate() == 0


async def test_disk(
    servers: Servers, daemons: Daemons, clients: Clients, rounds: int, note: Note
) -> None:
    """What was stored goes out from memory, and is settled once the server can write again."""
    with small_disk() as disk:
        server = servers.start(store=disk)
        sender, receiver = await clients.connect(server), await clients.connect(server)
        daemon = await daemons.serve(server)
        async with Load(sender, receiver) as load:
            for _ in range(rounds):
                await load.delivered(50)
                filled = fill_disk(disk)
                await all_delivered(load)
                filled.unlink()
                mark = daemon.mark()
                load.faults.note("restart")
                server.restart()  # it does not write again by itself
                await daemon.event("daemon.leading", since=mark)
            account = await load.finish()
        note(account)
        assert await daemon.terminate() == 0


COUNT = 50
AHEAD = 14.0  # seconds: the silence is noticed, an answer waited for, and the lead has changed
PROMPT = 0.3  # seconds in which a leader that is to end gives up the lead, as promised
ANSWERED = 5.0  # seconds after which a request with a receipt is answered, as promised


async def store(client: Client, subject: str, due: float) -> None:
    """Store schedules that are due at the same moment."""
    headers = {"Gozo-When": f"{due:.3f}", "Gozo-Subject": subject}
    for number in range(COUNT):
        answer = await client.nats.request(
            f"$KV.gozo.due{number}", b"%d" % number, timeout=allow(2), headers=headers
        )
        assert b'"seq"' in answer.data


async def refused(client: Client) -> None:
    """Send a request with a receipt, and wait until it is answered, in time."""
    receipts = await client.arrivals()
    began = time.time()
    # An id of its own: one that waits behind another, unanswered, was certainly not stored.
    id_ = uuid.uuid4().hex
    headers = {"Gozo-When": "+60", "Gozo-Id": id_, "Gozo-Receipt": receipts.subject}
    await client.send(headers, reply="to.nobody", payload=bytes(10_000))
    (receipt,) = await receipts.wait(1)
    said = json.loads(receipt.data)
    assert (said["status"], said["error"], said["unknown"]) == ("refused", "unavailable", True)
    assert "may or may not have been stored" in said["message"]
    assert receipt.at - began < ANSWERED + allow(0.1)


async def test_disk_and_a_change_of_lead(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """A server that reads and writes no more, since its disk was full, keeps nobody from leading.

    What was stored goes out once and on time, whether the leader ends, dies, or is alone and
    started anew; requests are answered.
    """

    async def run(ending: signal.Signals, *, alone: bool) -> None:
        with small_disk() as disk:
            server = servers.start(store=disk)
            client = await clients.connect(server)
            leader = await daemons.serve(server)
            standby: Daemon | None = None if alone else await daemons.serve(server)
            arrivals = await client.arrivals()
            due = time.time() + AHEAD
            await store(client, arrivals.subject, due)
            fill_disk(disk)
            await refused(client)
            began = time.time()
            leader.send(ending)
            if ending is signal.SIGTERM:
                await leader.event("lease.released")
                assert time.time() - began < allow(PROMPT)
            await leader.wait()
            successor = standby or daemons.start("serve", "--address", server.url)
            await successor.event("daemon.leading", timeout=allow(10))
            led = time.time()
            await arrivals.wait(COUNT)
            await client.confirm()
            assert sorted(map(int, arrivals.payloads)) == list(range(COUNT))
            assert max(one.at for one in arrivals.all) < max(due, led) + allow(0.5)
            assert min(one.at for one in arrivals.all) >= due
            await refused(client)

    await asyncio.gather(
        run(signal.SIGTERM, alone=False),
        run(signal.SIGKILL, alone=False),
        run(signal.SIGTERM, alone=True),
    )
