"""`gozo` and `gozoctl` as processes that need not import anything first.

Most of what starting one takes is importing, and the tests start thousands. So they are forked off
a process that has imported what they need, and run as after `python -m`, with an environment, a
directory, streams and a session of their own. Each process of the tests has one such process for
each program; it ends when the tests do.

What Python and the C library read before anything else cannot be changed in a fork: where such a
variable is set, the program is started as usual. So are all with GOZO_TEST_FORK=no, and outside
the tests: a benchmark measures what users get.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import runpy
import select
import selectors
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

IMPORTED = {
    "gozo": ("gozo.cli.app", "gozo.daemon.daemon", "uvloop"),
    "gozoctl": ("gozoctl.app", "gozo.client"),
}
"""What is imported ahead, by program."""

EARLY = ("LANG", "LC_", "LD_", "MALLOC_", "PYTHON")
"""What the names of variables begin with that are read before anything else."""
SAME = frozenset(("LANG", "LC_ALL", "PYTHONPATH"))
"""Those of them that whoever forks is started with as well."""

FORKS = os.environ.get("GOZO_TEST_FORK") != "no" and hasattr(os, "pidfd_open")

BEGUN, ENDED = b"b", b"e"
NOTE = struct.Struct("=ci")
"""One of these two, with the number of the process, or with the status that it ended with."""


_begun = threading.Event()
_lock = threading.Lock()


def begin() -> None:
    """Fork from now on, where that is possible."""
    if FORKS:
        _begun.set()


def start(
    command: Sequence[str], *, env: Mapping[str, str], **options: Any
) -> subprocess.Popen[Any]:
    """Do what `subprocess.Popen` does, by a fork where that makes no difference."""
    python, *words = command
    early = {name: value for name, value in env.items() if name.startswith(EARLY)}
    is_known = python == sys.executable and words[:1] == ["-m"] and words[1] in IMPORTED
    if _begun.is_set() and is_known and early.keys() <= SAME:
        with _lock:
            source = _source(words[1], tuple(early.items()))
        return Forked(source, words[1:], env=env, **options)
    return subprocess.Popen(command, env=env, **options)


@functools.cache
def _source(program: str, early: tuple[tuple[str, str], ...]) -> _Source:
    return _Source(program, dict(early))


class _Source:
    """A process that has imported a program, and forks."""

    def __init__(self, program: str, variables: Mapping[str, str]) -> None:
        self._way, its_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its_end:
            self._process = subprocess.Popen(
                [sys.executable, __file__, program, str(its_end.fileno())],
                env=variables,
                pass_fds=[its_end.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C is for the tests
            )
        atexit.register(self._end)

    def fork(self, streams: Sequence[int], request: Mapping[str, Any]) -> tuple[int, socket.socket]:
        """Have a process forked off; return its number, and where it is told how it ends."""
        ours, its_end = socket.socketpair()
        with its_end:
            socket.send_fds(self._way, [b"fork"], [*streams, its_end.fileno()])
        ours.sendall(json.dumps(request).encode() + b"\n")
        kind, number = NOTE.unpack(_read(ours))
        if kind != BEGUN:
            raise AssertionError(f"{request['words']} did not begin: see above")
        return number, ours

    def _end(self) -> None:
        self._way.close()  # it ends with that, and would without us
        self._process.wait()


class Forked(subprocess.Popen[Any]):
    """A process that is somebody else's child: who forked it tells how it ended."""

    # Of the original, as in Python 3.11 and later.
    _close_pipe_fds: Any
    _handle_exitstatus: Any
    _waitpid_lock: Any

    def __init__(self, source: _Source, words: Sequence[str], **options: Any) -> None:
        self._source = source
        self._news: socket.socket | None = None
        super().__init__(words, **options)

    def wait(self, timeout: float | None = None) -> int:
        """Wait without the polling of the original."""
        if timeout is not None and self._news is not None and self.returncode is None:
            with contextlib.suppress(ValueError):  # another thread has just seen it end
                poll = select.poll()
                poll.register(self._news, select.POLLIN)
                if not poll.poll(timeout * 1000):
                    raise subprocess.TimeoutExpired(self.args, timeout)
        return super().wait()

    def _execute_child(  # the names are those of the original
        self,
        args: list[str],
        executable: object,
        preexec_fn: object,
        close_fds: object,
        pass_fds: object,
        cwd: str | os.PathLike[str] | None,
        env: Mapping[str, str],
        startupinfo: object,
        creationflags: object,
        shell: object,
        p2cread: int,
        p2cwrite: int,
        c2pread: int,
        c2pwrite: int,
        errread: int,
        errwrite: int,
        restore_signals: object,
        gid: object,
        gids: object,
        uid: object,
        umask: object,
        start_new_session: bool,
        process_group: object,
    ) -> None:
        """Do what the original does with what it has prepared."""
        request = {
            "words": args,
            "directory": os.fspath(cwd or Path.cwd()),
            "variables": dict(env),
            "new_session": start_new_session,
        }
        streams = [
            own if given == -1 else given for own, given in enumerate((p2cread, c2pwrite, errwrite))
        ]
        try:
            self.pid, self._news = self._source.fork(streams, request)
            self._child_created = True
        finally:
            self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        """Do what waitpid(2) does."""
        assert self._news is not None
        try:
            note = self._news.recv(NOTE.size, socket.MSG_DONTWAIT if wait_flags else 0)
        except BlockingIOError:
            return 0, 0
        self._news.close()
        kind, status = NOTE.unpack(note)
        assert kind == ENDED
        return self.pid, status

    def _internal_poll(self, _deadstate: int | None = None) -> int | None:
        """Tell how it ended, if it has."""
        if self._waitpid_lock.acquire(blocking=False):
            try:
                if self.returncode is None:
                    pid, status = self._try_wait(os.WNOHANG)
                    if pid:
                        self._handle_exitstatus(status)
            finally:
                self._waitpid_lock.release()
        return self.returncode


