"""Runs a command for a message: its environment, its input, its exit. Knows nothing of NATS."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from gozo.client import Message

PREFIX = b"GOZO_MESSAGE_"
LONGEST_STRING = 32 * os.sysconf("SC_PAGE_SIZE")  # bytes, execve(2): MAX_ARG_STRLEN
ALL_STRINGS = 6 * 1024 * 1024  # bytes: Linux takes no more, whatever the stack limit
POINTER = 8  # bytes
SPARE = 64 * 1024  # bytes for variables that the command adds for its children
TIMED_OUT = 124  # the exit code of timeout(1)
NO_SIGNAL = 0  # only checks whether there is a process to signal: kill(2)
PID_1 = 1
SIGNALLED = 128  # shells add the number of the signal
POLL = 0.05  # seconds between checks whether a process group has ended
LAST_OUTPUT = 1.0  # seconds to wait for output after the exit: a child may keep it open
LONGEST_LINE = 16 * 1024  # bytes; longer lines of output are logged in parts

_ODD = re.compile(r"[^A-Z0-9_]")
_BREAK = re.compile(r"[\0\r\n]")


class Output(Protocol):
    """Receives what a command prints."""

    def take(self, stream: str, lines: Sequence[bytes]) -> None:
        """Receive lines of `stdout` or `stderr`, without their line ends."""

    @property
    def is_full(self) -> bool:
        """Whether to receive no more for now: the command then waits when its pipe is full."""

    def when_ready(self, call: Callable[[], None]) -> None:
        """Call something once more can be received."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    status: int
    """The exit code as shells count it: 128 plus the signal, 124 after a timeout."""
    reason: str
    """Why it failed; empty if it succeeded."""
    seconds: float
    """How long it ran."""


def environment(message: Message, inherited: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """Return the environment of a command: the inherited one, and variables for the message.

    Of headers with the same name the first counts, as in NATS clients. Line ends and zero bytes,
    which gozo itself never passes on, become spaces.
    """
    variables = {n: value for n, value in inherited.items() if not n.startswith(PREFIX)}
    own = {"SUBJECT": message.subject}
    for name, value in message.headers:
        own.setdefault("HEADER_" + _ODD.sub("_", name.upper()), value)
        if name.lower() == "gozo-id":
            own.setdefault("ID", value)
        elif name.lower() == "gozo-due":
            own.setdefault("DUE", value)
    return variables | {
        PREFIX + name.encode(): _BREAK.sub(" ", value).encode("utf-8", "replace")
        for name, value in own.items()
    }


def fitting(
    variables: Mapping[bytes, bytes], command: Sequence[str]
) -> tuple[dict[bytes, bytes], list[str]]:
    """Return the variables that fit into the environment of a command, and the names omitted.

    The system limits each, and all of them together with the command (execve(2), E2BIG). The
    longest variables of the message are omitted first.
    """
    room = min(os.sysconf("SC_ARG_MAX"), ALL_STRINGS) - SPARE
    room -= sum(_taken(os.fsencode(word)) for word in command)
    sizes = {name: _taken(name + b"=" + value) for name, value in variables.items()}
    fit: dict[bytes, bytes] = {}
    omitted: list[str] = []
    for name in sorted(sizes, key=lambda name: (name.startswith(PREFIX), sizes[name])):
        room -= sizes[name]
        if name.startswith(PREFIX) and (room < 0 or sizes[name] - POINTER > LONGEST_STRING):
            room += sizes[name]
            omitted.append(name.decode())
        else:
            fit[name] = variables[name]
    return fit, omitted


def _taken(text: bytes) -> int:
    """Return the bytes that a string takes, with a final zero byte and a pointer to it."""
    return len(text) + 1 + POINTER


async def run(
    command: Sequence[str],
    variables: Mapping[bytes, bytes],
    payload: bytes,
    *,
    timeout: float | None = None,
    kill_after: float = 10.0,
    output: Output | None = None,
) -> Ended:
    """Run a command in a process group of its own, with `payload` as its input.

    After `timeout` seconds, or when cancelled, the group gets SIGTERM; `kill_after` seconds later,
    or when cancelled again, SIGKILL. The command inherits our output, unless `output` takes it.
    """
    began = time.monotonic()
    pipe = asyncio.subprocess.PIPE if output else None
    try:
        with input_file(payload) as stdin:
            transport, process = await asyncio.get_running_loop().subprocess_exec(
                lambda: _Process(output),
                *command,
                stdin=stdin,
                stdout=pipe,
                stderr=pipe,
                env=variables,
                process_group=0,
            )
    except OSError as error:
        return Ended(126, f"cannot start: {error.strerror}", time.monotonic() - began)
    group = transport.get_pid()
    is_late = False

    def reap() -> None:
        if process.exited.is_set():  # the event loop has the exit code
            reap_group(group)

    try:
        async with asyncio.timeout(timeout):
            await process.exited.wait()
    except TimeoutError:
        is_late = True
        await end_group(group, kill_after, reap)
        await process.exited.wait()
    except asyncio.CancelledError:
        await end_group(group, kill_after, reap)
        raise
    finally:
        seconds = time.monotonic() - began
        if output:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LAST_OUTPUT):
                    await process.silent.wait()
        transport.close()
        reap()
    code = cast("int", transport.get_returncode())
    return how_it_ended(code, seconds, timeout if is_late else None)


