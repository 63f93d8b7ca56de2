"""The worker of `gozoctl exec`: runs a command for each message, and logs the result."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass

from gozo.errors import GozoError
from gozo.runtime import signals
from gozo.runtime.log_writer import LogWriter
from gozo.runtime.logs import get_logger
from gozoctl.exit_codes import DONE, FAILED, INTERRUPTED
from gozoctl.worker import process as running
from gozoctl.worker.jobs import Answers, Job
from gozoctl.worker.logged_output import LoggedOutput
from gozoctl.worker.sources import Source

LAST_ANSWERS = 30.0  # seconds to wait at the end until gozo has confirmed what commands answered

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
    once: bool = False
    retries: int = 0


class Worker:
    """Runs the command for several messages at a time, in the order in which they arrive.

    After the first SIGTERM, SIGINT or SIGHUP it takes no more messages, and waits for running
    commands and for messages that wait here; a second SIGTERM or SIGINT ends those; a third kills
    them.
    """

    def __init__(
        self, plan: Plan, source: Source, answers: Answers, output: LogWriter | None
    ) -> None:
        """`output`: where the log goes, if it is to have the output of commands."""
        self._plan = plan
        self._log = output
        self._source = source
        self._answers = answers
        self._slots: list[asyncio.Task[None]] = []
        self._running = 0
        self._is_ending = False
        self._failure: GozoError | None = None
        self._status: int | None = None
        self.was_refused = False
        """Whether the only message was another receiver's, and no signal came."""

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
            self._source.stop()
            all_heard = await self._answers.finish(LAST_ANSWERS)
        for slot in self._slots:
            if not slot.cancelled():
                slot.result()  # raises if there is a bug in it
        if self._source.waiting:
            reason = "exec ended before their turn"
            log.warning("exec.dropped", messages=self._source.waiting, reason=reason)
        if self._failure is not None:
            raise self._failure
        if any(slot.cancelled() for slot in self._slots):
            return INTERRUPTED
        if self._plan.once:
            return INTERRUPTED if self._status is None else self._status
        return DONE if all_heard else FAILED

    def _on_signal(self, number: signal.Signals, again: bool) -> None:
        if not self._is_ending:
            waiting = self._source.waiting
            log.info("exec.stopping", signal=number.name, running=self._running, waiting=waiting)
            self._end()
        elif again or number is not signal.SIGHUP:
            for slot in self._slots:
                slot.cancel()
            if not self._running:
                self._answers.give_up()

    def _end(self) -> None:
        self._is_ending = True
        self._source.stop()

    async def _slot(self) -> None:
        """Run one command after the other."""
        try:
            while (job := await self._source.take()) is not None:
                self._running += 1
                try:
                    await self._do(job)
                finally:
                    self._running -= 1
                if self._plan.once:
                    return
        except GozoError as error:
            self._failure = self._failure or error
            if not self._is_ending:
                self._end()

    async def _do(self, job: Job) -> None:
        """Run the command for a message, and settle the message."""
        async with job.kept():
            if not await job.begin():
                self.was_refused = not self._is_ending
                return
            ended = await self._run(job)
        self._status = ended.status
        _tell(job, ended)
        await job.settle(ended)

    async def _run(self, job: Job) -> running.Ended:
        plan, message = self._plan, job.message
        log.info("command.started", id=job.id, subject=message.subject)
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
        try:
            return await running.run(
                plan.command,
                variables,
                message.payload,
                timeout=plan.timeout,
                kill_after=plan.kill_after,
                output=None if self._log is None else LoggedOutput(self._log, job.id),
            )
        except asyncio.CancelledError:
            log.warning("command.ended", id=job.id, subject=message.subject, reason="interrupted")
            job.interrupt()
            raise


def _tell(job: Job, ended: running.Ended) -> None:
    fields = {"id": job.id, "subject": job.message.subject, "status": ended.status}
    duration = round(ended.seconds * 1000)
    if ended.reason:
        log.error("command.ended", **fields, duration_ms=duration, reason=ended.reason)
    else:
        log.info("command.ended", **fields, duration_ms=duration)
