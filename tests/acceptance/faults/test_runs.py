"""Runs that receivers claim start once, and no outcome is lost, whatever fails."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import NamedTuple

import pytest
from nats.errors import Error
from nats.js.errors import NoKeysError

from gozo.store.run_codec import RUN_PREFIX
from tests.support.client import Client
from tests.support.daemon import Daemon
from tests.support.patience import allow, until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.receipts import entry_of
from tests.support.receiver import Delivered, Started, Worker
from tests.support.replicas import leader_of
from tests.support.rounds import Note
from tests.support.run_account import RunAccount
from tests.support.server import NatsServer


class Form(NamedTuple):
    """How many runs are at work at a time, and how often something fails."""

    at_work: int
    lasts: float
    """Seconds that each run takes: more than an ack wait."""
    ack_wait: str
    workers: int
    killed_every: float
    """Seconds between two kills of the leader."""
    restarted_every: float
    """Seconds between two restarts of the server."""
    round: float
    """Seconds of faults in a round."""


SHORT = Form(30, 3.0, "2s", 3, killed_every=4, restarted_every=4, round=12)
LONG = Form(200, 10.0, "5s", 4, killed_every=5, restarted_every=10, round=6)
"""Two minutes in twenty rounds."""

FAILS = 10  # every tenth job fails for good


class Jobs:
    """Keeps a number of jobs at work; asks for each until a receipt says that it is stored."""

    def __init__(self, client: Client, form: Form) -> None:
        self._client = client
        self._form = form
        self._numbers = count()
        self._stops = False
        self.asked: set[str] = set()
        self.starts = Counter[str]()
        """How often each job was started, in any attempt."""
        self.failed: set[str] = set()
        self._ends: dict[str, asyncio.Event] = {}

    @property
    def ended(self) -> set[str]:
        """Return the jobs that have ended and whose end gozo has confirmed."""
        return {id_ for id_, event in self._ends.items() if event.is_set()}

    async def run(self) -> None:
        """Ask for jobs until `stop`, and return when all have ended."""
        async with asyncio.TaskGroup() as group:
            for place in range(self._form.at_work):
                group.create_task(self._fill(place))

    def stop(self) -> None:
        """Ask for no more jobs."""
        self._stops = True

    async def _fill(self, place: int) -> None:
        """Keep one job at work."""
        await asyncio.sleep(self._form.lasts * place / self._form.at_work)
        while not self._stops:
            id_ = f"job-{next(self._numbers)}"
            self._ends[id_] = asyncio.Event()
            await self._ask(id_)
            await self._ends[id_].wait()

    async def _ask(self, id_: str) -> None:
        nats = self._client.nats
        headers = {"Gozo-Confirm": "claim", "Gozo-Ack-Wait": self._form.ack_wait}
        headers |= {"Gozo-When": "+0.5", "Gozo-Id": id_}
        self.asked.add(id_)
        while not self.starts[id_]:  # else it is stored, and its receipt was lost
            inbox = nats.new_inbox()
            receipts = await nats.subscribe(inbox)
            try:
                await self._client.send(headers | {"Gozo-Receipt": inbox}, reply=f"jobs.{id_}")
                await receipts.next_msg(timeout=allow(2))
            except Error:
                continue
            else:
                return
            finally:
                await receipts.unsubscribe()

    async def work(self, job: Delivered) -> bytes:
        """Do a job; every tenth fails."""
        await asyncio.sleep(self._form.lasts)
        id_ = job.headers["Gozo-Id"]
        if int(id_.removeprefix("job-")) % FAILS:
            return b"+ACK"
        self.failed.add(id_)
        return b"+TERM"

    def note(self, what: str, name: Started) -> None:
        """Note that a worker has started or ended a job."""
        if what == "started":
            self.starts[name[0]] += 1
        elif what == "ended":
            self._ends[name[0]].set()


class Noted(Worker):
    """A worker that reports its starts and ends to `Jobs`."""

    def __init__(self, client: Client, jobs: Jobs) -> None:
        super().__init__(client.nats, jobs.work)
        self._jobs = jobs

    def note(self, what: str, name: Started) -> None:
        """Report a start or an end."""
        self._jobs.note(what, name)


@asynccontextmanager
async def at_work(server: NatsServer, clients: Clients, form: Form) -> AsyncIterator[Jobs]:
    """Run workers that claim jobs, and ask for jobs; at the end, wait until all have ended."""
    jobs = Jobs(await clients.connect(server), form)
    for _ in range(form.workers):
        await Noted(await clients.connect(server), jobs).listen("jobs.*")
    running = asyncio.create_task(jobs.run())
    try:
        await until(lambda: len(jobs.starts) >= form.at_work, "all are at work", allow(20))
        yield jobs
        jobs.stop()
        done, _ = await asyncio.wait([running], timeout=form.lasts + allow(30))
        for task in done:
            task.result()  # what is not done is seen in the account
    finally:
        running.cancel()


Fault = Callable[[NatsServer, Daemons, list[Daemon], int], Awaitable[None]]


async def kill_the_leader(
    server: NatsServer, daemons: Daemons, replicas: list[Daemon], number: int
) -> None:
    """Kill it, and start another replica."""
    leader = await leader_of(replicas)
    await leader.kill()
    replicas[replicas.index(leader)] = await daemons.serve(server)


async def restart_the_server(
    server: NatsServer, daemons: Daemons, replicas: list[Daemon], number: int
) -> None:
    """Restart the server, by SIGTERM and SIGKILL in turn: all connections break."""
    await asyncio.to_thread(server.kill if number % 2 else server.stop)
    await asyncio.to_thread(server.start)
    await leader_of(replicas)


async def kept_in(client: Client) -> dict[str, str]:
    """Return what the bucket holds: the ids of failed runs by key, "" for anything else."""
    try:
        keys = await (await client.nats.jetstream().key_value("gozo")).keys()
    except NoKeysError:
        return {}
    kept = {}
    for key in keys:
        is_failed = (await entry_of(client, key)).get("Gozo-State") == "failed"
        id_, _, _ = key.removeprefix(RUN_PREFIX).rpartition(".")
        kept[key] = id_ if is_failed and key.startswith(RUN_PREFIX) else ""
    return kept


@pytest.mark.parametrize("fault", [kill_the_leader, restart_the_server])
async def test_claimed_runs(
    servers: Servers, daemons: Daemons, clients: Clients, rounds: int, note: Note, fault: Fault
) -> None:
    """Each is started once and settled as its receiver says, and none stays in the bucket."""
    form = SHORT if rounds == 1 else LONG
    every = form.killed_every if fault is kill_the_leader else form.restarted_every
    server = servers.start()
    replicas = [await daemons.serve(server) for _ in range(2)]
    async with at_work(server, clients, form) as jobs:
        begun = time.monotonic()
        for number in range(int(form.round * rounds / every)):
            await asyncio.sleep(begun + every * (number + 1) - time.monotonic())
            await fault(server, daemons, replicas, number)
    client = await clients.connect(server)

    async def all_settled() -> bool:
        return all((await kept_in(client)).values())

    with suppress(AssertionError):  # what is left is seen in the account
        await until(all_settled, "all are settled")
    kept = await kept_in(client)
    note(
        RunAccount.of(
            asked=jobs.asked,
            starts=jobs.starts,
            confirmed=jobs.ended,
            failed=jobs.failed,
            kept=kept,
        )
    )
