"""The leader dies moments after requests for confirmed deliveries: each of them has one run."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from contextlib import AsyncExitStack

from nats.js.errors import NoKeysError

from tests.support.client import Client
from tests.support.daemon import Daemon
from tests.support.patience import until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.proxy import Mode, Proxy
from tests.support.receiver import Delivered, Worker
from tests.support.replicas import leader_of, start

REQUESTS = 10  # of each kind in a burst
MOMENTS = (0.02, 0.05, 0.5)
"""Seconds between a burst of requests and the death of the leader."""


class Bursts:
    """Sends requests, and counts how often each was sent and started, by its payload."""

    def __init__(self, client: Client, worker: Client) -> None:
        self._client = client
        self._worker = Worker(worker.nats, self._work)
        self._bursts = 0
        self.sent = Counter[str]()
        self.starts = Counter[str]()

    async def listen(self) -> None:
        """Claim jobs from now on."""
        await self._worker.listen("jobs")

    async def _work(self, job: Delivered) -> bytes:
        self.starts[job.data.decode()] += 1
        return b"+ACK"

    async def send(self) -> None:
        """Send requests with and without id, some of them identical, for now and for later."""
        self._bursts += 1
        for number in range(REQUESTS):
            name = f"{self._bursts}-{number}"
            await self._ask(f"id-{name}", id=f"job-{name}")
            await self._ask(f"now-{name}")
            await self._ask(f"same-{self._bursts}")
            await self._ask(f"later-{name}", when="+2")

    async def last(self) -> None:
        """Wait until all requests so far have begun, and all runs are settled."""
        await self._ask(f"last-{self._bursts}")
        await until(lambda: self.starts >= self.sent, "all are started")
        bucket = await self._client.nats.jetstream().key_value("gozo")

        async def is_empty() -> bool:
            try:
                return not await bucket.keys()
            except NoKeysError:
                return True

        await until(is_empty, "all are settled")

    async def _ask(self, name: str, *, when: str = "+0", id: str = "") -> None:  # noqa: A002
        headers = {"Gozo-When": when, "Gozo-Confirm": "claim"}
        headers |= {"Gozo-Id": id} if id else {}
        await self._client.send(headers, reply="jobs", payload=name.encode())
        self.sent[name] += 1


async def test_requests_are_taken_once(
    servers: Servers, daemons: Daemons, clients: Clients, rounds: int
) -> None:
    """The next leader has received the same requests, and finds out what became of them.

    As the leader dies, none of its reports about them arrives.
    """
    server, sender, receiver = await start(servers, clients)
    bursts = Bursts(sender, receiver)
    await bursts.listen()
    async with AsyncExitStack() as stack:
        proxies: dict[Daemon, Proxy] = {}

        async def serve() -> None:
            proxy = await stack.enter_async_context(Proxy(server.port))
            proxies[await daemons.serve(proxy.url)] = proxy

        await serve()
        for moment in MOMENTS * rounds:
            await serve()
            leader = await leader_of(list(proxies))
            proxies.pop(leader).be(Mode.SWALLOW, only="requests")
            await bursts.send()
            await asyncio.sleep(moment)
            leader.send(signal.SIGKILL)
            await leader_of(list(proxies))
            await bursts.last()
    assert bursts.starts == bursts.sent
