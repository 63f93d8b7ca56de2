"""Messages on a subject, as they arrive."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from gozo.client.arguments import header_pairs
from gozo.client.models import Message
from gozo.errors import (
    DisconnectedError,
    NotAllowedError,
    Refusal,
    RequestError,
    invalid_value,
)
from gozo.protocol.headers import END
from gozo.runtime.logs import get_logger
from gozo.transport.commands import status_of
from gozo.transport.connection import Connection
from gozo.transport.permissions import missing_permission
from gozo.transport.subscriptions import Listener

OVERHEAD = 1_000  # bytes of memory of a message besides its content

_SUBJECT = re.compile(
    r"[^\s.\x00-\x1f\x7f\ud800-\udfff]+(?:\.[^\s.\x00-\x1f\x7f\ud800-\udfff]+)*\Z"
)
_QUEUE = re.compile(r"[^\s\x00-\x1f\x7f\ud800-\udfff]+\Z")

log = get_logger("gozo.client")


class Listening:
    """An iterator over messages; subscribed while it is entered.

    Skips status messages of the server itself, such as "no responders". Unread messages wait in
    memory, up to a limit.

    Raises, during iteration:
        NotAllowedError: this user has no permission to subscribe to the subject.
        DisconnectedError: the client was closed.
    """

    def __init__(
        self,
        connection: Connection,
        subject: str,
        *,
        queue: str | None = None,
        count: int | None = None,
        max_backlog: int | None = None,
    ) -> None:
        """Use `Client.listen`."""
        check_subject(subject)
        if queue is not None and not _QUEUE.match(queue):
            raise RequestError(
                Refusal.INVALID_REQUEST,
                invalid_value("queue group", queue, "expected a name without white space"),
            )
        self.subject = subject
        self.dropped = 0
        """Messages dropped for lack of room."""
        self._connection = connection
        self._queue = queue or ""
        self._left = count
        self._to_come = count or 0
        self._max_backlog = max_backlog
        self._listener: Listener | None = None
        self._messages: deque[tuple[Message, int]] = deque()
        self._backlog = 0
        self._news = asyncio.Event()
        self._denied: NotAllowedError | None = None

    @property
    def waiting(self) -> int:
        """How many messages have arrived and were not read yet."""
        return len(self._messages)

    async def __aenter__(self) -> Self:
        """Subscribe; the server has the subscription when this returns."""
        if self._listener is None:
            self._connection.on_denied.append(self._on_denied)
            self._connection.on_closed.append(self._news.set)
            self._listener = self._connection.listen(
                self.subject, self._on_message, queue=self._queue, most=self._to_come
            )
            try:
                await self._connection.echo()
            except BaseException:
                self.stop()
                raise
            if self._denied is not None:
                self.stop()
                raise self._denied
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        if self._left == 0:
            raise StopAsyncIteration
        if self._listener is None and not self._messages:
            await self.__aenter__()
        while not self._messages:
            if self._denied is not None:
                raise self._denied
            if self._connection.closed:
                raise DisconnectedError("the client was closed")
            self._news.clear()
            await self._news.wait()
        message, size = self._messages.popleft()
        self._backlog -= size
        if self._left is not None:
            self._left -= 1
        return message

    async def aclose(self) -> None:
        """End the subscription."""
        self.stop()

    def stop(self) -> None:
        """End the subscription at once; messages that have arrived can still be read."""
        if self._listener is not None:
            self._listener.stop()
            self._listener = None
            self._connection.on_denied.remove(self._on_denied)
            self._connection.on_closed.remove(self._news.set)

    def rest(self) -> list[Message]:
        """Return the messages that have arrived and were not read yet, as if they were read."""
        messages = [message for message, _ in self._messages]
        self._messages.clear()
        self._backlog = 0
        return messages

    def _on_denied(self, kind: str, subject: str) -> None:
        if kind == "subscription" and subject == self.subject:
            self._denied = missing_permission(kind, subject)
            self._news.set()

    def _on_message(
        self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes
    ) -> None:
        if status_of(headers):
            return
        size = len(payload) + len(headers or b"") + OVERHEAD
        most = self._max_backlog if self._left is None else None
        if most is not None and self._messages and self._backlog + size > most:
            self.dropped += 1
            log.limited("warning", "client.dropped", subject=subject, backlog=len(self._messages))
            return
        self._messages.append((received(subject, reply, headers, payload), size))
        self._backlog += size
        self._news.set()
        if self._to_come:
            self._to_come -= 1
            if self._listener is not None:
                self._listener.limit(self._to_come)
                if not self._to_come:
                    self._listener.stop()


def check_subject(subject: str) -> None:
    """Make sure that a subject is valid for a subscription.

    Raises:
        RequestError: `invalid_request`.
    """
    if not _SUBJECT.match(subject):
        raise RequestError(
            Refusal.INVALID_REQUEST,
            invalid_value("subject", subject, "expected no empty tokens and no white space"),
        )


def received(subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> Message:
    """Create a `Message` from one that has just arrived."""
    return Message(
        subject=subject.decode("utf-8", "replace"),
        payload=payload,
        headers=header_pairs(headers.partition(END)[2] if headers else b""),
        at=datetime.now(UTC),
        reply=reply.decode("utf-8", "replace"),
    )
