"""The process of an embedded nats-server, from its start to its end."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import secrets
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import IO, Any

from gozo.embedded.configuration import Place, authorization, place, rendered
from gozo.embedded.host import (
    await_port,
    default_store,
    find_program,
    lock_store,
    port_in_use,
)
from gozo.errors import EmbeddedServerError
from gozo.runtime.logs import get_logger
from gozo.settings import local_store as localstore
from gozo.settings.local_store import Files
from gozo.settings.model import ConnectionSettings, ServeSettings

READY_WAIT = 60.0  # seconds: the server reads a store of millions of schedules before it listens
READY_NOTE = 5.0  # seconds between log lines while it is still starting
INFO_WAIT = 1.0  # seconds for a server that accepted a connection to identify itself
STOP_WAIT = 10.0  # seconds for the server to flush and exit before it is killed
POLL = 0.05  # seconds between attempts to connect
LAST_LINES = 5  # lines of the server's log in an error message
PR_SET_PDEATHSIG = 1  # prctl(2)

log = get_logger("gozo.embedded")


class EmbeddedServer:
    """A nats-server that this process started."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        where: Place,
        files: Files,
        lock: int,
        login: dict[str, str],
    ) -> None:
        self.address = where.address
        """For clients: `nats://127.0.0.1:4222`, without the token or password."""
        self._login: Any = login
        self._process = process
        self._where = where
        self._files = files
        self._lock: int | None = lock
        self._guard: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.returncode is not None

    def reached_with(self, settings: ConnectionSettings) -> ConnectionSettings:
        """Return settings with which clients connect to this server and log in."""
        return replace(settings, addresses=(self.address,), **self._login)

    async def wait(self) -> int:
        """Return the exit status once the server has ended; after a signal, minus its number."""
        status = await self._process.wait()
        self._withdraw()  # another program may listen there from now on
        return status

    def failure(self, status: int) -> EmbeddedServerError:
        """Return the error for a server that ended by itself."""
        return EmbeddedServerError(
            f"the embedded nats-server exited with status {status}; "
            f"its log is {self._files.log}{self._last_words()}"
        )

    async def stop(self) -> None:
        """Stop the server gracefully, or kill it after 10 s; then release the store."""
        self._withdraw()
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            try:
                async with asyncio.timeout(STOP_WAIT):
                    await self._process.wait()
            except TimeoutError:
                log.warning("embedded.killed", pid=self.pid, waited_s=STOP_WAIT)
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()
                await self._process.wait()
        guard, self._guard = self._guard, None
        if guard is not None:
            with contextlib.suppress(ProcessLookupError):
                guard.kill()
            await guard.wait()
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    async def become_ready(self, name: str) -> None:
        """Wait until the server answers, and make sure that it is the one with this name.

        Raises:
            EmbeddedServerError: it has ended, does not answer, or another one answers.
        """
        clock = asyncio.get_running_loop().time
        began = noted = clock()
        while self._process.returncode is None:
            info = await _info(self._where)
            if info is not None:
                if info.get("server_name") != name:
                    raise port_in_use(self._where)
                return
            now = clock()
            if now - began > READY_WAIT:
                raise EmbeddedServerError(
                    f"the embedded nats-server does not answer after {READY_WAIT:g} s; "
                    f"its log is {self._files.log}{self._last_words()}"
                )
            if now - noted > READY_NOTE:
                noted = now
                log.info("embedded.starting", waited_s=now - began, log=self._files.log)
            await asyncio.sleep(POLL)
        raise self.failure(self._process.returncode)

    async def watch_over(self) -> None:
        """Let the server exit when this process dies, if the kernel has no signal for that.

        A shell reads from a pipe that only this process can write to: the pipe closes when this
        process dies.
        """
        self._guard = await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            'read -r _; kill -TERM "$0"',
            str(self.pid),
            stdin=asyncio.subprocess.PIPE,
            start_new_session=True,
        )

    def _withdraw(self) -> None:
        """Stop announcing this server to local commands."""
        if self._lock is not None:  # the store is still locked
            with contextlib.suppress(OSError):
                localstore.withdraw(self._files)

    def _last_words(self) -> str:
        """Return the last lines that the server logged since its start; only errors, if any."""
        try:
            text = self._files.log.read_bytes().decode("utf-8", "replace")
        except OSError:
            return ""
        lines = [line for line in text.splitlines() if line.strip()]
        since = max(
            (i for i, line in enumerate(lines) if "Starting nats-server" in line), default=0
        )
        grave = [line for line in lines[since:] if "[FTL]" in line or "[ERR]" in line]
        return "".join(f"\n  {line}" for line in (grave or lines)[-LAST_LINES:])


