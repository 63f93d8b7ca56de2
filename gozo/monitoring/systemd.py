"""Tells systemd how the daemon is doing (sd_notify(3)): ready, alive, stopping.

Where NOTIFY_SOCKET is not set, nothing is told. The watchdog is fed only while no part of the
daemon hangs; that the event loop turns is shown by the feeding itself.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from typing import NoReturn

from gozo.leadership.lease import Role
from gozo.monitoring.health import Health
from gozo.runtime.logs import get_logger, visible

INTERVAL = 1.0  # seconds between two words, where the watchdog does not ask for more
SHARE = 3  # words in the time that the watchdog waits for one
MORE_US = 30_000_000  # microseconds that a start or an end may take from when that is told

log = get_logger("gozo.notify")


class Notifier:
    """The line to systemd, as the environment describes it."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A leading @ stands for the null byte of an abstract name (unix(7)).
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.interval = INTERVAL
        own = str(os.getpid())
        limit_us = environment.get("WATCHDOG_USEC", "")
        self._is_watched = (
            environment.get("WATCHDOG_PID", own) == own and limit_us.isdecimal() and limit_us != "0"
        )
        if self._is_watched:
            self.interval = min(INTERVAL, int(limit_us) / 1_000_000 / SHARE)
        self._is_ending = False
        self._told = ""

    @property
    def is_heard(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self._address)

    async def run(self, health: Health) -> NoReturn:
        """Tell how a daemon is doing; runs until it is cancelled."""
        ready = False
        while True:
            part = health.hangs()
            words: list[str] = []
            if health.is_started and not ready:
                words.append("READY=1")
            if part:
                log.repeated("error", "daemon.hangs", reason=part)
            elif not health.is_started or self._is_ending:
                words.append(f"EXTEND_TIMEOUT_USEC={MORE_US}")
            if self._is_watched and not part:
                words.append("WATCHDOG=1")
            status = "stopping" if self._is_ending else _status(health, part)
            if status != self._told:
                words.append(f"STATUS={visible(status)}")  # a line break would begin another word
            if self._tell(words):  # else all is told again
                self._told = status
                ready = ready or "READY=1" in words
            await asyncio.sleep(self.interval)

    def stopping(self) -> None:
        """Tell that the end has begun."""
        if not self._is_ending:
            self._is_ending = True
            self._tell(["STOPPING=1"])

    def _tell(self, words: list[str]) -> bool:
        """Send some words; tell whether they arrived, which a manager that is busy may prevent."""
        if not self._address or not words:
            return True
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as line:
            line.setblocking(False)
            try:
                line.sendto("\n".join(words).encode(), self._address)
            except OSError as error:
                log.repeated("warning", "notify.failed", reason=error)
                return False
        return True


def _status(health: Health, hangs: str) -> str:
    if hangs:
        return f"the {hangs} hangs"
    problem = health.problem()
    if problem:
        return problem
    role = "leading" if health.role is Role.LEADER else "standing by"
    return f"{role}, {health.pending} schedules pending"
