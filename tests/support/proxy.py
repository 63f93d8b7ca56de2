"""A TCP proxy between a daemon and its server, which can do to a link what networks do."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
from collections.abc import Iterable
from enum import Enum, auto
from types import TracebackType
from typing import Self

from tests.support.patience import allow, until
from tests.support.server import HOST

CHUNK = 16 * 1024  # bytes
BUFFER = 64 * 1024  # bytes that wait in the proxy before it reads no more


class Mode(Enum):
    """What the proxy does with what it is sent."""

    PASS = auto()
    """Hand it on."""
    HOLD = auto()
    """Neither read nor hand on: to both sides the other one is silent, and nothing closes."""
    SWALLOW = auto()
    """Take what the client sends and throw it away; what the server sends is handed on."""
    DEAF = auto()
    """Hand on what the client sends; what the server sends gets nowhere."""
    REFUSE = auto()
    """End the connection."""


class Name:
    """The name that a client gives itself."""

    def __init__(self) -> None:
        self.text = ""

    def read(self, data: bytes) -> None:
        """Take it from what the client sends first."""
        if not self.text and (
            found := re.search(rb'^CONNECT .*"name": ?"([^"]*)"', data, re.MULTILINE)
        ):
            self.text = found[1].decode()


class Proxy:
    """Listens on a port of its own and connects each client with the server behind it."""

    def __init__(self, port: int) -> None:
        self.port = 0
        self._target = port
        self._mode = Mode.PASS
        self._only = ""
        self._changed = asyncio.Event()
        self._bytes_per_second = 0.0
        self._delay = 0.0
        self._longest: float | None = None
        self._begun = 0
        self._server: asyncio.Server | None = None
        self._links: dict[Name, tuple[asyncio.StreamWriter, ...]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """The address for the daemon."""
        return f"nats://{HOST}:{self.port}"

    @property
    def links(self) -> int:
        """How many connections there are at this moment."""
        return len(self._links)

    def be(self, mode: Mode, only: str = "") -> None:
        """Treat all connections so from now on, and new ones too.

        Or `only` those of clients whose name ends with this, once they have told it; the others
        pass.
        """
        self._mode, self._only = mode, only
        if mode is Mode.REFUSE:
            self._end(self._named(only))
        self._changed.set()
        self._changed = asyncio.Event()

    def slow(self, bytes_per_second: float) -> None:
        """Hand on so many bytes a second on each connection and way; 0: as many as come."""
        self._bytes_per_second = bytes_per_second

    def delay(self, seconds: float) -> None:
        """Hand on each piece so much later, on each way; a piece is what came at once."""
        self._delay = seconds

    def end_within(self, seconds: float | None) -> None:
        """End each new connection at some moment of its first `seconds`; None: let it live."""
        self._longest = seconds

    async def begins(self, count: int) -> None:
        """Wait until so many more connections have been begun."""
        wanted = self._begun + count
        await until(lambda: self._begun >= wanted, f"{count} more connections", allow(10))

    def cut(self, only: str = "") -> None:
        """End all connections, or `only` those, with a reset; new ones are accepted."""
        self._end(self._named(only))

    def _named(self, only: str) -> Iterable[Name]:
        return (name for name in self._links if name.text.endswith(only))

    def _end(self, names: Iterable[Name]) -> None:
        for name in names:
            for writer in self._links[name]:
                writer.transport.abort()

    def refuse(self) -> None:
        """End all connections with a reset; new ones are refused."""
        assert self._server is not None
        self._server.close()
        self.cut()

    async def __aenter__(self) -> Self:
        # Without an address in the server's list of its cluster, the proxy is the only way.
        self._server = await asyncio.start_server(self._serve, HOST, 0, limit=BUFFER)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.refuse()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        name = Name()
        self._links[name] = (writer,)
        self._begun += 1
        life = None if self._longest is None else random.uniform(0, self._longest)
        try:
            there, back = await asyncio.open_connection(HOST, self._target, limit=BUFFER)
            self._links[name] = (writer, back)
            async with asyncio.timeout(life), asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, back, name, blocked=(Mode.HOLD,)))
                both.create_task(self._pump(there, writer, name, blocked=(Mode.HOLD, Mode.DEAF)))
        except* (OSError, asyncio.CancelledError):
            pass  # the server is away, a side has gone, its life or the test is over
        finally:
            self._tasks.discard(task)
            for one in self._links.pop(name):
                one.transport.abort()

    def _sent(self, data: bytes) -> None:
        """See what a client sends before it is handed on; ConnectionError ends its connection."""

    def _mode_for(self, name: Name) -> Mode:
        return self._mode if name.text.endswith(self._only) else Mode.PASS

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        name: Name,
        *,
        blocked: tuple[Mode, ...],
    ) -> None:
        """Hand on what one side sends, until it ends."""
        from_client = Mode.DEAF not in blocked
        while True:
            while self._mode_for(name) in blocked:
                await self._changed.wait()
            data = await reader.read(CHUNK)
            if not data:
                raise ConnectionResetError
            if from_client:
                name.read(data)
            while self._mode_for(name) in blocked:
                await self._changed.wait()
            if self._mode_for(name) is Mode.REFUSE or writer.is_closing():
                raise ConnectionResetError
            if self._mode_for(name) is Mode.SWALLOW and from_client:
                continue
            if from_client:
                self._sent(data)
            await self._pause(len(data))
            writer.write(self._asked(data) if from_client else self._answered(data))
            with contextlib.suppress(ConnectionError):
                await writer.drain()

    async def _pause(self, size: int) -> None:
        """Wait before a piece of so many bytes is handed on."""
        seconds = self._delay
        if self._bytes_per_second:
            seconds += size / self._bytes_per_second
        if seconds:
            await asyncio.sleep(seconds)

    def _asked(self, data: bytes) -> bytes:
        """What is handed on of what a client sends: for a proxy that changes it."""
        return data

    def _answered(self, data: bytes) -> bytes:
        """What is handed on of what the server sends: for a proxy that changes it."""
        return data
