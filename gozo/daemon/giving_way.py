"""A leader that cannot serve hands the lease to a replica that can, if there is one."""

from __future__ import annotations

import asyncio

from gozo.daemon.shutdown import Drain
from gozo.errors import GozoError
from gozo.leadership.lease import Lease
from gozo.leadership.serving import Course
from gozo.leadership.tenure import Role, Tenure
from gozo.monitoring.health import Health
from gozo.monitoring.micro_service import Service
from gozo.runtime.clock import steady
from gozo.runtime.logs import get_logger
from gozo.runtime.tasks import end

FIRST_WAIT, LONGEST_WAIT = 0.25, 4.0  # seconds until others are asked again after a failure
PAUSE = 30.0  # seconds between two handovers: the other replica may fail for the same reason

log = get_logger("gozo.daemon")


class GivingWay:
    """Watches whether one replica is serving, and hands over if not."""

    def __init__(
        self,
        health: Health,
        course: Course,
        service: Service,
        tenure: Tenure,
        lease: Lease,
        drain: Drain,
    ) -> None:
        self._health = health
        self._course = course
        self._service = service
        self._tenure = tenure
        self._lease = lease
        self._drain = drain
        self._task: asyncio.Task[None] | None = None
        self._given_at = -PAUSE
        self._ask_at, self._wait = 0.0, FIRST_WAIT
        """When to ask others, and how long to wait next if that fails."""
        self._is_closed = False

    def look(self) -> None:
        """Check whether this replica is serving; to be called periodically."""
        now = steady()
        self._course.note(self._health.judge(), now)
        if self._course.lasts(now) and self._health.is_started:
            log.repeated("error", "daemon.not_serving", reason=self._course.verdict.problem)
        if self._is_closed or self._tenure.role is not Role.LEADER or now < self._given_at + PAUSE:
            return
        is_asking = self._task is not None and not self._task.done()
        if self._course.is_ailing(now) and not is_asking and now >= self._ask_at:
            self._task = asyncio.create_task(self._give_way(), name="giving way")

    async def _give_way(self) -> None:
        try:
            other = await self._service.find_serving()
        except GozoError as error:
            log.repeated("info", "daemon.query_failed", reason=str(error))
            self._ask_at = steady() + self._wait
            self._wait = min(2 * self._wait, LONGEST_WAIT)
            return
        self._wait = FIRST_WAIT
        problem = self._course.verdict.problem
        if not other or self._is_closed or not self._course.is_ailing(steady()):
            return
        log.warning("daemon.stepping_down", to=other, reason=problem)
        self._given_at = steady()
        await self._leave(problem)

    async def leave(self, reason: str) -> None:
        """Hand over, and release the lease to whichever replica can lead."""
        if not self._is_closed:  # otherwise the shutdown does that
            await self._leave(reason)

    async def _leave(self, reason: str) -> None:
        await self._drain.leave_lead()
        await self._lease.give_way(reason)

    async def close(self) -> None:
        """Stop giving way: the daemon is shutting down and hands over by itself."""
        self._is_closed = True
        await end(self._task)
