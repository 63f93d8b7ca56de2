"""Where messages come from: a subject, or the consumer of a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from gozo.errors import GozoError
from gozo.runtime.logs import get_logger
from gozoctl.worker.jobs import Answers, Job, RunJob, StreamJob

if TYPE_CHECKING:
    from gozo.client import Listening, Message, Pulling, RunAttempt

OVERHEAD = 1_000  # bytes of memory of a message besides its content
LONGEST_WAIT = 2.0  # seconds for which a run waits for a slot here, and not elsewhere
SHARE = 3  # and no longer than its ack wait divided by this

NO_SLOT = "no slot is free: --max-parallel commands are running"

log = get_logger("gozo.exec")


class Source(Protocol):
    """Hands out messages."""

    async def take(self) -> Job | None:
        """Wait for the next message; None once it has stopped and there are no more."""

    def stop(self) -> None:
        """Receive no more messages; those that wait are handed out or given back."""

    @property
    def waiting(self) -> int:
        """How many messages wait here."""


class StreamSource:
    """Takes messages from a consumer, each when a slot is free."""

    waiting = 0

    def __init__(self, pulling: Pulling, retries: int) -> None:
        self._pulling = pulling
        self._retries = retries
        self._taking: set[asyncio.Task[object]] = set()
        self._is_stopped = False

    async def take(self) -> Job | None:
        """Wait for the next message."""
        task = asyncio.current_task()
        assert task is not None
        if self._is_stopped:
            return None
        self._taking.add(task)
        try:
            pulled = await self._pulling.take()
        except asyncio.CancelledError:
            if self._is_stopped and not task.uncancel():
                return None
            raise
        finally:
            self._taking.discard(task)
        return StreamJob(pulled, self._pulling.ack_wait, self._retries)

    def stop(self) -> None:
        """Receive no more messages."""
        self._is_stopped = True
        for task in self._taking:
            task.cancel()


class SubjectSource:
    """Takes messages on a subject as they arrive; they wait here until a slot is free.

    A run is given back after a while: another receiver may have a free slot. While it waits, gozo
    may offer it again on the same reply subject; it waits only once.
    """

    def __init__(
        self,
        listening: Listening,
        attempt_of: Callable[[Message], RunAttempt | None],
        answers: Answers,
        most: int,
    ) -> None:
        """At most `most` bytes wait."""
        self._listening = listening
        self._attempt_of = attempt_of
        self._answers = answers
        self._most = most
        self._all: dict[Job, int] = {}
        """What waits, in order, and the bytes of memory that each takes."""
        self._offers: dict[str, asyncio.TimerHandle] = {}
        """By reply subject, when each run that waits is given back."""
        self._size = 0
        self._takers = 0
        self._news = asyncio.Event()
        self._is_stopped = False
        self._failure: GozoError | None = None
        self._filling = asyncio.create_task(self._fill(), name="receive messages")

    @property
    def waiting(self) -> int:
        """How many messages wait for a slot."""
        return len(self._all)

    async def take(self) -> Job | None:
        """Wait for the next message.

        Raises:
            GozoError: messages can no longer be received.
        """
        self._takers += 1
        try:
            while not self._all:
                if self._failure is not None:
                    raise self._failure
                if self._is_stopped:
                    return None
                self._news.clear()
                await self._news.wait()
        finally:
            self._takers -= 1
        job = next(iter(self._all))
        self._remove(job)
        return job

    def stop(self) -> None:
        """Receive no more messages, and give back those that gozo offers again."""
        self._is_stopped = True
        self._filling.cancel()
        self._listening.stop()
        for message in self._listening.rest():
            self._put(message)
        for job in list(self._all):
            if isinstance(job, RunJob):
                self._give_back(job)
        self._news.set()

    async def _fill(self) -> None:
        try:
            async for message in self._listening:
                self._put(message)
        except GozoError as error:
            self._failure = error
            self._news.set()

    def _put(self, message: Message) -> None:
        attempt = self._attempt_of(message)
        job = Job(message) if attempt is None else RunJob(attempt, self._answers)
        headers = sum(len(name) + len(value) for name, value in message.headers)
        size = len(message.payload) + headers + OVERHEAD
        is_full = bool(self._all) and self._size + size > self._most
        if isinstance(job, RunJob):
            if message.reply in self._offers:
                return
            if is_full:
                job.give_back()
                return
            wait = min(LONGEST_WAIT, job.ack_wait / SHARE)
            timer = asyncio.get_running_loop().call_later(wait, self._give_back, job)
            self._offers[message.reply] = timer
        elif is_full:
            log.limited(
                "warning",
                "message.dropped",
                id=job.id,
                subject=message.subject,
                waiting=len(self._all),
                reason="--max-backlog is reached",
            )
            return
        self._all[job] = size
        self._size += size
        self._news.set()
        if (waiting := len(self._all) - self._takers) > 0:
            log.repeated("info", "exec.waiting", reason=NO_SLOT, waiting=waiting)

    def _give_back(self, job: RunJob) -> None:
        self._remove(job)
        job.give_back()

    def _remove(self, job: Job) -> None:
        self._size -= self._all.pop(job)
        timer = self._offers.pop(job.message.reply, None)
        if timer is not None:
            timer.cancel()
