"""Owners of what a test starts: everything ends with the test, however it ends."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from types import TracebackType
from typing import Any, Self

from tests.support.client import Client
from tests.support.daemon import GOZO, Daemon
from tests.support.gozoctl import PROGRAM as GOZOCTL
from tests.support.server import NatsServer


class Servers(ExitStack):
    """Servers of one test or module."""

    def start(
        self, config: str = "", *, jetstream: bool = True, port: int | None = None, **options: Any
    ) -> NatsServer:
        """Start a server; see `NatsServer`."""
        return self.enter_context(
            NatsServer(config=config, jetstream=jetstream, port=port, **options)
        )


class Daemons:
    """Daemons of one test or module. None of them may have printed a traceback."""

    def __init__(self) -> None:
        self._all: list[Daemon] = []

    def start(
        self,
        *arguments: str,
        variables: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
        program: Sequence[str] = GOZO,
    ) -> Daemon:
        """Start `gozo` with these arguments; it is not ready yet when this returns."""
        daemon = Daemon(*arguments, variables=variables, files=files, program=program)
        self._all.append(daemon)
        return daemon.start()

    async def serve(self, server: NatsServer | str, *options: str) -> Daemon:
        """Start `gozo serve` on a server or an address, and wait until it is ready."""
        url = server.url if isinstance(server, NatsServer) else server
        daemon = self.start("serve", "--address", url, *options)
        await daemon.ready()
        return daemon

    async def work(
        self, server: NatsServer, *arguments: str, variables: Mapping[str, str] | None = None
    ) -> Daemon:
        """Start `gozoctl exec` on a server, and wait until it hears messages."""
        address = {"NATS_ADDRESS": server.url}
        worker = self.start(
            "exec", *arguments, variables=address | dict(variables or {}), program=GOZOCTL
        )
        await worker.event("exec.ready")
        return worker

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for daemon in self._all:
            daemon.close()
            sys.stderr.write(f"--- gozo {' '.join(daemon.arguments)}\n{daemon.stderr}\n")
        # After all have ended, so that a failure here leaves no process behind.
        for daemon in self._all:
            assert "Traceback" not in daemon.stderr, daemon.stderr


class Clients(AsyncExitStack):
    """Clients of one test."""

    async def connect(self, server: NatsServer | str, **options: Any) -> Client:
        """Connect to a server or an address; see `Client.connect`."""
        url = server.url if isinstance(server, NatsServer) else server
        return await self.enter_async_context(await Client.connect(url, **options))
