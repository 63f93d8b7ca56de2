"""Starts processes in groups of their own, notes their ends, and keeps the end of their output.

If the worker is killed, its guard ends what it left: a small shell process that knows all groups
and notices the end of the worker. (A parent-death signal, prctl(2), would end only a shell, and not
what it runs.)

As PID 1 of a container, the worker also reaps processes whose parents are gone.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

from gozo.runtime.logs import get_logger
from gozoctl.worker import process

PORTION = 64 * 1024  # bytes read at a time
KILL_LEFT = 5  # seconds between SIGTERM and SIGKILL for what a killed worker left

GUARD = f"""\
groups=' '
while read -r sign group; do
  case $sign in
    +) groups="$groups$group " ;;
    -) groups="${{groups%% $group *}} ${{groups#* $group }}" ;;
  esac
done
send() {{ for group in $groups; do kill -s "$1" -- "-$group" 2>/dev/null; done; }}
if [ "$groups" != ' ' ]; then send TERM; sleep {KILL_LEFT}; send KILL; fi
"""
"""Reads `+ GROUP` and `- GROUP`; at the end of its input it ends the groups that are left."""

log = get_logger("gozo.worker")


class Account(NamedTuple):
    """Who runs a command."""

    uid: int
    gid: int
    groups: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Start:
    """What to start, and how."""

    command: Sequence[str]
    environment: Mapping[str, str]
    directory: str
    account: Account | None = None
    """None: the user of this process."""
    payload: bytes | None = None
    """Its standard input; None: /dev/null."""
    keeps: int = 0
    """How many bytes of its output to keep; 0: discard it."""
    lock: int | None = None
    """A file that it inherits."""


class Child:
    """A process that was started."""

    def __init__(self, popen: subprocess.Popen[bytes], output: Output | None) -> None:
        loop = asyncio.get_running_loop()
        self.pid = popen.pid
        """Also the id of its process group."""
        self.exited: asyncio.Future[int] = loop.create_future()
        """Its exit code; a negative one is a signal."""
        self._popen = popen
        self._output = output

    @property
    def output(self) -> bytes:
        """The end of what it has printed so far."""
        return b"" if self._output is None else bytes(self._output.kept)

    @property
    def omitted(self) -> int:
        """How many bytes before that were not kept."""
        return 0 if self._output is None else self._output.omitted

    def look(self) -> bool:
        """Note it if it has ended; return whether it has."""
        code = self._popen.poll()
        if code is not None and not self.exited.done():
            self.exited.set_result(code)
        return code is not None

    async def close(self) -> None:
        """Read the rest of its output; what it left running may keep it open."""
        if self._output is not None:
            await asyncio.wait([self._output.over], timeout=process.LAST_OUTPUT)
            self._output.close()


@dataclass(slots=True)
class Output:
    """The end of what is written to a pipe."""

    fd: int
    most: int
    kept: bytearray = field(default_factory=bytearray)
    omitted: int = 0
    over: asyncio.Future[None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def __post_init__(self) -> None:
        os.set_blocking(self.fd, False)
        asyncio.get_running_loop().add_reader(self.fd, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self.fd, PORTION)
        except BlockingIOError:
            return
        self.kept += data
        if (surplus := len(self.kept) - self.most) > 0:
            del self.kept[:surplus]
            self.omitted += surplus
        if not data:
            self.close()

    def close(self) -> None:
        """Stop reading."""
        if not self.over.done():
            self.over.set_result(None)
            asyncio.get_running_loop().remove_reader(self.fd)
            os.close(self.fd)


class Children:
    """All child processes of this one; there is one such object."""

    def __init__(self) -> None:
        self._running: dict[int, Child] = {}
        self._guarded: set[int] = set()
        self._guard: subprocess.Popen[bytes] | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_signal_handler(signal.SIGCHLD, self._on_end)
        self._is_first = os.getpid() == process.PID_1
        self._guard_anew()

    def start(self, what: Start) -> Child:
        """Start a process.

        Raises:
            OSError: it cannot be started.
        """
        with _input(what.payload) as stdin:
            reading, writing = os.pipe() if what.keeps else (-1, os.open(os.devnull, os.O_WRONLY))
            try:
                popen = _popen(what, stdin, writing)
            except BaseException:
                if what.keeps:
                    os.close(reading)
                raise
            finally:
                os.close(writing)
        self._note("+", popen.pid)
        child = Child(popen, Output(reading, what.keeps) if what.keeps else None)
        self._running[popen.pid] = child
        return child

    def kill_all(self) -> None:
        """Send SIGKILL to all groups."""
        for pid in self._running:
            process.signal_group(pid, signal.SIGKILL)

    def close(self) -> None:
        """Let the guard go: nothing may be running any more that it should end."""
        self._loop.remove_signal_handler(signal.SIGCHLD)
        guard, self._guard = self._guard, None
        if guard is not None and guard.stdin is not None:
            guard.stdin.close()
            guard.wait()

    def _on_end(self) -> None:
        for pid in [pid for pid, child in self._running.items() if child.look()]:
            del self._running[pid]
            self._note("-", pid)
        guard = self._guard
        if guard is not None and guard.poll() is not None:
            log.warning("guard.ended", status=guard.returncode)
            if guard.stdin is not None:
                guard.stdin.close()
            self._guard_anew()
        if self._is_first:
            self._reap()

    def _reap(self) -> None:
        """Reap processes that were left to PID 1. Our own are reaped where they are noted."""
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, flags)
            except ChildProcessError:
                return
            if found is None:
                return
            if found.si_pid in self._running:
                self._loop.call_soon(self._on_end)
                return
            if self._guard is not None and found.si_pid == self._guard.pid:
                self._loop.call_soon(self._on_end)
                return
            os.waitpid(found.si_pid, os.WNOHANG)

    def _guard_anew(self) -> None:
        """Start the guard, and tell it what is running."""
        self._guard = subprocess.Popen(  # noqa: S603  # our own script
            ["/bin/sh", "-c", GUARD],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.defpath},
            cwd="/",
            start_new_session=True,
        )
        for pid in self._guarded:
            self._tell("+", pid)

    def _note(self, sign: str, pid: int) -> None:
        if sign == "+":
            self._guarded.add(pid)
        else:
            self._guarded.discard(pid)
        self._tell(sign, pid)

    def _tell(self, sign: str, pid: int) -> None:
        guard = self._guard
        if guard is None or guard.stdin is None:
            return
        try:
            os.write(guard.stdin.fileno(), f"{sign} {pid}\n".encode())
        except OSError as error:  # it was killed: another is started once we hear of it
            log.limited("warning", "guard.lost", reason=error)


def _popen(what: Start, stdin: IO[bytes], output: int) -> subprocess.Popen[bytes]:
    account = what.account
    try:
        return subprocess.Popen(  # noqa: S603  # what the user's own file says
            what.command,
            stdin=stdin,
            stdout=output,
            stderr=output,
            env=what.environment,
            cwd=what.directory,
            start_new_session=True,
            pass_fds=() if what.lock is None else (what.lock,),
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else account.groups,
        )
    except (subprocess.SubprocessError, ValueError) as error:
        raise OSError(0, str(error)) from error


def _input(payload: bytes | None) -> IO[bytes]:
    if payload is None:
        return Path(os.devnull).open("rb")
    return process.input_file(payload)
