"""Room for commands: limits how many of a file run, and keeps each from running beside itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Self

from gozo.runtime.logs import get_logger
from gozoctl.worker.locks import Locks, release
from gozoctl.worker.tables import Table

log = get_logger("gozo.worker")


class Place:
    """The room that one command takes while it is entered."""

    def __init__(self, places: Places, table: Table, lock: int | None) -> None:
        self.table = table
        self.lock = lock
        """The open lock file of the schedule, if it may not run beside itself."""
        self._places = places

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.lock is not None:
            release(self.lock)
        self._places.free(self.table)


class Places:
    """All room of a worker: each schedule has a lane of its own, and each file a limit."""

    def __init__(self, locks: Locks, on_change: Callable[[], None]) -> None:
        """`on_change` is called when there may be room again, or none any more."""
        self._locks = locks
        self._on_change = on_change
        self._lanes: Counter[str] = Counter()
        self._files: Counter[str] = Counter()
        self._most: dict[str, int] = {}

    @property
    def full(self) -> set[str]:
        """The files that have no room."""
        return {file for file, most in self._most.items() if self._files[file] >= most}

    def take(self, table: Table) -> Place | None:
        """Take the room for a command; None if there is no room."""
        job = table.job
        self._most[table.file] = table.max_parallel
        if self._files[table.file] >= table.max_parallel:
            return None
        lock = None
        if not job.allows_overlap:
            if self._lanes[job.id]:
                return None
            try:
                lock = self._locks.take(job.id)
            except OSError as error:
                log.repeated("error", "lock.failed", id=job.id, reason=error)
                return None
            if lock is None:
                reason = "it still runs on this host, started by another worker: given back"
                log.repeated("warning", "job.locked", id=job.id, reason=reason)
                return None
        self._lanes[job.id] += 1
        self._files[table.file] += 1
        if self._files[table.file] == table.max_parallel:
            self._on_change()
        return Place(self, table, lock)

    def free(self, table: Table) -> None:
        """Give back the room of a command that has ended."""
        was_full = table.file in self.full
        self._lanes[table.job.id] -= 1
        if not self._lanes[table.job.id]:
            del self._lanes[table.job.id]
        self._files[table.file] -= 1
        if was_full:
            self._on_change()
