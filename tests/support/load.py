"""A steady stream of schedules, and the account of what became of each.

A schedule counts from the server's PubAck for its entry in the bucket on: what happens to it
after that is what gozo promises. See `tests.support.requests` for those that are only sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
import uuid
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from nats import errors as nats_errors
from nats.js import errors as js_errors
from nats.js.api import StorageType

from tests.support.account import Account, Expected, Faults, reckon
from tests.support.client import Arrival, Arrivals, Client
from tests.support.patience import allow, until

ANSWER = 1.0  # seconds to wait for an acknowledgement before the same is sent again
NO_SUCH_REVISION = 10071  # error code: the entry is there already, from an earlier attempt


class Load:
    """Creates schedules at a steady rate from `async with` to `finish`.

    They are due `ahead` seconds after they are made, or up to `spread` later at random. What
    arrives is taken by `receiver`; with `into` it goes into a stream of that name, confirmed by
    it, where a connection of the receiver's that breaks cannot hide it. What comes twice is
    explained by the `faults` that the test notes.
    """

    def __init__(
        self,
        sender: Client,
        receiver: Client,
        *,
        rate: float = 100,
        ahead: float = 1.0,
        spread: float = 0.0,
        into: str = "",
        replicas: int = 1,
        headers: Mapping[str, str] | None = None,
        faults: Faults | None = None,
    ) -> None:
        self.due: dict[int, float] = {}
        """When each acknowledged schedule is due, Unix epoch, seconds."""
        self.acknowledged: dict[int, float] = {}
        self.cancelled: set[int] = set()
        """Those that must not arrive."""
        self.faults = faults or Faults()
        self._sender = sender
        self._receiver = receiver
        self._rate = rate
        self._ahead = ahead
        self._spread = spread
        self._stream = into
        self._replicas = replicas
        confirm = {"Gozo-Confirm": "stream"} if into else {}
        self._headers = confirm | dict(headers or {})
        self._run = uuid.uuid4().hex[:8]
        self._subject = f"{into}.{self._run}" if into else f"load.{self._run}"
        self._count = 0
        self._attempts: set[asyncio.Task[None]] = set()
        self._making: asyncio.Task[None] | None = None
        self._listened = Arrivals(self._subject)
        self._reading = asyncio.Lock()
        self._read = 0
        """The last message of the stream that was looked at."""
        self._taken: list[tuple[int, float]] = []
        """Number and time of each arrival, with the stream's time where it is one."""
        self._arrived: set[int] = set()

    async def created(self, count: int) -> None:
        """Wait until so many more schedules are acknowledged."""
        wanted = len(self.due) + count
        await until(lambda: len(self.due) >= wanted, f"{count} more are created", allow(20))

    async def delivered(self, count: int) -> None:
        """Wait until so many more schedules have arrived; not for those that go into a stream."""
        wanted = len(self._listened.all) + count
        await until(lambda: len(self._listened.all) >= wanted, f"{count} more arrive", allow(20))

    async def finish(self, patience: float = 10) -> Account:
        """Create no more, wait until all have arrived or nothing comes for long, and account."""
        assert self._making is not None
        self._making.cancel()
        await asyncio.gather(*self._attempts)
        last = max((one.due for one in self.expected().values()), default=0.0)

        async def complete() -> bool:
            await self.look()
            return time.time() > last and self._is_complete()

        with contextlib.suppress(AssertionError):  # what is missing, the account tells
            await until(complete, "all have arrived", allow(patience))
        return self.account()

    async def look(self) -> None:
        """Take in what the stream holds by now, where there is one."""
        if self._stream:
            async with self._reading:
                await self._read_stream()

    def account(self) -> Account:
        """Add up what is known by now."""
        return reckon(self.expected(), self.taken(), self.faults, self.cancelled)

    def expected(self) -> dict[int, Expected]:
        """Return what is to arrive, by its number."""
        return {
            number: Expected(due, self.acknowledged[number]) for number, due in self.due.items()
        }

    def taken(self) -> list[tuple[int, float]]:
        """Return the number and the time of each arrival so far."""
        for arrival in self._listened.all[len(self._taken) :]:
            number = self._number(arrival)
            self._taken.append((number, arrival.at))
            self._arrived.add(number)
        return self._taken

    def _number(self, arrival: Arrival) -> int:
        """Tell which one has arrived."""
        return int(arrival.data)

    def _is_complete(self) -> bool:
        self.taken()
        return self._arrived >= self.due.keys()

    async def __aenter__(self) -> Self:
        if not self._stream:
            self._listened = await self._receiver.arrivals(self._subject)
        else:
            await self._receiver.nats.jetstream().add_stream(
                name=self._stream,
                subjects=[f"{self._stream}.*"],
                storage=StorageType.FILE,
                num_replicas=self._replicas,
            )
        self._making = asyncio.create_task(self._make())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in (self._making, *self._attempts):
            if task is not None:
                task.cancel()

    async def _make(self) -> None:
        began = time.monotonic()
        while True:
            due = time.time() + self._ahead + random.uniform(0, self._spread)
            task = asyncio.create_task(self._create(self._count, round(due, 6)))
            self._attempts.add(task)
            task.add_done_callback(self._attempts.discard)
            self._count += 1
            await asyncio.sleep(began + self._count / self._rate - time.monotonic())

    async def _create(self, number: int, due: float) -> None:
        """Have one schedule made."""
        await self._store(number, f"{due:.6f}")
        self.due[number] = due
        self.acknowledged[number] = time.time()

    async def _store(self, number: int, when: str) -> None:
        """Store an entry, tried until it is acknowledged; the revision makes that safe."""
        headers = {
            **self._headers,
            "Gozo-Subject": self._subject,
            "Gozo-When": when,
            "Nats-Expected-Last-Subject-Sequence": "0",
        }
        subject = f"$KV.{self._sender.bucket}.{self._id(number)}"
        while True:
            try:
                answer = await self._sender.nats.request(
                    subject, b"%d" % number, timeout=ANSWER, headers=headers
                )
            except nats_errors.Error:
                await asyncio.sleep(0.05)
                continue
            if answer.headers is not None and answer.headers.get("Status"):
                await asyncio.sleep(0.05)
                continue
            ack = json.loads(answer.data)
            if ack.get("seq") or ack["error"].get("err_code") == NO_SUCH_REVISION:
                return
            await asyncio.sleep(0.05)

    def _id(self, number: int) -> str:
        return f"{self._run}-{number}"

    async def _read_stream(self) -> None:
        """Read what the stream holds beyond what was read before."""
        stream = self._receiver.nats.jetstream()
        with contextlib.suppress(nats_errors.Error, js_errors.Error):
            last = (await stream.stream_info(self._stream)).state.last_seq
            while self._read < last:
                message = await stream.get_msg(self._stream, self._read + 1, direct=False)
                assert message.data is not None
                assert message.time is not None
                if message.subject == self._subject:
                    at = message.time.timestamp()
                    self._listened.all.append(Arrival(at, message.data, message.headers or {}))
                self._read += 1
