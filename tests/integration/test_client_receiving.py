"""`Client.receive`: a member of a queue group that leaves and joins."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from gozo.client import Client, Message
from gozo.errors import RequestError
from tests.support.server import NatsServer


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    """Run a server."""
    with NatsServer() as server:
        yield server


@pytest.fixture
async def client(server: NatsServer) -> AsyncIterator[Client]:
    """Connect a client."""
    async with await Client.connect(server.url) as client:
        yield client


async def test_who_leaves_gets_what_is_on_its_way(client: Client, server: NatsServer) -> None:
    """Others get the rest, and nothing is left of a subscription that has ended."""
    ours: list[Message] = []
    theirs: list[Message] = []
    connection = client._connection
    async with await Client.connect(server.url) as other:
        receiving = client.receive("workers", ours.append)
        following = other.receive("workers", theirs.append)
        receiving.follow(["a", "b"])
        await receiving.joined()
        link = connection._link.client
        assert link is not None
        before = len(link.handlers)
        for number in range(50):
            connection.publish("a", b"%d" % number)
            receiving.follow(["b"])  # before the message has arrived
            receiving.follow(["a", "b"])
        await connection.echo()
        await connection.echo()
        assert [int(message.payload) for message in ours] == list(range(50))
        assert len(link.handlers) == before
        receiving.follow(())
        following.follow(["a"])
        await following.joined()
        connection.publish("a", b"other")
        await connection.echo()
        await other._connection.echo()
        assert len(ours) == 50
        assert [message.payload for message in theirs] == [b"other"]


async def test_subjects_that_there_are_not(client: Client) -> None:
    """They are refused, as for `listen`."""
    with pytest.raises(RequestError, match="expected no empty tokens"):
        client.receive("workers", lambda message: None).follow(["a..b"])
