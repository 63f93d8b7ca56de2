"""A real gozo process: started, listened to, sent signals, waited for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Self

from tests.support import forking
from tests.support.events import Event, parse_event
from tests.support.patience import allow

GOZO = (sys.executable, "-m", "gozo")

KEPT_VARIABLES = ("PATH", "LANG", "LC_ALL", "PYTHONPATH", "SYSTEMROOT")
"""All of the environment that a daemon sees, so that no NATS_* or GOZO_* of the machine, nor
anybody's home directory, has a say in a test."""


class Daemon:
    """One `gozo` process with a clean environment and a working directory of its own.

    `arguments` follow `gozo`: `Daemon("serve", "--bucket", "b")`, or options alone. What the
    process prints is read by threads, so that it can be waited for from any event loop, and
    the process never blocks on a full pipe.
    """

    def __init__(
        self,
        *arguments: str,
        variables: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
        program: Sequence[str] = GOZO,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="gozo-run-"))
        self.arguments = arguments
        self._program = program
        self._variables = dict(variables or {})
        for name, text in (files or {}).items():
            (self.folder / name).write_text(text)
        self._lines: list[str] = []
        self._output: list[str] = []
        self._news = threading.Condition()
        self._readers: list[threading.Thread] = []
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> Self:
        """Start the process; it is not ready yet when this returns."""
        kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
        home = {"HOME": str(self.folder)}
        self._process = forking.start(
            [*self._program, *self.arguments],
            cwd=self.folder,
            env=kept | home | self._variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="backslashreplace",
            start_new_session=True,  # a process group of its own, as a shell would give it
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._read(self._process.stderr, self._lines)
        self._read(self._process.stdout, self._output)
        return self

    async def ready(self) -> Event:
        """Wait until the daemon says that it is ready."""
        return await self.event("daemon.ready")

    async def event(
        self, name: str, *, since: int = 0, timeout: float | None = None, **fields: str
    ) -> Event:
        """Wait for a log event with this name and these fields, and return it.

        Events from before the call count, from `since` on (see `mark`). Fails when the
        process ends without the event, or when it has not come within `timeout` seconds
        (without one: what takes 10 s on an idle machine).
        """
        bound = allow(10) if timeout is None else timeout
        return await asyncio.to_thread(self.find_event, name, fields, since, bound)

    def find_event(self, name: str, fields: Mapping[str, str], since: int, timeout: float) -> Event:
        """Do what `event` says, blocking."""
        deadline = time.monotonic() + timeout
        wanted = " ".join([name, *(f"{key}={value}" for key, value in fields.items())])
        seen = since
        with self._news:
            while True:
                # Whether it has ended is asked first: what it said last is looked at below.
                ended = not any(reader.is_alive() for reader in self._readers)
                for line in self._lines[seen:]:
                    event = parse_event(line)
                    if event and event.name == name and fields.items() <= event.fields.items():
                        return event
                seen = max(seen, len(self._lines))
                left = deadline - time.monotonic()
                if ended or left <= 0:
                    what = "before its end" if ended else f"within {timeout:g} s"
                    said = "\n".join(self._lines)
                    raise AssertionError(f"gozo did not log {wanted} {what}; it said:\n{said}")
                # A reader notifies just before it ends, so its end is looked for now and then.
                self._news.wait(min(left, 0.2))

    def events(self, name: str, *, since: int = 0) -> list[Event]:
        """Return the events of this name that have been logged so far."""
        with self._news:
            parsed = [parse_event(line) for line in self._lines[since:]]
        return [event for event in parsed if event is not None and event.name == name]

    def mark(self) -> int:
        """Return a point in the log: hand it to `event` to look at later events only."""
        with self._news:
            return len(self._lines)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._running().pid

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def stderr(self) -> str:
        """What the process has written to stderr so far."""
        with self._news:
            return "\n".join(self._lines)

    @property
    def stdout(self) -> str:
        """What the process has written to stdout so far."""
        with self._news:
            return "\n".join(self._output)

    def send(self, signal_number: signal.Signals) -> None:
        """Send a signal."""
        self._running().send_signal(signal_number)

    def press_ctrl_c(self) -> None:
        """Send SIGINT to the whole process group, as a terminal does."""
        os.killpg(self.pid, signal.SIGINT)

    async def terminate(self) -> int:
        """Send SIGTERM, wait for the end, and return the exit code."""
        self.send(signal.SIGTERM)
        return await self.wait()

    async def kill(self) -> None:
        """Send SIGKILL, as a crash would, and wait for the end."""
        self.send(signal.SIGKILL)
        await self.wait()

    async def wait(self, timeout: float | None = None) -> int:
        """Wait for the process to end by itself, and return its exit code."""
        bound = allow(10) if timeout is None else timeout
        try:
            code = await asyncio.to_thread(self._running().wait, bound)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"gozo still runs after {bound:g} s:\n{self.stderr}") from None
        for reader in self._readers:
            await asyncio.to_thread(reader.join, allow(1))
        return code

    def close(self) -> None:
        """End the process, whatever state it is in, and remove its folder."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):  # the whole group has ended
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            for reader in self._readers:
                reader.join(allow(1))
            for stream in (self._process.stdout, self._process.stderr):
                if stream is not None:
                    stream.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _running(self) -> subprocess.Popen[str]:
        assert self._process is not None, "the daemon was not started"
        return self._process

    def _read(self, stream: IO[str], lines: list[str]) -> None:
        def follow() -> None:
            for line in stream:
                with self._news:
                    lines.append(line.rstrip("\n"))
                    self._news.notify_all()
            with self._news:
                self._news.notify_all()

        reader = threading.Thread(target=follow, daemon=True)
        reader.start()
        self._readers.append(reader)
