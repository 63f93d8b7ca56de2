"""How long a test waits for something: one place for every bound.

Tests wait for events, so the bound costs nothing when all is well. It only has to be so
generous that a noisy machine with two cores never reaches it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable

FACTOR = float(os.environ.get("GOZO_TEST_PATIENCE", "6"))
"""What an idle machine needs, times this, is what a test allows."""

POLL_INTERVAL = 0.02  # seconds between looks at a state that sends no event


def allow(seconds: float) -> float:
    """Return the bound, in seconds, for what takes `seconds` on an idle machine."""
    return seconds * FACTOR


async def until(
    condition: Callable[[], Awaitable[bool]] | Callable[[], bool],
    what: str,
    timeout: float | None = None,
) -> None:
    """Wait until `condition` holds; fail with `what` in the message when it never does.

    For states that announce nothing (a number of stored messages, a port that closes).
    `timeout` is in seconds; without one, what an idle machine does within 5 s.
    """
    bound = allow(5) if timeout is None else timeout
    deadline = time.monotonic() + bound
    while True:
        held = condition()
        if isinstance(held, bool):
            if held:
                return
        elif await held:
            return
        if time.monotonic() >= deadline:
            raise AssertionError(f"not within {bound:g} s: {what}")
        await asyncio.sleep(POLL_INTERVAL)


async def wall_clock(moment: float) -> None:
    """Wait until the wall clock has passed `moment` (Unix epoch, seconds).

    Only for what is about time itself: a schedule that falls due while no daemon runs.
    """
    timeout = max(0.0, moment - time.time()) + allow(2)
    await until(lambda: time.time() > moment, f"{moment} on the wall clock", timeout)
