"""Embedded servers: what their settings say, and one that a process of its own starts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from gozo.embedded import EmbeddedServer
from gozo.settings.model import ServeSettings

CHILD = """
import asyncio, sys
from pathlib import Path
from gozo import embedded
from gozo.embedded import server
from gozo.settings.model import ConnectionSettings, ServeSettings

port, store, loop, kernel = sys.argv[1:]
if kernel == "no":
    server._has_parent_death_signal = lambda: False

async def main():
    address = f"nats://127.0.0.1:{port}"
    settings = ServeSettings(ConnectionSettings(addresses=(address,)), store=Path(store))
    print((await embedded.start(settings)).pid, flush=True)
    await asyncio.Event().wait()

factory = None
if loop == "uvloop":
    import uvloop
    factory = uvloop.new_event_loop
with asyncio.Runner(loop_factory=factory) as runner:
    runner.run(main())
"""

Start = Callable[[ServeSettings], Awaitable[EmbeddedServer]]


def port_of(settings: ServeSettings) -> int:
    """Return the port that the settings name."""
    return int(settings.connection.addresses[0].rpartition(":")[2])


def store_of(settings: ServeSettings) -> Path:
    """Return the store that the settings name."""
    assert settings.store is not None
    return settings.store


def start_child(
    settings: ServeSettings, loop: str, kernel: str
) -> tuple[subprocess.Popen[str], int]:
    """Start a process that starts a server; return it and the server's number."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(port_of(settings)), str(settings.store), loop, kernel],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    with child.stdout:
        line = child.stdout.readline()
    if not line:
        child.wait()
        raise AssertionError("the child could not start a server")
    return child, int(line)


def lives(pid: int) -> bool:
    """Tell whether a process that is not ours runs; one that awaits its burial does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
