"""Runs the tasks of a daemon, ends tasks reliably, and repeats steps that need a server.

Cancelling a task once is not enough: up to Python 3.11, `asyncio.wait_for`, with which nats-py
connects, swallows a cancellation that arrives just as the attempt fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from gozo.errors import GozoError, NoServerError
from gozo.runtime.clock import steady
from gozo.runtime.logs import get_logger

CANCEL_AGAIN = 0.1  # seconds after which a task that is still running is cancelled again
RETRY_WAIT = 0.1  # seconds between attempts

T = TypeVar("T")

log = get_logger("gozo.tasks")


class Tasks:
    """The tasks that run as long as a daemon does: when one ends, the daemon cannot go on."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begin(self, name: str, work: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine; error messages call it by its `name`."""
        self._tasks.append(asyncio.create_task(work, name=name))

    def fail(self, error: BaseException) -> None:
        """Make the daemon end with an error; only the first one counts."""
        if not self._failed.done():
            self._failed.set_exception(error)

    async def until(self, event: asyncio.Event) -> None:
        """Wait for an event.

        Raises:
            GozoError: as for `first`.
        """
        await self.first(asyncio.create_task(event.wait(), name="waiting"))

    async def first(self, *waiting: asyncio.Task[Any]) -> None:
        """Wait until one of these tasks is done, then end them.

        Raises:
            GozoError: a task of the daemon ended first, or `fail` was called.
        """
        watched: set[asyncio.Future[Any]] = {*waiting, self._failed, *self._tasks}
        try:
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end(*waiting)
        self._check()

    def _check(self) -> None:
        """Raise an error if a task of the daemon has ended."""
        if self._failed.done():
            self._failed.result()
        for task in self._tasks:
            if task.done() and not task.cancelled():
                error = task.exception()
                if isinstance(error, GozoError):
                    raise error
                if error is not None:
                    log.error("task.failed", task=task.get_name(), error=repr(error))
                raise GozoError(
                    f"the {task.get_name()} ended: {error!r}"
                    if error
                    else f"the {task.get_name()} ended"
                ) from error

    async def end(self) -> None:
        """End all of them."""
        await end(*self._tasks)
        if self._failed.done():
            self._failed.exception()  # so that asyncio does not log it as never retrieved


async def persist(step: Callable[[], Awaitable[T]], timeout: float) -> T:
    """Do something that is safe to repeat, until a server has answered.

    Raises:
        NoServerError: no server has answered for `timeout` seconds.
    """
    deadline = steady() + timeout
    while True:
        try:
            return await step()
        except NoServerError as error:
            if steady() >= deadline:
                raise
            log.repeated("info", "start.waiting", reason=str(error))
            await asyncio.sleep(RETRY_WAIT)


@asynccontextmanager
async def repeated(call: Callable[[], None], seconds: float, name: str) -> AsyncIterator[None]:
    """Call something every so many seconds for as long as the block runs."""

    async def repeat() -> None:
        while True:
            await asyncio.sleep(seconds)
            call()

    task = asyncio.create_task(repeat(), name=name)
    try:
        yield
    finally:
        await end(task)


async def end(*some: asyncio.Task[Any] | None) -> None:
    """Cancel tasks until all are done; their results and errors are ignored.

    None stands for a task that was never started.
    """
    tasks = [task for task in some if task is not None]
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=CANCEL_AGAIN)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # so that asyncio does not log it as never retrieved


async def done(task: asyncio.Task[Any], timeout: float | None = None) -> None:
    """Wait until a task is done, for `timeout` seconds at most, without cancelling it."""
    await asyncio.wait([task], timeout=timeout)
