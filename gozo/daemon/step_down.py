"""Hands over a former leader's memory: the next leader gets the requests that it lacks."""

from __future__ import annotations

import asyncio
from functools import partial

from gozo.delivery.dispatcher import Delivery
from gozo.delivery.in_memory import InMemory, Taken
from gozo.leadership.tenure import Role, Tenure
from gozo.requests.intake import Intake
from gozo.runtime.logs import get_logger
from gozo.runtime.tasks import done, end
from gozo.schedule.model import LONGEST_REASON, State
from gozo.store.changes import Result
from gozo.store.entry_codec import reserved_key
from gozo.store.schedule_store import ScheduleStore
from gozo.transport.connection import Connection

log = get_logger("gozo.daemon")


class StepDown:
    """Hands over the requests that one replica accepted as the leader."""

    def __init__(
        self,
        connection: Connection,
        tenure: Tenure,
        intake: Intake,
        in_memory: InMemory,
        store: ScheduleStore,
        delivery: Delivery,
    ) -> None:
        self._connection = connection
        self._tenure = tenure
        self._intake = intake
        self._in_memory = in_memory
        self._store = store
        self._delivery = delivery
        self._task: asyncio.Task[None] | None = None
        self.refused = 0
        """Schedules that the bucket refused: they are lost unless another replica has them."""

    @property
    def is_running(self) -> bool:
        """Whether this former leader is finding out which requests the next leader has."""
        return self._task is not None and not self._task.done()

    @property
    def is_done(self) -> bool:
        """Whether this replica led, stands by now, and knows which requests the next leader has."""
        over = self._task is not None and self._task.done()
        return over and self._tenure.role is Role.STANDBY

    def begin(self) -> None:
        """Find out which requests the next leader has, and store the others."""
        if self._task is not None:
            self._task.cancel()
        self._task = asyncio.create_task(self._run(), name="handing over")

    async def end(self) -> None:
        """Stop handing over."""
        await end(self._task)

    async def finish(self, timeout: float) -> None:
        """Allow the handover `timeout` seconds, then process the remaining requests."""
        if self._task is not None:
            await done(self._task, timeout)
            await end(self._task)
            self._intake.act_on_left()

    async def _run(self) -> None:
        await self._intake.hear_successor(self._is_led)
        self._intake.act_on_left()
        self.store_memory()
        await self._intake.left_begun()

    def _is_led(self) -> bool:
        """Tell whether another replica is known to lead."""
        return self._connection.connected and self._tenure.another_leads

    def store_memory(self) -> None:
        """Put schedules without an id into the bucket, for the next leader."""
        schedules = self._intake.lacking(self._in_memory.take_all())
        if schedules:
            log.info("daemon.handing_over", schedules=len(schedules))
        for taken in schedules:
            self._store.put(taken.request, partial(self._on_stored, taken), reserved_key())

    def _on_stored(self, taken: Taken, result: Result, words: str) -> None:
        self._in_memory.handed_over(taken)
        if result is Result.REFUSED:
            self.refused += 1
            entry, reason = taken.request.entry, words[:LONGEST_REASON]
            self._delivery.note_failure(entry._replace(state=State.FAILED, reason=reason))
