"""Services built with ordinary client libraries, which know nothing of gozo, can be called."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from nats import micro
from nats.micro.request import Request
from nats.micro.service import Service

from tests.support.client import Client
from tests.support.node import install
from tests.support.patience import allow
from tests.support.processes import Clients
from tests.support.receipts import ask, entry_of
from tests.support.run_events import RunEvents
from tests.support.running import Running

PACKAGES = ["@nats-io/transport-node@3", "@nats-io/services@^3.0.0-25"]
CALL = {"Gozo-When": "+0", "Gozo-Confirm": "reply", "Gozo-Backoff": "50ms", "Gozo-Attempts": "3"}


@pytest.fixture(scope="module")
def options() -> tuple[str, ...]:
    """Publish events, which show what happens to runs."""
    return ("--events",)


async def check_service(
    client: Client,
    id_: str,
    subject: str,
    start: Callable[[], Awaitable[None]],
    stop: Callable[[], Awaitable[None]],
) -> None:
    """Call a service that answers, fails once, is away, and comes back."""
    events = await RunEvents.listen(client, id_)
    asked = {**CALL, "Gozo-Id": id_}
    assert (await ask(client, asked, reply=subject, payload=b"fail once"))["status"] == "stored"
    assert (await events.find("retrying"))["reason"] == "service error 500 no disk"
    assert (await events.find("succeeded"))["attempts"] == 2

    await stop()
    away = await RunEvents.listen(client, f"{id_}-away")
    asked = {**CALL, "Gozo-Id": f"{id_}-away"}
    assert (await ask(client, asked, reply=subject, payload=b"tea"))["status"] == "stored"
    (key,) = await away.wait_for_run("retrying")
    entry = await entry_of(client, key)
    assert (entry["Gozo-Reason"], entry["Gozo-Tried"]) == (f"nobody subscribes to {subject}", "0")
    await start()
    assert (await away.find("succeeded"))["attempts"] == 1


async def test_python(running: Running, client: Client, clients: Clients, new_id: str) -> None:
    """A service of nats-py's `micro`."""
    other = await clients.connect(running.server)
    subject = f"service.{new_id}"
    called: list[bytes] = []

    async def handle(request: Request) -> None:
        called.append(request.data)
        if request.data == b"fail once" and len(called) == 1:
            await request.respond_error("500", "no disk", data=b"details")
        else:
            await request.respond(b"done")

    services: list[Service] = []

    async def start() -> None:
        service = await micro.add_service(other.nats, name="jobs", version="1.0.0")
        await service.add_endpoint(name="run", subject=subject, handler=handle)
        await other.confirm()
        services.append(service)

    async def stop() -> None:
        await services.pop().stop()
        await other.confirm()

    await start()
    await check_service(client, new_id, subject, start, stop)
    assert called == [b"fail once", b"fail once", b"tea"]
    await stop()


async def test_javascript(running: Running, client: Client, new_id: str, tmp_path: Path) -> None:
    """A service of Node's `@nats-io/services`."""
    command = await install(Path(__file__).with_name("service.mjs"), *PACKAGES, folder=tmp_path)
    subject = f"service.{new_id}"
    processes: list[asyncio.subprocess.Process] = []

    async def start() -> None:
        process = await asyncio.create_subprocess_exec(
            *(*command, running.server.url, subject),
            cwd=tmp_path,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
        processes.append(process)
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), allow(10))
        assert json.loads(line) == {"ready": True}

    async def stop() -> None:
        process = processes.pop()
        process.kill()
        await process.wait()

    try:
        await start()
        await check_service(client, new_id, subject, start, stop)
    finally:
        while processes:
            await stop()
