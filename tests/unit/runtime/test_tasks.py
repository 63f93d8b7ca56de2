"""Ending tasks, those among them that swallow a cancellation."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest

from gozo.runtime.tasks import end
from gozo.settings.model import ConnectionSettings
from gozo.transport.connection import Connection
from tests.support.patience import allow
from tests.support.server import HOST, free_port

TURNS = 60  # of the event loop: more than a refused attempt to connect takes


async def test_a_swallowed_cancellation() -> None:
    """A task that swallows the first cancellation is ended all the same."""

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await asyncio.wait_for(end(task), allow(1))
    assert task.cancelled()


async def test_what_it_failed_with_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A task that fails is ended without a word from asyncio; its error can still be asked for."""

    async def fail() -> None:
        raise ValueError("one")

    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
    await end(task)
    with pytest.raises(ValueError, match="one"):
        task.result()
    ended = asyncio.create_task(fail())
    await asyncio.sleep(0)
    await end(ended)
    del ended
    with caplog.at_level(logging.ERROR):
        gc.collect()
    assert caplog.records == []


@pytest.mark.parametrize("turns", range(TURNS))
async def test_while_a_connection_is_refused(turns: int) -> None:
    """Whichever turn of the attempt the end comes in, waiting for a server ends at once."""
    settings = ConnectionSettings(addresses=(f"nats://{HOST}:{free_port()}",))
    connection = Connection(settings, "test")
    opening = asyncio.create_task(connection.open(60))
    for _ in range(turns):
        await asyncio.sleep(0)
    await asyncio.wait_for(end(opening), allow(1))
    assert opening.cancelled()
    await connection.close()