def how_it_ended(code: int, seconds: float, timeout: float | None) -> Ended:
    """Return how a process ended; `timeout` is given if it was ended after that many seconds."""
    if timeout is not None:
        return Ended(TIMED_OUT, f"timed out after {timeout:g} s", seconds)
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        return Ended(SIGNALLED - code, f"killed by {name}", seconds)
    return Ended(code, f"exit code {code}" if code else "", seconds)


async def end_group(group: int, kill_after: float, reap: Callable[[], None] = lambda: None) -> None:
    """End all processes of a group; `reap` is called for those that have ended meanwhile."""
    signal_group(group, signal.SIGTERM)
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(kill_after):
                while is_running(group):  # nothing reports its end
                    await asyncio.sleep(POLL)
                    reap()
    finally:
        signal_group(group, signal.SIGKILL)


def reap_group(group: int) -> None:
    """Reap the processes that a command left to us, as PID 1 of a container; see wait(2).

    Otherwise they stay for ever, and the group seems to run. The command itself has been reaped.
    """
    if os.getpid() == PID_1:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-group, os.WNOHANG) != (0, 0):
                pass


def signal_group(group: int, number: int) -> bool:
    """Send a signal to a process group; False if it no longer exists."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    return True


def is_running(group: int) -> bool:
    """Tell whether a process group has a process that is no zombie, which perhaps nobody reaps."""
    if not signal_group(group, NO_SIGNAL):
        return False
    found = False
    for stat in Path("/proc").glob("[0-9]*/stat"):  # proc(5); Linux only
        with contextlib.suppress(OSError):
            state, _, its_group = stat.read_bytes().rpartition(b") ")[2].split()[:3]
            if int(its_group) == group:
                if state not in {b"Z", b"X"}:
                    return True
                found = True
    return not found


def input_file(payload: bytes) -> IO[bytes]:
    """Return a file with a payload: the command need not read it, and may reopen it."""
    if hasattr(os, "memfd_create"):
        file: IO[bytes] = os.fdopen(os.memfd_create("payload"), "w+b")
    else:
        file = tempfile.TemporaryFile()  # noqa: SIM115  # the caller closes it
    file.write(payload)
    file.seek(0)
    return file


class _Process(asyncio.SubprocessProtocol):
    """Notes the exit of a process, and splits its output into lines."""

    def __init__(self, output: Output | None) -> None:
        self.exited = asyncio.Event()
        self.silent = asyncio.Event()
        """Set when no process can write to its output any more."""
        self._output = output
        self._begun = {1: bytearray(), 2: bytearray()}
        self._open = 2
        self._transport: asyncio.SubprocessTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def process_exited(self) -> None:
        self.exited.set()
        self._resume()  # no more than what is in the pipes is to come

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        begun = self._begun[fd]
        begun += data
        *lines, rest = bytes(begun).split(b"\n")
        while len(rest) > LONGEST_LINE:
            lines.append(rest[:LONGEST_LINE])
            rest = rest[LONGEST_LINE:]
        begun[:] = rest
        self._take(fd, lines)
        output, transport = self._output, self._transport
        if output is None or transport is None or self.exited.is_set():
            return
        if output.is_full:
            cast("asyncio.ReadTransport", transport.get_pipe_transport(fd)).pause_reading()
            output.when_ready(self._resume)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._take(fd, [bytes(self._begun[fd])] if self._begun[fd] else [])
        self._open -= 1
        if not self._open:
            self.silent.set()

    def _resume(self) -> None:
        if self._output is not None and self._transport is not None:
            for fd in self._begun:
                pipe = self._transport.get_pipe_transport(fd)
                cast("asyncio.ReadTransport", pipe).resume_reading()

    def _take(self, fd: int, lines: Sequence[bytes]) -> None:
        if self._output is not None and lines:
            self._output.take("stdout" if fd == 1 else "stderr", lines)
