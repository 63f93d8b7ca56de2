"""`Client.pull`: messages of a consumer, each told of what became of it."""

from __future__ import annotations

import asyncio

import pytest

from gozo.client import Client
from gozo.errors import DisconnectedError, RequestError
from gozo.transport.jetstream import JetStream
from tests.support.patience import allow
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


async def test_a_client_that_is_closed_ends_what_waits(servers: Servers) -> None:
    """Who waits for a message is told that none will come, and an `ack` that nobody heard it."""
    server = servers.start()
    client = await Client.connect(server.url)
    js = JetStream(client._connection)
    await js.call("STREAM.CREATE.JOBS", {"name": "JOBS", "subjects": ["jobs"]})
    jobs = await client.pull("JOBS", "c", "jobs").__aenter__()
    client._connection.publish("jobs")
    pulled = await jobs.take()
    taking = asyncio.create_task(jobs.take())
    await client._connection.echo()
    await client.close()
    with pytest.raises(DisconnectedError, match="closed"):
        await asyncio.wait_for(taking, allow(1))
    assert not await asyncio.wait_for(pulled.ack(), allow(1))


@pytest.mark.parametrize("subject", ["a\udcff", "a..b", "a b", ""])
async def test_what_is_no_subject_is_refused(servers: Servers, subject: str) -> None:
    """A subject that cannot be sent is refused before anything is."""
    async with await Client.connect(servers.start().url) as client:
        with pytest.raises(RequestError, match="invalid subject"):
            client.listen(subject)
        with pytest.raises(RequestError, match="invalid subject"):
            client.pull("JOBS", "c", subject)
