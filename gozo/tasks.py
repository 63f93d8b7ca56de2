"""Ends tasks for certain.

To cancel a task once is not enough: up to Python 3.11, `asyncio.wait_for`, which nats-py
connects with, swallows a cancellation that comes in the turn in which the attempt fails.
"""

from __future__ import annotations

import asyncio
from typing import Any

AGAIN = 0.1  # seconds after which a task that goes on is cancelled again


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
