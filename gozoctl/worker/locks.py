"""Locks that keep a command from running beside itself on one host, whoever starts it.

The command inherits the lock, so it holds as long as the command runs, even if its worker was
killed. When the command has ended, the worker releases it for all: processes that the command
leaves in the background, such as a service that it restarts, no longer hold it.
"""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from gozo.errors import SettingsError

ROOT_FOLDER = Path("/run/gozo-worker")
OTHERS_FOLDER = "/tmp/gozo-worker"  # noqa: S108  # followed by the user's id; the owner is checked


class Locks:
    """Lock files of the workers of one user, for the schedules of one bucket."""

    def __init__(self, folder: Path, request_subject: str, bucket: str) -> None:
        self._folder = folder
        self._place = f"{request_subject}\0{bucket}"

    def take(self, id_: str) -> int | None:
        """Lock an id, and return the open file; None if it is locked.

        Raises:
            OSError: there can be no such file.
        """
        name = sha256(f"{self._place}\0{id_}".encode()).hexdigest()[:32]
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(self._folder / f"{name}.lock", flags, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.utime(fd)  # old files in /tmp are removed
        except BlockingIOError:
            os.close(fd)
            return None
        except BaseException:
            os.close(fd)
            raise
        return fd


def release(fd: int) -> None:
    """Release a lock, also for processes that have inherited it."""
    fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)


def lock_folder() -> Path:
    """Return the folder for the locks of this user, the same for all their workers.

    Raises:
        SettingsError: it cannot be used.
    """
    uid = os.getuid()
    folder = ROOT_FOLDER
    if uid or not os.access(ROOT_FOLDER.parent, os.W_OK):
        folder = Path(f"{OTHERS_FOLDER}-{uid}")
    try:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
    except OSError as error:
        raise SettingsError(f"cannot use {folder} for locks ({error.strerror})") from error
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid or found.st_mode & 0o022:
        raise SettingsError(
            f"cannot use {folder} for locks: it is not a folder that only this user may write to; "
            "remove it"
        )
    return folder
