"""Ends tasks reliably, and retries steps that need servers that do not answer at the moment.

To cancel a task once is not enough: up to Python 3.11, `asyncio.wait_for`, which nats-py
connects with, swallows a cancellation that comes in the turn in which the attempt fails.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from gozo.errors import NoServerError
from gozo.runtime.clock import steady
from gozo.runtime.logs import get_logger

AGAIN = 0.1  # seconds after which a task that goes on is cancelled again
RETRY_WAIT = 0.1  # seconds between tries

T = TypeVar("T")

log = get_logger("gozo.tasks")


async def persist(step: Callable[[], Awaitable[T]], timeout: float) -> T:
    """Do something that is safe to repeat, until a server has answered.

    Raises:
        NoServerError: none has for `timeout` seconds, or the connection was lost once more.
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


async def end(*some: asyncio.Task[Any] | None) -> None:
    """Cancel tasks until all are done. What they end with is left to whoever asks them.

    Each may be None: one that was never begun.
    """
    tasks = [task for task in some if task is not None]
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=AGAIN)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # asked for, so that asyncio does not log it as never retrieved
