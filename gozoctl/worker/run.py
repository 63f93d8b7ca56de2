"""Runs the command of a table once, to its end: its timeout, its end, what is logged of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

from gozo.errors import SettingsError
from gozo.runtime.logs import get_logger
from gozo.schedule.model import MICROSECONDS
from gozoctl.worker import process
from gozoctl.worker.children import Child, Children
from gozoctl.worker.launch import OUTPUT, start_of
from gozoctl.worker.places import Place

KILL_AFTER = 10.0  # seconds between SIGTERM and SIGKILL
LONG = 600.0  # seconds after which a command that still runs is logged; then doubled
NOT_STARTED = 126  # the exit code of shells for what cannot be started

log = get_logger("gozo.worker")


class Cut(Enum):
    """Why a command was ended before it ended by itself."""

    LATE = "late"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    status: int
    reason: str
    """Why it failed; empty if it succeeded."""
    started: datetime
    seconds: float
    output: bytes = b""
    """The end of its output."""
    omitted: int = 0
    """How many bytes of output before that were not kept."""

    def last_output(self, most: int) -> bytes:
        """Return what is kept with the outcome, of at most so many bytes."""
        return self.output[-max(1, min(OUTPUT, most)) :]


class Runner:
    """Runs commands; those that are running can be ended."""

    def __init__(self, children: Children, environment: Mapping[str, str]) -> None:
        """`environment` is that of the worker, of which commands get little."""
        self._children = children
        self._environment = environment
        self._interrupted: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def interrupt(self) -> None:
        """End the commands that are running: SIGTERM, later SIGKILL; the second time SIGKILL."""
        if self._interrupted.done():
            self._children.kill_all()
        else:
            self._interrupted.set_result(None)

    async def run(self, place: Place, payload: bytes, about: Mapping[str, object]) -> Ended:
        """Run a command; `about` is logged with its start and its end."""
        job = place.table.job
        began, started = time.monotonic(), datetime.now(UTC)
        try:
            start = start_of(job, payload, place.lock, self._environment)
            child = self._children.start(start)
        except (OSError, SettingsError) as error:
            return _not_started(error, started, about)
        about = {**about, "pid": child.pid}
        log.info("job.started", **about)
        timeout = job.timeout_us / MICROSECONDS
        cut = await self._wait(child, timeout, about, began)
        seconds = time.monotonic() - began
        await child.close()
        late = timeout if cut is Cut.LATE else None
        how = process.how_it_ended(child.exited.result(), seconds, late)
        reason = "ended with its worker" if cut is Cut.INTERRUPTED else how.reason
        fields = {**about, "status": how.status, "duration_ms": round(seconds * 1000)}
        if reason:
            log.error("job.ended", **fields, reason=reason)
        else:
            log.info("job.ended", **fields)
        return Ended(how.status, reason, started, seconds, child.output, child.omitted)

    async def _wait(
        self, child: Child, timeout: float, about: Mapping[str, object], began: float
    ) -> Cut | None:
        """Wait for the end of a process; return why we ended it, if we did."""
        deadline = timeout or float("inf")
        look = LONG
        while True:
            runs_for = time.monotonic() - began
            wait = max(min(deadline, look) - runs_for, 0)
            events: set[asyncio.Future[Any]] = {child.exited, self._interrupted}
            await asyncio.wait(
                events,
                timeout=wait,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if child.exited.done():
                return None
            runs_for = time.monotonic() - began
            if self._interrupted.done():
                cut = Cut.INTERRUPTED
            elif runs_for >= deadline:
                cut = Cut.LATE
            else:
                if runs_for >= look:
                    look *= 2
                    log.info("job.running", **about, seconds=round(runs_for))
                continue
            await process.end_group(child.pid, KILL_AFTER)
            await child.exited
            return cut


def _not_started(error: Exception, started: datetime, about: Mapping[str, object]) -> Ended:
    why = getattr(error, "strerror", None) or str(error)
    named = getattr(error, "filename", None)
    reason = f"cannot start: {why}" + (f": {named}" if named else "")
    log.error("job.failed", **about, reason=reason)
    return Ended(NOT_STARTED, reason, started, 0.0)
