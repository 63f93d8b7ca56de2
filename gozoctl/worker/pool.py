"""The worker of `gozoctl exec`: runs a command for each message, and tells how that went."""

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

KEEP = 3  # times in the consumer's ack_wait that a command still running is spoken for
FIRST_RETRY, LONGEST_RETRY = 1, 60  # seconds before a message is delivered again

log = get_logger("gozo.exec")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run, and how."""

    command: tuple[str, ...]
    max_parallel: int = 1
    timeout: float | None = None
    """Seconds that it may run; None: as long as it takes."""
    kill_after: float = 10.0
    """Seconds between SIGTERM and SIGKILL."""
    log_output: bool = False
    once: bool = False
    retries: int = 0
    ack_wait: float = 0.0
    """Seconds after which the consumer delivers a message again that nobody spoke for."""


class Job(NamedTuple):
    """A message to run the command for."""

    message: Message
    pulled: Pulled | None = None
    """Where it is to be acknowledged."""

    @property
    def id(self) -> str | None:
        """The schedule's id, if it has one."""
        named = (value for name, value in self.message.headers if name.lower() == "gozo-id")
        return next(named, None)


class Worker:
    """Runs the command, for some messages at a time, in the order in which they come.

    The first SIGTERM, SIGINT or SIGHUP ends the taking of messages, and what runs is waited for;
    a second SIGTERM or SIGINT ends what runs; the third does not wait for that.
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
        """Work until the end; return the exit code. `where` is logged once signals are heard.

        Raises:
            GozoError: messages cannot be taken, or not acknowledged, any more.
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
                slot.result()  # a mistake of our own is not kept quiet
        if self._failure is not None:
            raise self._failure
        if any(slot.cancelled() for slot in self._slots):
            return INTERRUPTED
        if self._plan.once:
            return INTERRUPTED if self._status is None else self._status
        return DONE

    def _on_signal(self, number: signal.Signals, again: bool) -> None:
        if not self._is_ending:
            log.info("exec.ending", signal=number.name, running=len(self._slots) - len(self._idle))
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
            log.error("message.unacknowledged", id=id_, reason="its consumer does not answer")

    def _on_line(self, job: Job) -> running.OnLine:
        def on_line(stream: str, line: bytes) -> None:
            log.info("command.output", id=job.id, stream=stream, line=line)

        return on_line


async def _keep(pulled: Pulled | None, interval: float) -> None:
    """Say again and again that a message is being worked on, until cancelled."""
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
