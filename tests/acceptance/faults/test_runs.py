"""Runs that receivers claim start once, and no outcome is lost, whatever fails."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count

import pytest
from nats.errors import Error
from nats.js.errors import NoKeysError

from tests.support.client import Client
from tests.support.daemon import Daemon
from tests.support.patience import allow, until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.receiver import Delivered, Worker
from tests.support.replicas import leader_of
from tests.support.server import NatsServer

RATE = 10  # schedules a second
LASTS = 3.0  # seconds that each job takes: more than an ack wait
BETWEEN = 4.0  # seconds between two faults
WORKERS = 3
HEADERS = {"Gozo-Confirm": "claim", "Gozo-Ack-Wait": "2s"}


class Jobs:
    """Asks for jobs at a steady rate, each again until a receipt says that it is stored."""

    def __init__(self, client: Client, workers: list[Worker]) -> None:
        self._client = client
        self._workers = workers
        self.asked = 0

    async def run(self) -> None:
        """Ask for jobs until cancelled."""
        for number in count():
            await self._ask(number)
            self.asked = number + 1
            await asyncio.sleep(1 / RATE)

    async def _ask(self, number: int) -> None:
        nats = self._client.nats
        headers = HEADERS | {"Gozo-When": "+0.5", "Gozo-Id": f"job-{number}"}
        while True:
            inbox = nats.new_inbox()
            receipts = await nats.subscribe(inbox)
            asked = headers | {"Gozo-Receipt": inbox}
            try:
                await self._client.send(asked, reply=f"jobs.{number}")
                await receipts.next_msg(timeout=allow(2))
            except Error:
                if self.started[f"job-{number}"]:
                    return  # it is stored, and its receipt was lost: not once more
            else:
                return
            finally:
                await receipts.unsubscribe()

    @property
    def started(self) -> Counter[str]:
        """Return how often each job was started, in any attempt."""
        return Counter(
            id_
            for worker in self._workers
            for (id_, *_), times in worker.started.items()
            for _ in range(times)
        )

    @property
    def ended(self) -> set[str]:
        """Return the jobs that have ended and whose end gozo has confirmed."""
        return {id_ for worker in self._workers for id_, *_ in worker.ended}


@asynccontextmanager
async def at_work(server: NatsServer, clients: Clients) -> AsyncIterator[Jobs]:
    """Run workers that claim jobs, and ask for jobs."""

    async def work(job: Delivered) -> bytes:
        await asyncio.sleep(LASTS)
        return b"+ACK"

    workers = [Worker((await clients.connect(server)).nats, work) for _ in range(WORKERS)]
    for worker in workers:
        await worker.listen("jobs.*")
    jobs = Jobs(await clients.connect(server), workers)
    asking = asyncio.create_task(jobs.run())
    try:
        yield jobs
    finally:
        asking.cancel()


Fault = Callable[[NatsServer, Daemons, list[Daemon]], Awaitable[None]]


async def kill_the_leader(server: NatsServer, daemons: Daemons, replicas: list[Daemon]) -> None:
    """Kill it, and start another replica."""
    leader = await leader_of(replicas)
    await leader.kill()
    replicas[replicas.index(leader)] = await daemons.serve(server)


async def restart_the_server(server: NatsServer, daemons: Daemons, replicas: list[Daemon]) -> None:
    """Restart the server: all connections break."""
    server.restart()
    await leader_of(replicas)


@pytest.mark.parametrize("fault", [kill_the_leader, restart_the_server])
async def test_claimed_runs(
    servers: Servers, daemons: Daemons, clients: Clients, rounds: int, fault: Fault
) -> None:
    """None is started twice, none is forgotten, and none stays in the bucket."""
    server = servers.start()
    replicas = [await daemons.serve(server) for _ in range(2)]
    async with at_work(server, clients) as jobs:
        for _ in range(3 * rounds):
            await until(lambda: len(jobs.started) > len(jobs.ended), "some are at work")
            await asyncio.sleep(BETWEEN)
            await fault(server, daemons, replicas)
    asked = {f"job-{number}" for number in range(jobs.asked)}
    await until(lambda: asked <= jobs.ended, "all have ended", allow(30))
    assert {id_: times for id_, times in jobs.started.items() if times > 1} == {}
    client = await clients.connect(server)
    bucket = await client.nats.jetstream().key_value("gozo")

    async def is_empty() -> bool:
        try:
            return not await bucket.keys()
        except NoKeysError:
            return True

    await until(is_empty, "the bucket holds no run")
