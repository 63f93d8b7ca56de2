"""One replica of gozo in a run of random faults: its processes, and its links."""

from __future__ import annotations

import contextlib
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Self

from tests.support.daemon import Daemon
from tests.support.proxy import Proxy
from tests.support.server import NatsServer

START = 60.0  # seconds in which a daemon must be ready, whatever else is broken meanwhile
NEVER = float("inf")


class Replica:
    """A daemon that is started again and again, with a proxy before each server."""

    def __init__(self, name: str, servers: list[NatsServer], options: tuple[str, ...] = ()) -> None:
        self.name = name
        self.whole_since = NEVER
        """Since when it has heard all requests, and kept what has no id."""
        self.busy = False
        """Whether a fault is under way that this replica has to itself."""
        self.ways = [Proxy(server.port) for server in servers]
        self._options = options
        self._all: list[Daemon] = []
        self._mark = 0
        self._leads = False

    @property
    def daemon(self) -> Daemon:
        """The process that was started last."""
        return self._all[-1]

    @property
    def is_up(self) -> bool:
        """Whether a process runs."""
        return bool(self._all) and self.daemon.alive

    @property
    def leads(self) -> bool:
        """Whether it leads, as far as it says."""
        if not self.is_up:
            return False
        mark, self._mark = self._mark, self.daemon.mark()
        said = [
            event
            for name in ("lease.acquired", "lease.lost")
            for event in self.daemon.events(name, since=mark)
        ]
        if said:
            last = max(said, key=lambda event: event.line[:24])
            self._leads = last.name == "lease.acquired"
        return self._leads

    async def start(self) -> None:
        """Start a process, and wait until it is ready."""
        addresses = ",".join(way.url for way in self.ways)
        arguments = ("serve", "--name", self.name, "--address", addresses, *self._options)
        self._mark, self._leads = 0, False
        self._all.append(Daemon(*arguments, "--connect-timeout", f"{START:g}").start())
        await self.daemon.event("daemon.ready", timeout=START)
        self.whole_since = time.time()

    def save_logs(self, folder: Path) -> None:
        """Write what its processes said into files."""
        for number, daemon in enumerate(self._all):
            (folder / f"{self.name}-{number}.log").write_text(daemon.stderr + "\n")

    @property
    def tracebacks(self) -> list[str]:
        """The processes that printed a traceback."""
        return [
            f"{self.name}-{number}"
            for number, daemon in enumerate(self._all)
            if "Traceback" in daemon.stderr
        ]

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for way in self.ways:
                await stack.enter_async_context(way)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        for daemon in self._all:
            with contextlib.suppress(OSError):
                daemon.close()
        await self._stack.aclose()
