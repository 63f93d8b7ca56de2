"""The clocks, and an alarm that wakes the event loop to the tenth of a millisecond.

Due times follow the wall clock; leases follow a clock that cannot be set and that continues
while the machine is suspended.
"""

from __future__ import annotations

import asyncio
import ctypes
import functools
import os
import sys
import time
from collections.abc import Callable

LONGEST_SLEEP_US = 500_000
"""An alarm rings at least this often, since nothing reports that the wall clock was set."""

_RELATIVE = 0
_MONOTONIC = time.CLOCK_MONOTONIC
_TFD_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC  # TFD_NONBLOCK and TFD_CLOEXEC are the same bits


def wall_us() -> int:
    """The wall clock: microseconds since the Unix epoch."""
    return time.time_ns() // 1000


_BOOT: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)

steady = functools.partial(time.clock_gettime, _BOOT)
"""Seconds on a clock that only moves forward, and counts time spent suspended."""

steady_ns = functools.partial(time.clock_gettime_ns, _BOOT)
"""Nanoseconds on the same clock: its distance from the wall clock changes when that is set."""


class _Timespec(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]


class _Itimerspec(ctypes.Structure):
    _fields_ = [("interval", _Timespec), ("value", _Timespec)]


class Alarm:
    """Calls back at a time of the wall clock, or slightly before: the callback checks the time.

    On Linux it is a timer that the event loop polls as a file (timerfd_create(2)), since the
    timers of asyncio and uvloop are only exact to a millisecond. Elsewhere it is a timer of the
    loop.
    """

    def __init__(self, on_ring: Callable[[], None]) -> None:
        self._on_ring = on_ring
        self._loop = asyncio.get_running_loop()
        self._at_us: int | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._fd = _timerfd()
        if self._fd is not None:
            # Allocated once: the alarm is set again for each due time.
            self._spec = _Itimerspec()
            self._pointer = ctypes.byref(self._spec)
            self._settime = _libc().timerfd_settime
            self._loop.add_reader(self._fd, self._ring)

    def set(self, due_us: int | None, now_us: int) -> None:
        """Ring at `due_us` of the wall clock; None and distant times ring within half a second."""
        longest = now_us + LONGEST_SLEEP_US
        at_us = longest if due_us is None or due_us > longest else max(due_us, now_us)
        if self._at_us is not None and now_us < self._at_us <= at_us:
            return
        self._at_us = at_us
        self._arm(at_us - now_us)

    def stop(self) -> None:
        """Never ring again."""
        if self._handle is not None:
            self._handle.cancel()
        if self._fd is not None:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None

    def _arm(self, delay_us: int) -> None:
        if self._fd is None:
            if self._handle is not None:
                self._handle.cancel()
            self._handle = self._loop.call_later(delay_us / 1_000_000, self._ring)
            return
        # Zero would disarm it. No delay exceeds half a second, so nanoseconds suffice.
        self._spec.value.nanoseconds = max(delay_us, 1) * 1000
        self._settime(self._fd, _RELATIVE, self._pointer, None)

    def _ring(self) -> None:
        if self._fd is not None:
            try:
                os.read(self._fd, 8)
            except BlockingIOError:
                return
        self._at_us = None
        self._on_ring()


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _timerfd() -> int | None:
    if sys.platform != "linux":
        return None
    fd: int = _libc().timerfd_create(_MONOTONIC, _TFD_FLAGS)
    return fd if fd >= 0 else None
