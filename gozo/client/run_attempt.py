"""A delivery that its receiver has to confirm: see gozo-protocol(7), CONFIRMATION BY THE RECEIVER.

This is the receiver's half. It claims an attempt before it starts anything, shows signs of life
while it works, and repeats its final answer until the leader has stored the outcome: so no failure
of gozo or of the server loses the answer or starts the work twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import re
import secrets
from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime

from gozo.client.arguments import microseconds
from gozo.client.models import Message
from gozo.errors import DisconnectedError, NoServerError, RequestError
from gozo.protocol.answers import ACK_TOKEN, GO, NO, OK
from gozo.protocol.headers import block
from gozo.runtime.clock import steady
from gozo.runtime.tasks import repeated
from gozo.schedule import expression as grammar
from gozo.schedule.model import ACK_WAIT_US, MICROSECONDS
from gozo.transport.commands import Reply
from gozo.transport.connection import Connection

ANSWER = 2.0  # seconds to wait for a reply of the leader before asking again
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0  # seconds between questions; doubled each time
SIGNS = 3  # signs of life per ack wait
NANOSECONDS = 1_000_000_000

_BREAK = re.compile(r"[\0\r\n]+")


@dataclass(frozen=True, slots=True)
class Report:
    """How the work of an attempt ended, for its outcome."""

    exit_status: int | None = None
    host: str = ""
    started: datetime | None = None
    duration: float | None = None
    """Seconds."""
    output: bytes = b""
    """The end of what it printed."""

    def lines(self) -> bytes:
        """Return the header lines."""
        said: dict[str, str] = {}
        if self.exit_status is not None:
            said["Gozo-Exit-Status"] = str(self.exit_status)
        if self.host:
            said["Gozo-Host"] = _BREAK.sub(" ", self.host)
        if self.started is not None:
            said["Gozo-Started"] = grammar.print_rfc3339(microseconds(self.started))
        if self.duration is not None:
            said["Gozo-Duration"] = grammar.print_span(round(self.duration * MICROSECONDS))
        return "".join(f"{name}: {value}\r\n" for name, value in said.items()).encode()


class RunAttempt:
    """An attempt of a run, as its receiver sees it.

    `ack`, `nak`, `term` and `give_back` return once the leader has confirmed the answer, however
    long that takes: there may be no daemon at the moment. They raise `NotAllowedError` if this
    user has no permission to publish the answer, `DisconnectedError` once the client is closed.
    """

    def __init__(self, connection: Connection, message: Message) -> None:
        """Use `Client.attempt_of`."""
        self.message = message
        self.ack_wait = _ack_wait(message)
        """Seconds for which the receiver may be silent."""
        self._connection = connection
        self._nonce = secrets.token_hex(16).encode()

    async def claim(self, timeout: float) -> bool:
        """Ask whether to start; False if another receiver has claimed it, or it is outdated.

        Raises:
            NoServerError: no daemon answered within `timeout` seconds. It may have been granted.
            NotAllowedError, DisconnectedError: as for the answers.
        """
        try:
            async with asyncio.timeout(timeout):
                # An older reply may have waited while this process was frozen, and the work may
                # have gone to another receiver since.
                within = self.ack_wait / SIGNS
                return await self._ask(b"+CLAIM " + self._nonce, (GO, NO), within=within) == GO
        except TimeoutError:
            raise NoServerError(f"no daemon answered the claim within {timeout:g} s") from None

    def keep(self) -> None:
        """Report that work is in progress: `ack_wait` starts again."""
        with contextlib.suppress(DisconnectedError):
            self._connection.publish(self.message.reply, b"+WPI")

    def kept(self) -> AbstractAsyncContextManager[None]:
        """Report that work is in progress for as long as the block runs."""
        return repeated(self.keep, self.ack_wait / SIGNS, "show signs of life")

    async def ack(self, report: Report | None = None) -> None:
        """Report that the work is done."""
        await self._answer(b"+ACK", report)

    async def nak(
        self, reason: str, report: Report | None = None, *, delay: float | None = None
    ) -> None:
        """Report that the attempt failed; the next one is due after `delay` seconds, if given."""
        said: dict[str, object] = {"reason": reason}
        if delay is not None:
            said["delay"] = round(delay * NANOSECONDS)
        await self._answer(b"-NAK " + json.dumps(said).encode(), report)

    async def term(self, reason: str, report: Report | None = None) -> None:
        """Report that the work failed for good: there is no further attempt."""
        words = _BREAK.sub(" ", reason).encode("utf-8", "replace")
        await self._answer(b"+TERM " + words, report)

    async def give_back(self) -> None:
        """Report that there is no capacity for what was not claimed: it is not an attempt."""
        await self._ask(b'-NAK {"busy": true}', (OK,))

    async def _answer(self, word: bytes, report: Report | None) -> None:
        """Repeat a final answer until it is confirmed.

        Signs of life go on until then: a leader that comes back must not count as silence what it
        has not heard yet, and repeat the work.
        """
        lines, payload = b"" if report is None else report.lines(), word
        if report is not None and report.output:
            lines, payload = b"%bGozo-Answer: %b\r\n" % (lines, word), report.output
        async with self.kept():
            await self._ask(payload, (OK,), block(lines) if lines else b"")

    async def _ask(
        self,
        payload: bytes,
        wanted: Collection[bytes],
        headers: bytes = b"",
        *,
        within: float = math.inf,
    ) -> bytes:
        """Send a question until it is answered with one of the words that are wanted.

        A reply counts for `within` seconds after its question.
        """
        pause = FIRST_PAUSE
        while not self._connection.closed:
            asked = steady()
            with contextlib.suppress(NoServerError, TimeoutError):
                reply = await self._ask_once(payload, wanted, headers)
                if reply.payload in wanted and steady() < asked + within:
                    return reply.payload
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        raise DisconnectedError("the client was closed")

    async def _ask_once(self, payload: bytes, wanted: Collection[bytes], headers: bytes) -> Reply:
        """Send a question; return its answer, or the server's status if nobody listens."""
        connection, subject = self._connection, self.message.reply
        answer: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

        def on_reply(headers: bytes | None, payload: bytes | None) -> None:
            if answer.done():
                return
            if payload is None:
                answer.set_exception(DisconnectedError("the connection was lost"))
            elif (reply := Reply(headers, payload)).status or payload in wanted:
                answer.set_result(reply)
            else:  # such as the acknowledgement of a stream that captures the subject
                connection.expect_more(token, on_reply)

        token = connection.call(subject.encode(), payload, on_reply, headers)
        try:
            with connection.failing_if_denied(subject, answer):
                async with asyncio.timeout(ANSWER):
                    return await answer
        finally:
            connection.hang_up(token)


def attempt_of(connection: Connection, message: Message, request_subject: str) -> RunAttempt | None:
    """Return the attempt that a message stands for; None if nobody has to confirm it.

    Its reply subject has to be one of the leader's: otherwise senders of messages could make a
    receiver publish anywhere.
    """
    prefix = re.escape(f"{request_subject}.{ACK_TOKEN}.")
    if not re.fullmatch(rf"{prefix}[A-Za-z0-9_-]+", message.reply):
        return None
    return RunAttempt(connection, message)


def _ack_wait(message: Message) -> float:
    """Return the ack wait of a message in seconds; the default if it has none that is valid."""
    for name, value in message.headers:
        if name.lower() == "gozo-ack-wait":
            with contextlib.suppress(RequestError):
                return max(grammar.parse_span(value, name), MICROSECONDS) / MICROSECONDS
    return ACK_WAIT_US / MICROSECONDS