def _read(way: socket.socket) -> bytes:
    """Read a note: it is sent in one piece."""
    note = way.recv(NOTE.size)
    if not note:
        raise AssertionError("who forks has ended: see above")
    return note


def main() -> None:
    """Import a program, fork when asked to, and run the program in what is forked off."""
    program = sys.argv[1]
    sys.path[0] = ""  # this folder is none to import from
    for module in IMPORTED[program]:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # what is not looked at needs no copy
    with socket.socket(fileno=int(sys.argv[2])) as way:
        found = _fork(way)
    if found is not None:
        _become(found)
        runpy.run_module(program, run_name="__main__", alter_sys=True)


def _fork(way: socket.socket) -> list[int] | None:
    """Fork as often as asked to: returns what came with it in the new process, else None."""
    told: dict[int, tuple[int, socket.socket]] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(way, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not way:
                    selector.unregister(key.fd)
                    os.close(key.fd)
                    pid, news = told.pop(key.fd)
                    with news, contextlib.suppress(OSError):  # where nobody waits any more
                        news.sendall(NOTE.pack(ENDED, os.waitpid(pid, 0)[1]))
                    continue
                asked, given, _, _ = socket.recv_fds(way, 16, 4)
                if not asked:
                    return None
                pid = os.fork()
                if pid == 0:
                    for end, (_, news) in told.items():
                        os.close(end)
                        news.close()
                    return given
                for stream in given[:3]:
                    os.close(stream)
                end = os.pidfd_open(pid)
                told[end] = (pid, socket.socket(fileno=given[3]))
                selector.register(end, selectors.EVENT_READ)


def _become(given: Sequence[int]) -> None:
    """Have everything of its own that a process is started with."""
    *streams, way = given
    with socket.socket(fileno=way) as news:
        with news.makefile("rb") as asked:
            request = json.loads(asked.readline())
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        if request["new_session"]:
            os.setsid()
        os.chdir(request["directory"])
        sys.path[0] = request["directory"]
        sys.argv = request["words"]
        os.environ.clear()
        os.environ.update(request["variables"])
        time.tzset()
        news.sendall(NOTE.pack(BEGUN, os.getpid()))


if __name__ == "__main__":
    main()
