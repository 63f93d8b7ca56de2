"""A server that says that more is to come than does: everybody who reads notices the end.

nats-server does so where messages are removed while a consumer reads them, and corrects itself
once the last is sent, when nothing carries the number any more.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest

from gozo.client import Client
from gozo.store.changes import Result
from tests.support.patience import allow, until
from tests.support.proxy import Proxy
from tests.support.server import NatsServer
from tests.support.store import parts

IDS = {"a", "b", "c"}


class Miscounting(Proxy):
    """Says with the last message that three more are to come."""

    def _answered(self, data: bytes) -> bytes:
        return re.sub(rb"(\$JS\.ACK\.[^ \r]+\.)0(?= )", rb"\g<1>3", data)


@pytest.fixture
async def proxy() -> AsyncIterator[Miscounting]:
    """Stand before a server that holds three schedules."""
    with NatsServer() as server:
        async with parts(server) as one:
            for id_ in sorted(IDS):
                assert await one.put(id_) is Result.STORED
        async with Miscounting(server.port) as proxy:
            yield proxy


async def test_the_follower_has_loaded(proxy: Miscounting) -> None:
    """A start ends, and what is stored after it is seen; so is what the first load did not have."""
    async with asyncio.timeout(allow(5)), parts(proxy) as one:
        await one.knows(*IDS)
        assert await one.put("d") is Result.STORED
        await one.knows(*IDS, "d")
        await until(lambda: one.follower.behind == 0, "it knows that this is all")
        one.follower.reload("to see that this ends as well")
        await until(lambda: one.follower.is_following, "it has loaded anew")
        await one.knows(*IDS, "d")


async def test_the_list_ends(proxy: Miscounting) -> None:
    """All schedules are listed, and then there are no more."""
    async with asyncio.timeout(allow(5)), await Client.connect(proxy.url) as client:
        assert {schedule.id async for schedule in client.list()} == IDS


async def test_the_watch_tells_that_it_is_current(proxy: Miscounting) -> None:
    """After what there is comes the word that this is all."""
    seen: set[str | None] = set()
    async with asyncio.timeout(allow(5)), await Client.connect(proxy.url) as client:
        async for change in client.watch():
            if change.kind == "current":
                break
            seen.add(change.id)
    assert seen == IDS
