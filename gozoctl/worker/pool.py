"""The worker of `gozoctl exec`: runs a command for each message, and logs the result."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from gozo.errors import GozoError
from gozo.runtime import signals
from gozo.runtime.logs import get_logger
from gozoctl.exit_codes import DONE, INTERRUPTED
from gozoctl.worker import process as running

if TYPE_CHECKING:
    from gozo.client import Message, Pulled

KEEP = 3  # progress reports per ack_wait of the consumer while a command runs
FIRST_RETRY, LONGEST_RETRY = 1, 60  # seconds before a message is redelivered

log = get_logger("gozo.exec")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run, and how."""

    command: tuple[str, ...]
    max_parallel: int = 1
    timeout: float | None = None
    """Seconds that it may run; None: no limit."""
    kill_after: float = 10.0
    """Seconds between SIGTERM and SIGKILL."""
    log_output: bool = False
    once: bool = False
    retries: int = 0
    ack_wait: float = 0.0
    """Seconds after which the consumer redelivers a message without a progress report."""


class Job(NamedTuple):
    """A message to run the command for."""

    message: Message
    pulled: Pulled | None = None
    """Its handle to acknowledge it; None if it did not come from a consumer."""

    @property
    def id(self) -> str | None:
        """The schedule's id, if it has one."""
        named = (value for name, value in self.message.headers if name.lower() == "gozo-id")
        return next(named, None)


class Worker:
    """Runs the command for several messages at a time, in the order in which they arrive.

    After the first SIGTERM, SIGINT or SIGHUP it takes no more messages and waits for running
    commands; a second SIGTERM or SIGINT ends those; a third kills them.
    """

    def __init__(
        self, plan: Plan, take: Callable[[], Awaitable[Job]], on_ending: Callable[[], None]
    ) -> None:
        self._plan = plan
        self._take = take
        self._on_ending = on_ending
        self._slots: list[asyncio.Task[None]] = []
        self._idle: set[asyncio.Task[None]] = set()
        self._is_ending = False
        self._failure: GozoError | None = None
        self._status: int | None = None

    async def run(self, **where: str | None) -> int:
        """Work until the end; return the exit code. `where` is logged once signals are handled.

        Raises:
            GozoError: messages can no longer be received or acknowledged.
        """
        count = 1 if self._plan.once else self._plan.max_parallel
        with signals.taken(self._on_signal):
            log.info("exec.ready", **where)
            self._slots = [
                asyncio.create_task(self._slot(), name=f"slot {number}") for number in range(count)
            ]
            await asyncio.wait(self._slots)
        for slot in self._slots:
            if not slot.cancelled():
                slot.result()  # raises if there is a bug in it
        if self._failure is not None:
            raise self._failure
        if any(slot.cancelled() for slot in self._slots):
            return INTERRUPTED
        if self._plan.once:
            return INTERRUPTED if self._status is None else self._status
        return DONE

    def _on_signal(self, number: signal.Signals, again: bool) -> None:
        if not self._is_ending:
            log.info(
                "exec.stopping", signal=number.name, running=len(self._slots) - len(self._idle)
            )
            self._end()
        elif again or number is not signal.SIGHUP:
            for slot in self._slots:
                slot.cancel()

    def _end(self) -> None:
        self._is_ending = True
        self._on_ending()
        for slot in self._idle:
            slot.cancel()

    async def _slot(self) -> None:
        """Run one command after the other."""
        try:
            while not self._is_ending and (job := await self._next()) is not None:
                await self._do(job)
                if self._plan.once:
                    return
        except GozoError as error:
            self._failure = self._failure or error
            if not self._is_ending:
                self._end()

    async def _next(self) -> Job | None:
        slot = asyncio.current_task()
        assert slot is not None
        self._idle.add(slot)
        try:
            return await self._take()
        except asyncio.CancelledError:
            if self._is_ending:
                slot.uncancel()
                return None
            raise
        finally:
            self._idle.remove(slot)

    async def _do(self, job: Job) -> None:
        """Run the command for a message, and settle the message."""
        plan, message, pulled = self._plan, job.message, job.pulled
        log.debug("command.started", id=job.id, subject=message.subject)
        variables, omitted = running.fitting(
            running.environment(message, os.environb), plan.command
        )
        if omitted:
            log.warning(
                "command.variables_omitted",
                id=job.id,
                subject=message.subject,
                names=",".join(omitted),
                reason="too long for the environment of a command",
            )
        keeper = asyncio.create_task(_keep(pulled, plan.ack_wait / KEEP), name="keep the message")
        try:
            ended = await running.run(
                plan.command,
                variables,
                message.payload,
                timeout=plan.timeout,
                kill_after=plan.kill_after,
                on_line=self._on_line(job) if plan.log_output else None,
            )
        except asyncio.CancelledError:
            log.warning("command.ended", id=job.id, subject=message.subject, reason="interrupted")
            if pulled is not None:
                pulled.give_back()
            raise
        finally:
            keeper.cancel()
        self._status = ended.status
        _tell(job, ended)
        if pulled is not None:
            await self._settle(pulled, job.id, succeeded=not ended.reason)

    async def _settle(self, pulled: Pulled, id_: str | None, *, succeeded: bool) -> None:
        attempt = pulled.attempt
        if succeeded:
            heard = await pulled.ack()
        elif attempt <= self._plan.retries:
            delay = min(FIRST_RETRY << min(attempt - 1, 10), LONGEST_RETRY)
            log.warning("message.retried", id=id_, attempt=attempt, delay_s=delay)
            heard = await pulled.nak(delay)
        else:
            log.error("message.given_up", id=id_, attempt=attempt, subject=pulled.message.subject)
            heard = await pulled.term()
        if not heard:
            log.error("message.unacknowledged", id=id_, reason="the consumer does not answer")

    def _on_line(self, job: Job) -> running.OnLine:
        def on_line(stream: str, line: bytes) -> None:
            log.info("command.output", id=job.id, stream=stream, line=line)

        return on_line


async def _keep(pulled: Pulled | None, interval: float) -> None:
    """Report progress on a message regularly, until cancelled."""
    while pulled is not None:
        await asyncio.sleep(interval)
        pulled.keep()


def _tell(job: Job, ended: running.Ended) -> None:
    fields = {"id": job.id, "subject": job.message.subject, "status": ended.status}
    duration = round(ended.seconds * 1000)
    if ended.reason:
        log.error("command.ended", **fields, duration_ms=duration, reason=ended.reason)
    else:
        log.info("command.ended", **fields, duration_ms=duration)
