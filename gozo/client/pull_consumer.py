"""Messages of a durable JetStream consumer, one by one, each to be acknowledged (ADR-13, ADR-15).

A message that is not acknowledged within the consumer's `ack_wait` is delivered again, to this or
another client: so it survives a crash of its receiver and of the server.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from functools import partial
from types import TracebackType
from typing import Any, Self

from gozo.client.models import Message
from gozo.client.subscription import check_subject, received
from gozo.errors import (
    DisconnectedError,
    JetStreamError,
    NoServerError,
    Refusal,
    RequestError,
    invalid_value,
)
from gozo.runtime.logs import get_logger
from gozo.transport.commands import status_of
from gozo.transport.connection import Connection
from gozo.transport.jetstream import (
    CONSUMER_EXISTS,
    CONSUMER_NOT_FOUND,
    NO_RESPONDERS,
    STREAM_NOT_FOUND,
    JetStream,
)
from gozo.transport.permissions import missing_permission

ACK_WAIT = 30  # seconds after which an unacknowledged message is delivered again
PULL_TIME = 5  # seconds that the server keeps a request for a message
SLACK = 2  # further seconds to wait for the status that ends a request
RETRY_WAIT = 0.25  # seconds
ANSWER = 2.0  # seconds to wait for the server to confirm an acknowledgement
MOST_TRIES = 15  # unconfirmed acknowledgements after which the consumer counts as gone
NANOSECONDS = 1_000_000_000
SHORT_ACK = 9  # tokens of a reply subject without domain and account

NO_MESSAGES, REQUEST_ENDED = 404, 408  # statuses (ADR-13)

_NAME = re.compile(r"[^\s.*>/\\\x00-\x1f\x7f]+\Z")

log = get_logger("gozo.client")


class Pulled:
    """A message, with the ways to acknowledge it.

    `ack`, `nak` and `term` return True once the consumer has confirmed, False if it never does:
    after a lost connection or a restart of the server they try again. They raise
    `NotAllowedError` if this user has no permission to publish to `$JS.ACK.>`.
    """

    def __init__(self, connection: Connection, message: Message) -> None:
        self.message = message
        self._connection = connection
        words = message.reply.split(".")
        self.attempt = int(words[4 if len(words) == SHORT_ACK else 6])
        """How often it was delivered, including this time."""

    async def ack(self) -> bool:
        """Report that the message is processed."""
        return await self._tell(b"+ACK")

    async def nak(self, delay: float) -> bool:
        """Request another delivery in `delay` seconds."""
        return await self._tell(b'-NAK {"delay": %d}' % (delay * NANOSECONDS))

    async def term(self) -> bool:
        """Request that the message is never delivered again."""
        return await self._tell(b"+TERM")

    def keep(self) -> None:
        """Report that work is in progress: `ack_wait` starts again."""
        self._say(b"+WPI")

    def give_back(self) -> None:
        """Request another delivery now, to any client; does not wait for an answer."""
        self._say(b"-NAK")

    def _say(self, word: bytes) -> None:
        if self._connection.connected:
            self._connection.publish(self.message.reply, word)

    async def _tell(self, word: bytes) -> bool:
        tries = 0
        while tries < MOST_TRIES and not self._connection.closed:
            try:
                reply = await self._connection.request(self.message.reply, word, timeout=ANSWER)
                if reply.status != NO_RESPONDERS:
                    return True
                tries += 1
            except DisconnectedError:
                pass  # wait for the connection
            except NoServerError:
                tries += 1
            await asyncio.sleep(RETRY_WAIT)
        return False


class Pulling:
    """Takes messages from one consumer while it is entered.

    If the consumer does not exist, it is created with explicit acknowledgement and an `ack_wait`
    of 30 seconds, for new messages; in a work-queue stream, which keeps messages only until they
    are acknowledged, for all messages.

    Raises, when it is entered and when messages are taken:
        JetStreamError: there is no such stream, or the consumer is not of this kind or is gone.
        NotAllowedError: a permission is missing.
        NoServerError: JetStream did not answer when it was entered; later, `take` waits.
        DisconnectedError: the client was closed.
    """

    def __init__(self, js: JetStream, stream: str, consumer: str, subject: str) -> None:
        """Use `Client.pull`."""
        check_subject(subject)
        for what, name in (("stream", stream), ("consumer", consumer)):
            if not _NAME.match(name):
                raise RequestError(
                    Refusal.INVALID_REQUEST,
                    invalid_value(
                        f"{what} name", name, "expected no white space, and none of . * > / \\"
                    ),
                )
        self.ack_wait = float(ACK_WAIT)
        """Seconds after which an unacknowledged message is delivered again."""
        self._js = js
        self._connection = js.connection
        self._stream = stream
        self._consumer = consumer
        self._subject = subject
        self._next = f"{js.prefix}.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._asked: set[asyncio.Future[int]] = set()
        self._denied = False
        self._arrived: deque[Pulled] = deque()

    async def __aenter__(self) -> Self:
        """Find the consumer, or create it."""
        self._use(await self._found() or await self._created())
        self._connection.on_lost.append(self._wake)
        self._connection.on_closed.append(self._wake)
        self._connection.on_denied.append(self._on_denied)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give back messages that arrived and were not taken."""
        self._connection.on_lost.remove(self._wake)
        self._connection.on_closed.remove(self._wake)
        self._connection.on_denied.remove(self._on_denied)
        try:
            await self._connection.echo()
        except NoServerError:
            return  # they are delivered again after `ack_wait`
        for pulled in self._arrived:
            pulled.give_back()

    async def take(self) -> Pulled:
        """Wait for the next message. Each caller requests one message at a time."""
        while not self._arrived:
            status = await self._ask()
            if self._connection.closed:
                raise DisconnectedError("the client was closed")
            if self._denied:
                raise missing_permission("publish", self._next)
            if not self._arrived and status not in (NO_MESSAGES, REQUEST_ENDED):
                await self._look()
                await asyncio.sleep(RETRY_WAIT)
        return self._arrived.popleft()

    async def _ask(self) -> int:
        """Request a message; return the status that came instead; 0: none came."""
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        inbox = self._connection.new_inbox()
        listener = self._connection.listen(inbox, partial(self._hear, answer))
        self._asked.add(answer)
        try:
            body = b'{"batch":1,"expires":%d}' % (PULL_TIME * NANOSECONDS)
            self._connection.publish(self._next, body, reply=inbox)
            async with asyncio.timeout(PULL_TIME + SLACK):
                return await answer
        except (DisconnectedError, TimeoutError):
            return 0
        finally:
            self._asked.remove(answer)
            # A message that still arrives is kept for the next caller.
            listener.stop(hear_out=answer.cancelled())

    def _hear(
        self,
        answer: asyncio.Future[int],
        subject: bytes,
        reply: bytes,
        headers: bytes | None,
        payload: bytes,
    ) -> None:
        status = status_of(headers)
        if not status and reply:
            message = received(subject, reply, headers, payload)
            self._arrived.append(Pulled(self._connection, message))
        if not answer.done():
            answer.set_result(status)

    def _on_denied(self, kind: str, subject: str) -> None:
        if kind == "publish" and subject == self._next:
            self._denied = True
            self._wake()

    def _wake(self) -> None:
        for answer in self._asked:
            if not answer.done():
                answer.set_result(0)

    async def _look(self) -> None:
        """Find out why neither a message nor a status came.

        Raises:
            JetStreamError: the consumer is gone.
        """
        try:
            config = await self._found()
        except NoServerError as error:
            log.repeated("warning", "client.waiting", reason=str(error))
            return
        if config is None:
            raise JetStreamError(
                f"the consumer {self._consumer!r} of the stream {self._stream!r} was deleted: "
                "messages that were not acknowledged are not delivered any more",
                CONSUMER_NOT_FOUND,
            )

    async def _found(self) -> dict[str, Any] | None:
        """Return the consumer's configuration; None if it does not exist."""
        try:
            answer = await self._js.call(f"CONSUMER.INFO.{self._stream}.{self._consumer}")
        except JetStreamError as error:
            if error.code == CONSUMER_NOT_FOUND:
                return None
            raise self._explained(error) from error
        config: dict[str, Any] = answer["config"]
        return config

    async def _created(self) -> dict[str, Any]:
        try:
            stream = await self._js.call(f"STREAM.INFO.{self._stream}")
            keeps_what_was_done = stream["config"].get("retention", "limits") == "limits"
            wanted = {
                "durable_name": self._consumer,
                "name": self._consumer,
                "filter_subject": self._subject,
                "deliver_policy": "new" if keeps_what_was_done else "all",
                "ack_policy": "explicit",
                "ack_wait": ACK_WAIT * NANOSECONDS,
                "replay_policy": "instant",
            }
            answer = await self._js.call(
                f"CONSUMER.CREATE.{self._stream}.{self._consumer}.{self._subject}",
                {"stream_name": self._stream, "config": wanted, "action": "create"},
                timeout=5.0,
            )
        except JetStreamError as error:
            found = await self._found() if error.code == CONSUMER_EXISTS else None
            if found is None:
                raise self._explained(error) from error
            return found
        log.info(
            "client.consumer_created",
            stream=self._stream,
            consumer=self._consumer,
            subject=self._subject,
            deliver=wanted["deliver_policy"],
        )
        config: dict[str, Any] = answer["config"]
        return config

    def _explained(self, error: JetStreamError) -> JetStreamError:
        if error.code != STREAM_NOT_FOUND:
            return error
        return JetStreamError(
            f"there is no stream {self._stream!r}: create it, or fix its name", error.code
        )

    def _use(self, config: dict[str, Any]) -> None:
        """Make sure that the consumer has the right kind.

        Raises:
            JetStreamError: it has not.
        """
        name = f"the consumer {self._consumer!r} of the stream {self._stream!r}"
        if config.get("deliver_subject"):
            raise JetStreamError(f"{name} is a push consumer: give a pull consumer")
        if config.get("ack_policy") != "explicit":
            raise JetStreamError(
                f"{name} has the acknowledgement policy {config.get('ack_policy')!r}: give one "
                "with 'explicit'"
            )
        filters = config.get("filter_subjects") or [config.get("filter_subject") or ">"]
        if filters != [self._subject]:
            raise JetStreamError(
                f"{name} is for the subject {', '.join(filters)}, not for {self._subject}: give "
                "its subject, or another consumer"
            )
        waits = config.get("backoff") or [config.get("ack_wait") or ACK_WAIT * NANOSECONDS]
        self.ack_wait = min(waits) / NANOSECONDS
