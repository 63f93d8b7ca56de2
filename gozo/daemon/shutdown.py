"""Hands over the lead gracefully, and finishes pending work before the daemon exits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gozo.daemon.leadership import Leadership
from gozo.daemon.step_down import StepDown
from gozo.delivery.dispatcher import Delivery
from gozo.delivery.in_memory import InMemory
from gozo.errors import GozoError
from gozo.leadership.tenure import Role, Tenure
from gozo.requests.intake import Intake
from gozo.runtime.clock import steady
from gozo.runtime.logs import get_logger
from gozo.store.probe import Probe
from gozo.store.schedule_store import ScheduleStore
from gozo.store.writer import Writer
from gozo.transport.connection import Connection

DRAIN_TIME = 6.0  # seconds without progress after which a shutdown gives up
SILENT_DRAIN_TIME = 0.05  # seconds, if the bucket has answered no write for long
HANDOVER_TIME = 1.0  # seconds to find out which requests the next leader has
REPORT_TIME = 1.0  # seconds until a report counts as not received
POLL = 0.01  # seconds between checks for pending work

log = get_logger("gozo.daemon")


class Drain:
    """Finishes the pending work of one replica."""

    def __init__(
        self,
        main: Connection,
        requests: Connection,
        tenure: Tenure,
        store: ScheduleStore,
        writer: Writer,
        probe: Probe,
        in_memory: InMemory,
        intake: Intake,
        delivery: Delivery,
        step_down: StepDown,
        leadership: Leadership,
        is_cut_off: Callable[[], bool],
    ) -> None:
        """`is_cut_off` tells whether the connection is lost and cannot come back."""
        self._main, self._requests = main, requests
        self._tenure = tenure
        self._store = store
        self._writer = writer
        self._probe = probe
        self._in_memory = in_memory
        self._intake = intake
        self._delivery = delivery
        self._step_down = step_down
        self._leadership = leadership
        self._is_cut_off = is_cut_off
        self._progress_at = 0.0

    async def leave_lead(self) -> None:
        """Stop leading, and finish all work that another leader could not know of."""
        await self._leadership.stop()
        if self._main.connected and not self._probe.problem:
            await self._finish_delivering()
            self._step_down.store_memory()
            await self._finish(lambda: self._store.outstanding)
            await self._report_handled()

    async def run(self) -> None:
        """Stop taking requests, store those taken, and settle sent messages.

        Raises:
            GozoError: schedules were lost, since they could not be stored in time.
        """
        if not self._has_duties:
            return
        self._progress_at = steady()
        log.info("daemon.stopping", unstored=self._intake.waiting, in_memory=len(self._in_memory))
        await self._step_down.finish(HANDOVER_TIME)
        try:
            await self._intake.stop_hearing()
        except GozoError as error:
            log.warning(
                "shutdown.flush_failed",
                reason=str(error),
                effect="requests that were not read yet are lost, unless a standby has them",
            )
            # The main connection reports to the standbys.
            self._requests.drop("the server does not answer")
        await self._finish(lambda: self._intake.waiting)
        await self._finish_delivering()
        self._step_down.store_memory()
        left = await self._finish(lambda: self._store.outstanding)
        self._intake.answer_late(all_=True)
        await self._report_handled()
        unstored = self._store.unstored if left else 0
        lost = self._step_down.refused + self._intake.waiting + unstored
        if lost:
            raise GozoError(
                f"{lost} schedules could not be stored before the daemon exited, since the bucket "
                "could not be written or refused them (see the log): they are lost, unless "
                "a standby has them"
            )

    @property
    def _has_duties(self) -> bool:
        return self._tenure.role is Role.LEADER or bool(
            self._store.outstanding or self._intake.waiting or len(self._in_memory)
        )

    async def _finish_delivering(self) -> None:
        """Stop sending, and wait until sent messages are confirmed."""
        self._progress_at = steady()
        await self._leadership.end_taking()
        self._delivery.stop()
        await self._finish(lambda: int(not self._delivery.is_idle))

    async def _report_handled(self) -> None:
        """Report handled requests to the standbys before one of them leads.

        The requests connection may seem alive and carry nothing: then the main one reports again.
        """
        problem = "there is no connection"
        for connection in (self._requests, self._main):
            if not connection.connected:
                continue
            self._intake.tell(connection)
            try:
                await connection.echo(REPORT_TIME)
            except GozoError as error:
                problem = str(error)
            else:
                return
        log.warning(
            "shutdown.report_failed",
            reason=problem,
            effect="a standby may repeat requests that were just handled",
        )

    async def _finish(self, count: Callable[[], int]) -> int:
        """Wait while the count falls, until it is 0 or has not moved for a while; return it."""
        lowest, began = count(), steady()
        while (left := count()) and not self._is_cut_off():
            if steady() > self._progress_at + DRAIN_TIME:
                break
            if self._writer.is_silent and steady() > began + SILENT_DRAIN_TIME:
                break
            if left < lowest:
                lowest, self._progress_at = left, steady()
            await asyncio.sleep(POLL)
        return count()
