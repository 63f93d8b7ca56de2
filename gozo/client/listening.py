"""Messages on a subject, as they come."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from gozo.client.making import header_pairs
from gozo.client.nouns import Message
from gozo.connection import Connection, Listener, missing_permission, status_of
from gozo.errors import DisconnectedError, NotAllowedError, Refusal, RequestError
from gozo.headers import END

_SUBJECT = re.compile(r"[^\s.\x00-\x1f\x7f]+(?:\.[^\s.\x00-\x1f\x7f]+)*\Z")


class Listening:
    """An iterator over messages that is subscribed while it is entered.

    Answers that the server itself gives ("nobody listens", a status without payload) are no
    messages and left out. What is not read yet waits in memory.

    Raises, while it is iterated over:
        NotAllowedError: the server does not let this user subscribe there.
        DisconnectedError: the client was closed.
    """

    def __init__(self, connection: Connection, subject: str) -> None:
        """Use `Client.listen`."""
        if not _SUBJECT.match(subject):
            raise RequestError(
                Refusal.INVALID_REQUEST,
                f"{subject!r} is no subject to listen on: mend the dots, and leave out white space",
            )
        self.subject = subject
        self._connection = connection
        self._listener: Listener | None = None
        self._messages: deque[Message] = deque()
        self._news = asyncio.Event()
        self._denied: NotAllowedError | None = None

    async def __aenter__(self) -> Self:
        """Subscribe; the server has the subscription when this returns."""
        if self._listener is None:
            self._connection.on_denied.append(self._on_denied)
            self._connection.on_closed.append(self._news.set)
            self._listener = self._connection.listen(self.subject, self._on_message)
            try:
                await self._connection.echo()
            except BaseException:
                self._stop()
                raise
            if self._denied is not None:
                self._stop()
                raise self._denied
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        if self._listener is None:
            await self.__aenter__()
        while not self._messages:
            if self._denied is not None:
                raise self._denied
            if self._connection.closed:
                raise DisconnectedError("the client was closed")
            self._news.clear()
            await self._news.wait()
        return self._messages.popleft()

    async def aclose(self) -> None:
        """End the subscription."""
        self._stop()

    def _stop(self) -> None:
        if self._listener is not None:
            self._listener.stop()
            self._listener = None
            self._connection.on_denied.remove(self._on_denied)
            self._connection.on_closed.remove(self._news.set)

    def _on_denied(self, kind: str, subject: str) -> None:
        if kind == "subscription" and subject == self.subject:
            self._denied = missing_permission(kind, subject)
            self._news.set()

    def _on_message(
        self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes
    ) -> None:
        if status_of(headers):
            return
        lines = headers.partition(END)[2] if headers else b""
        self._messages.append(
            Message(
                subject=subject.decode("utf-8", "replace"),
                payload=payload,
                headers=header_pairs(lines),
                at=datetime.now(UTC),
                reply=reply.decode("utf-8", "replace"),
            )
        )
        self._news.set()
