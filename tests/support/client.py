"""A client of gozo as others write them: nats-py and the protocol, nothing of gozo's code."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from nats import errors as nats_errors
from nats.aio import client as nats_client
from nats.aio.msg import Msg

from tests.support.patience import allow


@dataclass(frozen=True, slots=True)
class Arrival:
    """One message that arrived, and when."""

    at: float
    """Wall clock of this machine, Unix epoch, seconds."""
    data: bytes
    headers: dict[str, str]


class Arrivals:
    """What arrives on one subject, in order.

    The server's own answer "nobody listens" (`Status: 503`) is no delivery and is left out.
    """

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.all: list[Arrival] = []
        self._news = asyncio.Event()

    @property
    def payloads(self) -> list[bytes]:
        """The payloads, in the order of their arrival."""
        return [arrival.data for arrival in self.all]

    async def take(self, message: Msg) -> None:
        """Note a message: the subscription's callback."""
        now = time.time()
        headers = message.headers or {}
        if headers.get("Status") == "503":
            return
        self.all.append(Arrival(now, message.data, headers))
        self._news.set()

    async def wait(self, count: int = 1, timeout: float | None = None) -> list[Arrival]:
        """Wait until `count` messages have arrived, and return all that have.

        Without a `timeout` (seconds): what takes 10 s on an idle machine.
        """
        bound = allow(10) if timeout is None else timeout
        try:
            async with asyncio.timeout(bound):
                while len(self.all) < count:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            message = f"{len(self.all)} of {count} arrived on {self.subject} within {bound:g} s"
            raise AssertionError(message) from None
        return self.all


class Client:
    """A connection to NATS that schedules, cancels, listens and looks at the bucket."""

    def __init__(
        self, nats: nats_client.Client, *, request_subject: str = "gozo", bucket: str = "gozo"
    ) -> None:
        self.nats = nats
        self.request_subject = request_subject
        self.bucket = bucket

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        request_subject: str = "gozo",
        bucket: str = "gozo",
        tls: ssl.SSLContext | None = None,
        token: str | None = None,
        user: str | None = None,
        password: str | None = None,
        seed: str | None = None,
        credentials: str | None = None,
        inbox_prefix: str = "_INBOX",
    ) -> Client:
        """Connect; reconnects quickly and for ever when the server goes away."""
        nats = nats_client.Client()
        await nats.connect(
            url,
            reconnect_time_wait=0.05,  # type: ignore[arg-type]  # said to be int, used as float
            max_reconnect_attempts=-1,
            error_cb=_ignore,
            tls=tls,
            token=token,
            user=user,
            password=password,
            nkeys_seed_str=seed,
            user_credentials=credentials,
            inbox_prefix=inbox_prefix,
        )
        return cls(nats, request_subject=request_subject, bucket=bucket)

    async def arrivals(self, subject: str | None = None) -> Arrivals:
        """Listen on a subject (a new one where none is given), from now on."""
        arrivals = Arrivals(subject or f"test.{uuid.uuid4().hex}")
        await self.nats.subscribe(
            arrivals.subject, cb=arrivals.take, pending_msgs_limit=0, pending_bytes_limit=0
        )
        await self.confirm()
        return arrivals

    async def send(
        self, headers: Mapping[str, str] | None, *, reply: str = "", payload: bytes = b""
    ) -> None:
        """Send a request as it stands, good or bad."""
        await self.nats.publish(
            self.request_subject, payload, reply, dict(headers) if headers is not None else None
        )

    async def schedule(
        self,
        when: str | float,
        *,
        reply: str | Arrivals,
        id: str | None = None,  # noqa: A002 - the protocol's word
        payload: bytes = b"",
    ) -> None:
        """Ask for `payload` to be sent to `reply`. A number is a moment: Unix epoch, seconds."""
        headers = {"Gozo-When": when if isinstance(when, str) else f"{when:.6f}"}
        if id is not None:
            headers["Gozo-Id"] = id
        subject = reply if isinstance(reply, str) else reply.subject
        await self.send(headers, reply=subject, payload=payload)

    async def cancel(self, id: str) -> None:  # noqa: A002 - the protocol's word
        """Ask for the schedule with this id to be cancelled."""
        await self.send({"Gozo-Del-Id": id})

    async def delete_lease(self) -> None:
        """Delete the leader's lease by hand: two replicas lead until the next renewal."""
        lease = await self.nats.jetstream().key_value("gozo_lease")
        await lease.delete("leader")

    async def confirm(self) -> None:
        """Return when the server has taken everything that was published before.

        nats-py's `flush` proves nothing; an echo through the same connection does. Where the
        connection broke in between, the echo only says that the new one works.
        """
        inbox = self.nats.new_inbox()
        subscription = await self.nats.subscribe(inbox)
        deadline = time.monotonic() + allow(10)
        while True:
            await self.nats.publish(inbox)
            try:
                await subscription.next_msg(timeout=allow(0.5))
                break
            except nats_errors.TimeoutError:
                assert time.monotonic() < deadline, "the server does not answer the client"
        await subscription.unsubscribe()

    async def stream(self) -> dict[str, Any]:
        """Return the state of the bucket's stream: `messages`, `last_seq`, ..."""
        subject = f"$JS.API.STREAM.INFO.KV_{self.bucket}"
        answer = json.loads((await self.nats.request(subject, timeout=allow(5))).data)
        state: dict[str, Any] = answer["state"]
        return state

    async def stored(self) -> int:
        """Return how many messages the bucket holds: schedules, and young delete markers."""
        return int((await self.stream())["messages"])

    async def close(self) -> None:
        """Close the connection."""
        reconnecting = self.nats._reconnection_task
        while reconnecting is not None and not reconnecting.done():
            # nats-py cancels it once, and where that meets a refused connect it goes on for ever.
            reconnecting.cancel()
            await asyncio.wait({reconnecting}, timeout=0.1)
        await self.nats.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()


async def _ignore(_error: Exception) -> None:
    """Say nothing about lost connections: tests end servers on purpose."""
