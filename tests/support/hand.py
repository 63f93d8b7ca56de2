"""A receiver that answers when a test says so, and claims what is offered if it has to."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Self

from nats import errors
from nats.aio import client as nats_client
from nats.aio.msg import Msg

from tests.support.patience import allow, until

ASK_TIME = 0.5  # seconds to wait for gozo's word before it is asked again


@dataclass(frozen=True, slots=True)
class Job:
    """An attempt that has begun."""

    at: float
    """When it began: Unix epoch, seconds."""
    data: bytes
    due: float
    """When it was due, on the same clock."""
    occurrence: int
    """Its number; 0: it is none of the schedule's."""
    attempt: int
    reply: str


class Hand:
    """Gets the messages of one subject."""

    def __init__(self, nats: nats_client.Client, on_job: Callable[[Job], None]) -> None:
        self.subject = f"test.{uuid.uuid4().hex}"
        self.jobs: list[Job] = []
        self._nats = nats
        self._on_job = on_job
        self._tasks: set[asyncio.Task[None]] = set()

    @classmethod
    async def start(
        cls, nats: nats_client.Client, on_job: Callable[[Job], None] = lambda job: None
    ) -> Self:
        """Subscribe to a subject of its own."""
        hand = cls(nats, on_job)
        await nats.subscribe(hand.subject, "workers", hand._on_message)
        await nats.flush()
        return hand

    async def close(self) -> None:
        """Claim and answer nothing more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def begun(self, count: int) -> list[Job]:
        """Wait until this many attempts have begun, and return all that have."""
        words = f"{count} attempts have begun"
        await until(lambda: len(self.jobs) >= count, words, allow(10))
        return self.jobs

    async def answer(self, job: Job, word: bytes) -> None:
        """Answer, and repeat the answer until it is confirmed."""
        assert await self._ask(job.reply, word) == b"+OK"

    def answer_soon(self, job: Job, word: bytes) -> None:
        """Answer in the background."""
        self._spawn(self.answer(job, word))

    async def _on_message(self, message: Msg) -> None:
        headers = message.headers or {}
        if "Gozo-Attempt" not in headers:
            return
        job = Job(
            time.time(),
            message.data,
            datetime.fromisoformat(headers["Gozo-Due"]).timestamp(),
            int(headers.get("Gozo-Occurrence", "0")),
            int(headers["Gozo-Attempt"]),
            message.reply,
        )
        if message.data.startswith(b"claim"):
            self._spawn(self._claim(job))
        else:
            self._begin(job)

    async def _claim(self, job: Job) -> None:
        if await self._ask(job.reply, b"+CLAIM " + uuid.uuid4().hex.encode()) == b"+GO":
            self._begin(replace(job, at=time.time()))

    def _begin(self, job: Job) -> None:
        self.jobs.append(job)
        self._on_job(job)

    async def _ask(self, subject: str, word: bytes) -> bytes:
        async with asyncio.timeout(allow(20)):
            while True:
                with contextlib.suppress(errors.TimeoutError, errors.NoRespondersError):
                    return (await self._nats.request(subject, word, timeout=ASK_TIME)).data
                await asyncio.sleep(0.05)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
