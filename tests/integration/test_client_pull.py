"""`Client.pull`: messages of a consumer, each told of what became of it."""

from __future__ import annotations

import asyncio

from gozo.client import Client
from tests.support.processes import Clients, Servers


async def test_what_is_told_of_a_message(servers: Servers, clients: Clients) -> None:
    """`nak` has it delivered again, `term` never; `attempt` counts."""
    server = servers.start()
    other = await clients.connect(server)
    js = other.nats.jetstream()
    await js.add_stream(name="JOBS", subjects=["jobs"])
    async with await Client.connect(server.url) as client, client.pull("JOBS", "c", "jobs") as jobs:
        await js.publish("jobs", b"payload", headers={"A": "b"})
        first = await jobs.take()
        assert (first.message.subject, first.message.payload) == ("jobs", b"payload")
        assert first.message.headers == (("A", "b"),)
        assert first.attempt == 1
        assert await first.nak(0.01)
        second = await jobs.take()
        assert second.attempt == 2
        assert await second.term()
        info = await js.consumer_info("JOBS", "c")
        assert (info.num_ack_pending, info.num_pending) == (0, 0)


async def test_what_comes_too_late_is_given_back(servers: Servers, clients: Clients) -> None:
    """A message that came when nobody wanted it any more is not kept from others."""
    server = servers.start()
    other = await clients.connect(server)
    js = other.nats.jetstream()
    await js.add_stream(name="JOBS", subjects=["jobs"])
    async with await Client.connect(server.url) as client:
        async with client.pull("JOBS", "c", "jobs") as jobs:
            taking = asyncio.create_task(jobs.take())
            await other.nats.publish("jobs")
            # Every turn of the event loop, since the next one after the arrival is too late.
            while not jobs._arrived and not taking.done():  # noqa: ASYNC110
                await asyncio.sleep(0)
            taking.cancel()
            await asyncio.wait([taking])
            assert taking.cancelled()
        async with client.pull("JOBS", "c", "jobs") as jobs, asyncio.timeout(jobs.ack_wait / 2):
            assert (await jobs.take()).attempt == 2
