"""Receivers as others write them: nats-py and the protocol, nothing of gozo's code.

A `Receiver` answers each delivery as its script says. A `Worker` claims before it starts, and
repeats its final answer until it is confirmed. As a program it is such a worker, which prints each
start and end as a line of JSON: it can be killed or frozen. Its arguments are the address of the
server, the subject, the queue group, and how many seconds each job takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
import uuid
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

from nats import errors
from nats.aio import client as nats_client
from nats.aio.msg import Msg

from tests.support.patience import allow

ASK_TIME = 1.0  # seconds for which a worker waits for `+GO`, `+NO` or `+OK` before it asks again


@dataclass(frozen=True, slots=True)
class Delivered:
    """One message that arrived."""

    at: float
    """On the steady clock, in seconds."""
    data: bytes
    headers: dict[str, str]
    reply: str

    @property
    def attempt(self) -> int:
        """Return the number of the attempt."""
        return int(self.headers["Gozo-Attempt"])

    @property
    def due(self) -> str:
        """Return its due time."""
        return self.headers["Gozo-Due"]


@dataclass(frozen=True, slots=True)
class Say:
    """An answer with headers."""

    data: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


Answer = bytes | Say | None
"""What a receiver answers; None: nothing."""


class Receiver:
    """A plain subscription in a queue group; after its script, it answers `+ACK`."""

    def __init__(self, nats: nats_client.Client, subject: str, script: Sequence[Answer]) -> None:
        self.nats = nats
        self.subject = subject
        self.script = deque(script)
        self.all: list[Delivered] = []
        self._news = asyncio.Event()
        self._stop: Callable[[], Awaitable[None]] | None = None

    @classmethod
    async def start(
        cls, nats: nats_client.Client, *script: Answer, subject: str = "", queue: str = "workers"
    ) -> Self:
        """Subscribe to a subject, or a new one, and answer by a script."""
        receiver = cls(nats, subject or f"test.{uuid.uuid4().hex}", script)
        await receiver.listen(queue)
        return receiver

    async def listen(self, queue: str = "workers") -> None:
        """Subscribe, and return when the server knows of it."""
        subscription = await self.nats.subscribe(self.subject, queue, self._on_message)
        self._stop = subscription.unsubscribe
        await self.nats.flush()

    async def leave(self) -> None:
        """Unsubscribe; there may be no subscriber left then."""
        assert self._stop is not None
        await self._stop()
        await self.nats.flush()

    async def _on_message(self, message: Msg) -> None:
        came = Delivered(time.monotonic(), message.data, message.headers or {}, message.reply)
        self.all.append(came)
        self._news.set()
        answer = self.script.popleft() if self.script else b"+ACK"
        if answer is not None:
            await self.say(came, answer)

    async def say(self, delivered: Delivered, answer: bytes | Say) -> None:
        """Answer a delivery."""
        say = Say(answer) if isinstance(answer, bytes) else answer
        await self.nats.publish(delivered.reply, say.data, headers=say.headers or None)

    async def ask(self, delivered: Delivered, answer: bytes) -> bytes:
        """Answer a delivery with a request, and return what gozo replies."""
        return (await self.nats.request(delivered.reply, answer, timeout=allow(5))).data

    async def wait(self, count: int = 1, timeout: float | None = None) -> list[Delivered]:
        """Wait until `count` messages have arrived, and return all that have."""
        bound = allow(10) if timeout is None else timeout
        try:
            async with asyncio.timeout(bound):
                while len(self.all) < count:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            words = f"{len(self.all)} of {count} arrived on {self.subject} within {bound:g} s"
            raise AssertionError(words) from None
        return self.all


Started = tuple[str, str, int]
"""Id, due time and attempt of what was started."""


class Worker:
    """A receiver that starts nothing that it has not claimed."""

    def __init__(
        self, nats: nats_client.Client, work: Callable[[Delivered], Awaitable[bytes]]
    ) -> None:
        """`work` does a job, and returns its final answer."""
        self.nats = nats
        self.started: Counter[Started] = Counter()
        self.refused = 0
        """Claims that were answered `+NO`."""
        self.ended: Counter[Started] = Counter()
        """What ended, and whose final answer was confirmed."""
        self._work = work
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def starts(self) -> int:
        """Return how many jobs were started."""
        return self.started.total()

    async def listen(self, subject: str, queue: str = "workers") -> None:
        """Take jobs from a subject."""
        await self.nats.subscribe(subject, queue, self._on_message)
        await self.nats.flush()

    async def _on_message(self, message: Msg) -> None:
        came = Delivered(time.monotonic(), message.data, message.headers or {}, message.reply)
        task = asyncio.create_task(self._do(came))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _do(self, job: Delivered) -> None:
        nonce = uuid.uuid4().hex.encode()
        name = job.headers.get("Gozo-Id", ""), job.due, job.attempt
        if await ask_until(self.nats, job.reply, b"+CLAIM " + nonce) != b"+GO":
            self.refused += 1
            self.note("refused", name)
            return
        self.started[name] += 1
        self.note("started", name)
        alive = asyncio.create_task(self._show_life(job))
        try:
            answer = await self._work(job)
        finally:
            alive.cancel()
        await ask_until(self.nats, job.reply, answer)
        self.ended[name] += 1
        self.note("ended", name)

    def note(self, what: str, name: Started) -> None:
        """Tell others what happened."""

    async def _show_life(self, job: Delivered) -> None:
        every = float(job.headers["Gozo-Ack-Wait"].removesuffix("s")) / 3
        while True:
            await asyncio.sleep(every)
            await self.nats.publish(job.reply, b"+WPI")


async def ask_until(nats: nats_client.Client, subject: str, words: bytes) -> bytes:
    """Ask gozo again until it answers."""
    while True:
        with contextlib.suppress(errors.Error):
            answer = (await nats.request(subject, words, timeout=ASK_TIME)).data
            if answer in (b"+GO", b"+NO", b"+OK"):
                return answer
        await asyncio.sleep(0.05)


class _Printing(Worker):
    def note(self, what: str, name: Started) -> None:
        id_, due, attempt = name
        line = {"what": what, "id": id_, "due": due, "attempt": attempt, "at": time.time()}
        _print(line)


def _print(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


async def main(url: str, subject: str, queue: str, seconds: float) -> None:
    """Work on a subject forever; each job takes this many seconds."""
    nats = nats_client.Client()

    async def ignore(error: Exception) -> None:
        """Ignore errors: the connection is restored after each."""

    await nats.connect(url, max_reconnect_attempts=-1, error_cb=ignore)

    async def work(job: Delivered) -> bytes:
        await asyncio.sleep(seconds)
        return b"+ACK"

    await _Printing(nats, work).listen(subject, queue)
    _print({"what": "ready"})
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4])))
