"""A steady stream of schedules, and the account of what became of each.

A schedule counts from the server's PubAck for its entry in the bucket on: what happens to it
after that is what gozo promises. Those that are only sent, as requests that nobody answers,
count from then on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from nats import errors as nats_errors
from nats.js import errors as js_errors
from nats.js.api import StorageType

from tests.support.client import Arrivals, Client
from tests.support.patience import allow, until

ANSWER = 1.0  # seconds to wait for an acknowledgement before the same is sent again
NO_SUCH_REVISION = 10071  # error code: the entry is there already, from an earlier attempt


@dataclass(frozen=True, slots=True)
class Account:
    """What a run of a load came to."""

    created: int
    """Schedules whose entry was acknowledged."""
    delivered: int
    """Of these, those that arrived."""
    lost: int
    twice: int
    """Arrivals beyond the first."""
    early: int
    latest: float
    """Seconds from when it was due, or acknowledged if that was later, to its first arrival."""

    @property
    def is_sound(self) -> bool:
        """Whether something was created, nothing was lost, and nothing came early."""
        return self.created > 0 and not self.lost and not self.early

    def __str__(self) -> str:
        return (
            f"created {self.created}, delivered {self.delivered}, lost {self.lost}, "
            f"twice {self.twice}, early {self.early}, latest {self.latest:.3f} s"
        )


CANCELLED = 5
"""One of so many requests is followed by another that cancels it."""


class Load:
    """Creates schedules at a steady rate from `async with` to `finish`.

    They are due `ahead` seconds after they are made, one after the other. What arrives is
    taken by `receiver`; with `into` it goes into a stream of that name, confirmed by it, where a
    connection of the receiver's that breaks cannot hide it.
    """

    def __init__(
        self,
        sender: Client,
        receiver: Client,
        *,
        rate: float = 100,
        ahead: float = 1.0,
        into: str = "",
        replicas: int = 1,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.due: dict[int, float] = {}
        """When each acknowledged schedule is due, Unix epoch, seconds."""
        self.acknowledged: dict[int, float] = {}
        self.arrived: list[tuple[int, float]] = []
        """Number and time of each arrival, with the stream's time where it is one."""
        self._sender = sender
        self._receiver = receiver
        self._rate = rate
        self._ahead = ahead
        self._stream = into
        self._replicas = replicas
        self._headers = dict(headers or {})
        self._subject = f"{into}.load" if into else f"load.{uuid.uuid4().hex}"
        self._run = uuid.uuid4().hex[:8]
        self._count = 0
        self._attempts: set[asyncio.Task[None]] = set()
        self._making: asyncio.Task[None] | None = None
        self._listened: Arrivals | None = None

    async def created(self, count: int) -> None:
        """Wait until so many more schedules are acknowledged."""
        wanted = len(self.due) + count
        await until(lambda: len(self.due) >= wanted, f"{count} more are created", allow(20))

    async def delivered(self, count: int) -> None:
        """Wait until so many more schedules have arrived; not for those that go into a stream."""
        wanted = len(self._taken()) + count
        await until(lambda: len(self._taken()) >= wanted, f"{count} more arrive", allow(20))

    async def finish(self, patience: float = 10) -> Account:
        """Create no more, wait until all have arrived or nothing comes for long, and account."""
        assert self._making is not None
        self._making.cancel()
        await asyncio.gather(*self._attempts)
        last = max(self.due.values(), default=0.0)

        async def complete() -> bool:
            if self._stream:
                await self._read_stream()
            return time.time() > last and {n for n, _ in self._taken()} >= set(self.due)

        with contextlib.suppress(AssertionError):  # what is missing, the account tells
            await until(complete, "all have arrived", allow(patience))
        return self.account()

    def account(self) -> Account:
        """Add up what is known by now."""
        first: dict[int, float] = {}
        early = 0
        taken = self._taken()
        for number, at in taken:
            first.setdefault(number, at)
            early += number in self.due and at < self.due[number]
        late = [
            at - max(self.due[number], self.acknowledged[number])
            for number, at in first.items()
            if number in self.due
        ]
        times = Counter(number for number, _ in taken)
        return Account(
            created=len(self.due),
            delivered=len(late),
            lost=len(self.due.keys() - first.keys()),
            twice=sum(count - 1 for count in times.values()),
            early=early,
            latest=max(late, default=0.0),
        )

    def _taken(self) -> list[tuple[int, float]]:
        if self._listened is None:
            return self.arrived
        return [(int(arrival.data), arrival.at) for arrival in self._listened.all]

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
            due = time.time() + self._ahead
            task = asyncio.create_task(self._create(self._count, due))
            self._attempts.add(task)
            task.add_done_callback(self._attempts.discard)
            self._count += 1
            await asyncio.sleep(began + self._count / self._rate - time.monotonic())

    async def _create(self, number: int, due: float) -> None:
        """Store an entry, tried until it is acknowledged; the revision makes that safe."""
        due = round(due, 6)
        headers = {
            **self._headers,
            "Gozo-Subject": self._subject,
            "Gozo-When": f"{due:.6f}",
            **({"Gozo-Confirm": "stream"} if self._stream else {}),
            "Nats-Expected-Last-Subject-Sequence": "0",
        }
        subject = f"$KV.{self._sender.bucket}.{self._run}-{number}"
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
            if ack.get("seq"):
                break
            if ack["error"].get("err_code") == NO_SUCH_REVISION:
                break
            await asyncio.sleep(0.05)
        self.due[number] = due
        self.acknowledged[number] = time.time()

    async def _read_stream(self) -> None:
        """Read what the stream holds beyond what was read before."""
        stream = self._receiver.nats.jetstream()
        with contextlib.suppress(nats_errors.Error, js_errors.Error):
            state = (await stream.stream_info(self._stream)).state
            while len(self.arrived) < state.messages:
                message = await stream.get_msg(self._stream, len(self.arrived) + 1, direct=False)
                assert message.data is not None
                assert message.time is not None
                self.arrived.append((int(message.data), message.time.timestamp()))


class Requests(Load):
    """Sends requests and forgets them: with an id, without one, and some to be cancelled."""

    async def _create(self, number: int, due: float) -> None:
        id_ = f"{self._run}-{number}"
        headers = {"Gozo-When": f"{due:.6f}"}
        is_cancelled = number % CANCELLED == 0
        if is_cancelled or number % 2:
            headers["Gozo-Id"] = id_
        publish = self._sender.nats.publish
        await publish("gozo", b"%d" % number, reply=self._subject, headers=headers)
        if is_cancelled:
            await publish("gozo", headers={"Gozo-Del-Id": id_})
            return
        self.due[number] = round(due, 6)
        self.acknowledged[number] = time.time()

    @property
    def revived(self) -> list[int]:
        """Those that arrived although they were cancelled."""
        return [number for number, _ in self._taken() if number % CANCELLED == 0]
