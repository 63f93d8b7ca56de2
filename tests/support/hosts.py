"""Hosts that work on files: `gozoctl worker` as a process, and what its commands leave behind."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from gozo.client import Applied, Client
from gozo.client.manifest import Manifest, parse
from tests.support.daemon import Daemon
from tests.support.gozoctl import PROGRAM
from tests.support.patience import until
from tests.support.processes import Daemons
from tests.support.server import NatsServer

ONCE = "2099-01-01T00:00:00Z"
"""When something is due that a test triggers."""


def table(id_: str, command: str, when: str = ONCE, **more: object) -> str:
    """Write a table; its subject is its id below `cron`."""
    keys = {"subject": f"cron.{id_}", "when": when, "command": command, **more}
    lines = [f"{key.replace('_', '-')} = {_toml(value)}" for key, value in keys.items()]
    return f'[schedules."{id_}"]\n' + "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else f"'''{value}'''"


def read(text: str) -> Manifest:
    """Read a file."""
    return parse(text, "cron.toml", "cron", lambda name: b"")


async def apply(client: Client, text: str) -> list[Applied]:
    """Apply a file."""
    return await client.apply(read(text).wanted)


class Hosts:
    """Workers on one server; each has a folder of its own, and all write to one."""

    def __init__(self, server: NatsServer, daemons: Daemons, folder: Path) -> None:
        self.server = server
        self.folder = folder
        """Where commands write."""
        self.daemons = daemons

    async def start(
        self,
        text: str,
        host: str = "web1",
        *options: str,
        variables: dict[str, str] | None = None,
        program: Sequence[str] = PROGRAM,
    ) -> Daemon:
        """Start a worker on a file, and wait until it is ready."""
        worker = self.daemons.start(
            *("worker", "cron.toml", "--host", host, *options),
            variables={"NATS_ADDRESS": self.server.url, **(variables or {})},
            files={"cron.toml": text},
            program=program,
        )
        await worker.event("worker.ready")
        return worker

    def lines(self, name: str) -> list[str]:
        """Return the lines of a file that commands have written to."""
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    async def written(self, name: str, count: int = 1) -> list[str]:
        """Wait until there are so many lines in a file, and return all of them."""
        await until(lambda: len(self.lines(name)) >= count, f"{count} lines in {name}")
        return self.lines(name)


async def settled(client: Client, id_: str) -> str:
    """Wait until no run of a schedule is under way; return the reason of the one that failed."""
    while True:
        runs = [one async for one in client.list(prefix=id_) if one.is_run and one.id == id_]
        if all(run.state == "failed" for run in runs):
            return runs[0].reason if runs else ""
        await asyncio.sleep(0.05)


def starts_of(*workers: Daemon) -> list[dict[str, str]]:
    """Return what workers have started."""
    return [dict(one.fields) for worker in workers for one in worker.events("job.started")]
