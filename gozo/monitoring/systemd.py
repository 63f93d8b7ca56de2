"""Reports the state of the daemon to systemd (sd_notify(3)): ready, alive, stopping.

Without NOTIFY_SOCKET nothing is reported. Keep-alive pings are sent to the watchdog only while no
part of the daemon hangs; each one proves that the event loop turns.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from typing import NoReturn

from gozo.leadership.tenure import Role
from gozo.monitoring.health import Health
from gozo.runtime.logs import get_logger, visible
from gozo.runtime.notify_socket import NotifySocket

INTERVAL = 1.0  # seconds between reports, unless the watchdog needs more
FEEDS = 3  # reports within the watchdog's timeout: two may be lost
EXTENSION_US = 30_000_000  # microseconds that each report allows a start or a shutdown

log = get_logger("gozo.notify")


class Notifier:
    """The notification socket of the service manager."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._socket = NotifySocket(environment)
        self.interval = INTERVAL
        own = str(os.getpid())
        limit_us = environment.get("WATCHDOG_USEC", "")
        self._is_watched = (
            environment.get("WATCHDOG_PID", own) == own and limit_us.isdecimal() and limit_us != "0"
        )
        if self._is_watched:
            self.interval = min(INTERVAL, int(limit_us) / 1_000_000 / FEEDS)
        self._is_stopping = False
        self._reported = ""

    @property
    def is_heard(self) -> bool:
        """Whether a service manager listens."""
        return self._socket.is_heard

    async def run(self, health: Health) -> NoReturn:
        """Report periodically; runs until it is cancelled."""
        ready = False
        while True:
            part = health.hung()
            words: list[str] = []
            if health.is_started and not ready:
                words.append("READY=1")
            if part:
                log.repeated("error", "daemon.stalled", reason=part)
            elif not health.is_started or self._is_stopping:
                words.append(f"EXTEND_TIMEOUT_USEC={EXTENSION_US}")
            if self._is_watched and not part:
                words.append("WATCHDOG=1")
            status = "stopping" if self._is_stopping else _status(health, part)
            if status != self._reported:
                words.append(f"STATUS={visible(status)}")  # no line breaks
            if self._socket.send(words):  # otherwise everything is sent again next time
                self._reported = status
                ready = ready or "READY=1" in words
            await asyncio.sleep(self.interval)

    def stopping(self) -> None:
        """Report that the shutdown has begun."""
        if not self._is_stopping:
            self._is_stopping = True
            self._socket.send(["STOPPING=1"])


def _status(health: Health, hangs: str) -> str:
    if hangs:
        return f"the {hangs} hangs"
    problem = health.problem()
    if problem:
        return problem
    role = "leading" if health.role is Role.LEADER else "standing by"
    return f"{role}, {health.bucket.pending} schedules pending"
