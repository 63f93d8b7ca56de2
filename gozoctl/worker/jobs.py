"""Messages to run the command for, and how each kind is settled once the command has ended."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from gozo.errors import GozoError, NoServerError, NotAllowedError
from gozo.runtime.logs import get_logger
from gozo.runtime.tasks import repeated

if TYPE_CHECKING:
    from gozo.client import Message, Pulled, RunAttempt
    from gozoctl.worker.process import Ended

KEEP = 3  # progress reports per ack_wait of the consumer while a command runs
FIRST_RETRY, LONGEST_RETRY = 1, 60  # seconds before a message is redelivered
CLAIM_TIME = 30.0  # seconds to wait for the answer to a claim

log = get_logger("gozo.exec")


class Job:
    """A message that nobody has to confirm."""

    def __init__(self, message: Message) -> None:
        self.message = message

    @property
    def id(self) -> str | None:
        """The schedule's id, if it has one."""
        named = (value for name, value in self.message.headers if name.lower() == "gozo-id")
        return next(named, None)

    def kept(self) -> AbstractAsyncContextManager[None]:
        """Report that work is in progress for as long as the block runs."""
        return nullcontext()

    async def begin(self) -> bool:
        """Return whether the command may start."""
        return True

    async def settle(self, ended: Ended) -> None:
        """Report how the command ended."""

    def interrupt(self) -> None:
        """Report that the command was interrupted."""


class StreamJob(Job):
    """A message of a stream, to be acknowledged."""

    def __init__(self, pulled: Pulled, ack_wait: float, retries: int) -> None:
        super().__init__(pulled.message)
        self._pulled = pulled
        self._ack_wait = ack_wait
        self._retries = retries

    def kept(self) -> AbstractAsyncContextManager[None]:
        """Report progress three times in the consumer's `ack_wait`."""
        return repeated(self._pulled.keep, self._ack_wait / KEEP, "keep the message")

    async def settle(self, ended: Ended) -> None:
        """Acknowledge the message, or have it delivered again."""
        pulled, attempt = self._pulled, self._pulled.attempt
        if not ended.reason:
            heard = await pulled.ack()
        elif attempt <= self._retries:
            delay = min(FIRST_RETRY << min(attempt - 1, 10), LONGEST_RETRY)
            log.warning("message.retried", id=self.id, attempt=attempt, delay_s=delay)
            heard = await pulled.nak(delay)
        else:
            log.error("message.given_up", id=self.id, attempt=attempt, subject=self.message.subject)
            heard = await pulled.term()
        if not heard:
            log.error("message.unacknowledged", id=self.id, reason="the consumer does not answer")

    def interrupt(self) -> None:
        """Give the message back: another worker may have it at once."""
        self._pulled.give_back()


class RunJob(Job):
    """An attempt of a run, which its receiver claims and answers."""

    def __init__(self, attempt: RunAttempt, answers: Answers) -> None:
        super().__init__(attempt.message)
        self._attempt = attempt
        self._answers = answers

    @property
    def ack_wait(self) -> float:
        """Seconds for which the receiver may be silent."""
        return self._attempt.ack_wait

    def kept(self) -> AbstractAsyncContextManager[None]:
        """Show signs of life."""
        return self._attempt.kept()

    async def begin(self) -> bool:
        """Claim the attempt."""
        fields = {"id": self.id, "subject": self.message.subject}
        try:
            if await self._attempt.claim(CLAIM_TIME):
                return True
            log.info(
                "message.refused",
                **fields,
                reason="another receiver has claimed it, or it is outdated",
            )
        except (NoServerError, NotAllowedError) as error:
            log.repeated("error", "message.unclaimed", **fields, reason=str(error))
        return False

    async def settle(self, ended: Ended) -> None:
        """Answer; this is repeated until gozo has confirmed it, while other commands run."""
        from gozo.client import Report  # noqa: PLC0415  # not needed for --help

        started = datetime.now(UTC) - timedelta(seconds=ended.seconds)
        report = Report(ended.status, socket.gethostname(), started, ended.seconds)
        attempt, failed = self._attempt, ended.reason
        self._answers.send(self, attempt.nak(failed, report) if failed else attempt.ack(report))

    def interrupt(self) -> None:
        """Report that the attempt failed: the command has run, if not to its end."""
        self._answers.send(self, self._attempt.nak("the command was interrupted"))

    def give_back(self) -> None:
        """Report that there is no capacity: gozo offers it again, to any receiver."""
        self._answers.send(self, self._attempt.give_back())


class Answers:
    """Answers that gozo has not confirmed yet."""

    def __init__(self) -> None:
        self._all: dict[asyncio.Task[None], Job] = {}
        self._failed = 0

    def send(self, job: Job, answer: Coroutine[Any, Any, None]) -> None:
        """Repeat an answer until it is confirmed."""
        task = asyncio.create_task(answer, name="answer")
        self._all[task] = job
        task.add_done_callback(self._on_end)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        job = self._all.pop(task)
        error = None if task.cancelled() else task.exception()
        if not task.cancelled() and error is None:
            return
        if error is not None and not isinstance(error, GozoError):
            raise error
        self._failed += 1
        log.error(
            "message.unanswered",
            id=job.id,
            subject=job.message.subject,
            reason=str(error or "no daemon has confirmed the answer: gozo tries it again"),
        )

    async def finish(self, within: float) -> bool:
        """Wait for all, at most so many seconds; return whether gozo has confirmed each answer."""
        if self._all:
            await asyncio.wait(self._all, timeout=within)
        self.give_up()
        if self._all:
            await asyncio.wait(self._all)
        return not self._failed

    def give_up(self) -> None:
        """Stop repeating answers."""
        for task in self._all:
            task.cancel()
