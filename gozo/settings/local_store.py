"""The store of an embedded server: its files, and the token that this user's programs find there.

A server without configured credentials has a token, generated at its first start and kept in the
store. While it runs, the store is locked and also contains its address. Only then do this user's
programs send the token to that address: at other times, another user may be listening there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gozo.errors import EmbeddedServerError

OTHERS_WRITE = 0o022  # permission bits: writable by group or others
ROOT = 0  # trusted by every user
LONGEST = 4096  # bytes read of a file with a token or an address

_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,}")  # no character that an address would have to escape


@dataclass(frozen=True, slots=True)
class Files:
    """The files in the store."""

    store: Path
    """The absolute path of the directory."""

    @property
    def configuration(self) -> Path:
        """The server's configuration; contains the token or the password."""
        return self.store / "nats-server.conf"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.store / "nats-server.log"

    @property
    def lock(self) -> Path:
        """Locked while the store is in use."""
        return self.store / "gozo.lock"

    @property
    def token(self) -> Path:
        """The token for clients, if no other credentials were configured."""
        return self.store / "token"

    @property
    def address(self) -> Path:
        """The address of the running server that accepts the token."""
        return self.store / "address"

    @property
    def written(self) -> tuple[Path, ...]:
        """All files that gozo or its server opens for writing."""
        return (self.configuration, self.log, self.lock, self.token, self.address)


def default_folder(environment: Mapping[str, str]) -> Path | None:
    """Return the store in the user's data directory (XDG Base Directory Specification).

    None without a home directory.
    """
    data = Path(environment.get("XDG_DATA_HOME", ""))
    if not data.is_absolute():
        try:
            home = Path(environment.get("HOME") or Path.home())
        except RuntimeError:
            return None
        data = home / ".local" / "share"
    return data / "gozo"


def check(files: Files) -> None:
    """Make sure that no other user can redirect what gozo writes in the store.

    Raises:
        EmbeddedServerError: another user owns the store or something in it, it is world-writable,
            or one of gozo's files is not a regular file.
        OSError: it cannot be read.
    """
    status = files.store.stat()
    ours = (os.geteuid(), ROOT)
    problem = ""
    if status.st_uid not in ours:
        problem = "belongs to another user: change its owner with chown"
    elif status.st_mode & stat.S_IWOTH:
        problem = "is world-writable: run chmod o-w on it"
    else:
        for path in sorted(files.store.iterdir()):
            status = path.lstat()
            if status.st_uid not in ours:
                problem = f"contains {path.name!r}, which belongs to another user: remove it"
            elif path in files.written and not stat.S_ISREG(status.st_mode):
                problem = f"contains {path.name!r}, which is not a regular file: remove it"
    if problem:
        raise EmbeddedServerError(
            f"the store {files.store} {problem}, or give another directory with --store"
        )


def read_token(files: Files) -> str | None:
    """Return the token in a store; None if there is none yet.

    Raises:
        EmbeddedServerError: the file does not contain a token.
        OSError: it cannot be read, or others may write it.
    """
    try:
        token = _read(files.token)
    except FileNotFoundError:
        return None
    if token and not _TOKEN.fullmatch(token):
        raise EmbeddedServerError(
            f"{files.token} does not contain a token of at least 16 letters, digits, - and _: "
            "remove it, and gozo generates a new one"
        )
    return token or None


def make_token(files: Files) -> str:
    """Put a new token into a store, and return it.

    Raises:
        OSError: it cannot be written.
    """
    token = secrets.token_hex(16)
    _write(files.token, token)
    return token


def announce(files: Files, address: str) -> None:
    """Record the address of a server that accepts the token in the store.

    Raises:
        OSError: it cannot be written.
    """
    _write(files.address, address)


def withdraw(files: Files) -> None:
    """Remove the recorded address.

    Raises:
        OSError: it cannot be removed.
    """
    files.address.unlink(missing_ok=True)


def find(store: Path, address: str) -> tuple[str, str] | None:
    """Return address and token, if this store's server listens at the address.

    `localhost` becomes 127.0.0.1: another server may listen at another address of that name.
    """
    files = Files(store)
    number = address.replace("//localhost:", "//127.0.0.1:")
    try:
        if _read(files.address) == number and _is_locked(files) and (token := read_token(files)):
            return number, token
    except (OSError, ValueError, EmbeddedServerError):
        pass  # another user's store
    return None


def _is_locked(files: Files) -> bool:
    descriptor = _open(files.lock)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _open(path: Path) -> int:
    """Open a file for reading, if only this user or root can have written it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    status = os.fstat(descriptor)
    is_ours = status.st_uid in (os.geteuid(), ROOT) and not status.st_mode & OTHERS_WRITE
    if not is_ours or not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise PermissionError(errno.EPERM, f"another user owns or can write {path.name}")
    return descriptor


def _read(path: Path) -> str:
    with open(_open(path), encoding="ascii") as file:
        return file.read(LONGEST).strip()


def _write(path: Path, line: str) -> None:
    """Replace a file atomically; only this user may read it."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{line}\n")
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