async def start(settings: ServeSettings) -> EmbeddedServer:
    """Start a server and return when it is ready; clients connect to its `address`.

    Call it from the main thread: on Linux the server ends when the thread that started it does.

    Raises:
        SettingsError: an option cannot be used with an embedded server.
        EmbeddedServerError: there is no nats-server, the store or the port is in use, or the
            server does not come up.
    """
    where = place(settings.connection)
    login = authorization(settings.connection)
    files = Files((settings.store or default_store()).absolute())
    program, version = await find_program()
    lock = await lock_store(files)
    try:
        await await_port(where)
        name = f"gozo-{secrets.token_hex(8)}"
        login, is_stored = _login(files, login)
        _write_privately(files, rendered(name, where, files, login))
        process = await _launch(program, files, lock)
    except BaseException:
        os.close(lock)
        raise
    server = EmbeddedServer(process, where, files, lock, login)
    try:
        if not _has_parent_death_signal():
            await server.watch_over()
        await server.become_ready(name)
        if is_stored:
            localstore.announce(files, server.address)
    except OSError as error:
        await server.stop()
        raise _cannot_be_used(files, error) from error
    except BaseException:
        await server.stop()
        raise
    fields = {"token_file": files.token} if is_stored else {}
    log.info(
        "embedded.ready",
        address=server.address,
        version=version,
        store=files.store,
        pid=server.pid,
        **fields,
    )
    return server


def _login(files: Files, given: dict[str, str]) -> tuple[dict[str, str], bool]:
    """Return the login of a server, and whether it is the token in the store.

    A missing token is created. The announcement of an earlier server that was killed is removed.
    """
    try:
        localstore.withdraw(files)
        token = localstore.read_token(files)
        if not given:
            given = {"token": token or localstore.make_token(files)}
            return given, True
    except OSError as error:
        raise _cannot_be_used(files, error) from error
    return given, given == {"token": token}


def _cannot_be_used(files: Files, error: OSError) -> EmbeddedServerError:
    return EmbeddedServerError(
        f"the store {files.store} cannot be used ({error.strerror}): fix that, or give another "
        "directory with --store"
    )


async def _launch(program: str, files: Files, lock: int) -> asyncio.subprocess.Process:
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("NATS_", "GOZO_"))  # these variables may contain secrets
    }
    with _opened_log(files) as output:
        try:
            return await asyncio.create_subprocess_exec(
                program,
                "--config",
                str(files.configuration),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,  # complaints about the configuration, and a panic
                env=variables,
                pass_fds=(lock,),
                start_new_session=True,  # Ctrl-C must reach only the daemon, which drains first
                preexec_fn=_end_with_parent() if _has_parent_death_signal() else None,
            )
        except OSError as error:
            raise EmbeddedServerError(
                f"{program} cannot be run ({error.strerror}): fix or reinstall it"
            ) from error


def _opened_log(files: Files) -> IO[bytes]:
    """Open the server's log to append; a link in its place is not followed."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.fdopen(os.open(files.log, flags, 0o600), "ab")
    except OSError as error:
        raise _cannot_be_used(files, error) from error


def _has_parent_death_signal() -> bool:
    return sys.platform.startswith("linux")


def _end_with_parent() -> Callable[[], None]:
    """Return a function for the child to call before exec: it requests SIGTERM when we die.

    Linux, prctl(2), PR_SET_PDEATHSIG. Everything is looked up in advance, to do as little as
    possible after the fork.
    """
    parent = os.getpid()
    prctl = ctypes.CDLL(None).prctl
    prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
    wanted = int(signal.SIGTERM)

    def before_exec() -> None:
        prctl(PR_SET_PDEATHSIG, wanted, 0, 0, 0)
        if os.getppid() != parent:  # the parent died before the call above, and no signal will come
            os._exit(1)

    return before_exec


def _write_privately(files: Files, text: str) -> None:
    """Replace the configuration, readable only by this user."""
    try:
        files.configuration.unlink(missing_ok=True)
        descriptor = os.open(files.configuration, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
    except OSError as error:
        raise EmbeddedServerError(
            f"{files.configuration} cannot be written ({error.strerror}): fix that, or give "
            "another directory with --store"
        ) from error


async def _info(where: Place) -> dict[str, Any] | None:
    """Return the INFO that a server sends first; None if no NATS server answers."""
    writer = None
    try:
        async with asyncio.timeout(INFO_WAIT):
            reader, writer = await asyncio.open_connection(where.host, where.port)
            line = await reader.readline()
        command, _, body = line.partition(b" ")
        info = json.loads(body) if command == b"INFO" else None
    except (OSError, TimeoutError, ValueError):
        return None
    finally:
        if writer is not None:
            writer.close()
    return info if isinstance(info, dict) else None
