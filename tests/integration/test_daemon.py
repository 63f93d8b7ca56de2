"""The daemon in this process, where a moment has to be met that is over in milliseconds."""

from __future__ import annotations

import asyncio

import pytest

from gozo.daemon.daemon import Daemon
from gozo.settings.model import ConnectionSettings, ServeSettings
from gozo.store.barrier import Barrier
from tests.support.client import Client
from tests.support.patience import until
from tests.support.server import NatsServer

COUNT = 20


async def test_a_daemon_that_ends_while_it_takes_the_lead_stores_what_it_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The requests wait for the lead to be taken, and that goes on although the start is over."""
    began, goes_on = asyncio.Event(), asyncio.Event()
    written = Barrier.written

    async def slowly(barrier: Barrier) -> int:
        began.set()
        await goes_on.wait()
        return await written(barrier)

    monkeypatch.setattr(Barrier, "written", slowly)
    with NatsServer() as server:
        settings = ServeSettings(connection=ConnectionSettings(addresses=(server.url,)))
        daemon, stop = Daemon(settings), asyncio.Event()
        starting = asyncio.create_task(daemon.start(stop))
        await began.wait()
        async with await Client.connect(server.url) as client:
            for number in range(COUNT):
                await client.schedule("+3600", reply="to", id=f"n{number}")
            await client.confirm()
            await until(lambda: daemon._intake.waiting == COUNT, "all are heard")
            stop.set()
            await starting
            ending = asyncio.create_task(daemon.shut_down())
            goes_on.set()
            await ending
            assert daemon.stats.accepted == COUNT
            assert await client.stored() == COUNT + 1  # and the barrier
