"""Settings of an embedded server, and servers that end with the test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gozo import embedded
from gozo.embedded import EmbeddedServer
from gozo.settings.model import ConnectionSettings, ServeSettings
from tests.support.embedded import Start
from tests.support.server import free_port


@pytest.fixture
def settings(tmp_path: Path) -> ServeSettings:
    """Return settings with a free port and a store of the test's own."""
    connection = ConnectionSettings(addresses=(f"nats://localhost:{free_port()}",))
    return ServeSettings(connection, name="test", embedded=True, store=tmp_path / "data" / "store")


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start servers that end with the test."""
    async with AsyncExitStack() as stack:

        async def start(settings: ServeSettings) -> EmbeddedServer:
            started = await embedded.start(settings)
            stack.push_async_callback(started.stop)
            return started

        yield start
