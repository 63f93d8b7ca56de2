"""What daemons tell of schedules: as it happens, and as a stream has kept it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from gozo.client.listening import Listening
from gozo.client.nouns import Event
from gozo.connection import Connection
from gozo.errors import JetStreamError, NotFoundError
from gozo.events import TYPE
from gozo.jetstream import STREAM_NOT_FOUND, JetStream
from gozo.protocol import escape_id
from gozo.settings import ConnectionSettings
from gozo.store.history import history_of


class Following:
    """An iterator over events as they are told, which hears them while it is entered.

    Raises what `Listening` does while it is iterated over.
    """

    def __init__(self, messages: Listening) -> None:
        """Use `Client.events`."""
        self._messages = messages

    async def __aenter__(self) -> Self:
        """Subscribe; the server has the subscription when this returns."""
        await self._messages.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._messages.stop()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while True:
            event = read_event((await anext(self._messages)).payload)
            if event is not None:
                return event


class Chronicle:
    """The events about the schedules of one bucket."""

    def __init__(self, connection: Connection, settings: ConnectionSettings) -> None:
        self._connection = connection
        self._subject = f"{settings.request_subject}.event"
        self._stream = history_of(settings.bucket)

    def follow(self, id_: str | None) -> Following:
        """Iterate over what is told from now on, of one schedule or of all."""
        subject = f"{self._subject}.>" if id_ is None else self._of(id_)
        return Following(Listening(self._connection, subject))

    async def past(self, id_: str) -> AsyncIterator[Event]:
        """Iterate over what was told of a schedule, as far as it is kept.

        Raises:
            NotFoundError: nothing is kept.
        """
        js, sequence = JetStream(self._connection), 1
        while True:
            try:
                message = await js.next_message(self._stream, self._of(id_), sequence)
            except JetStreamError as error:
                if error.code != STREAM_NOT_FOUND:
                    raise
                raise NotFoundError(
                    "no history is kept: start the daemons with --history 30d, or another length"
                ) from error
            if message is None:
                return
            sequence = message.sequence + 1
            event = read_event(message.payload)
            if event is not None:
                yield event

    def _of(self, id_: str) -> str:
        return f"{self._subject}.*.{escape_id(id_)}"


def read_event(payload: bytes) -> Event | None:
    """Read what a daemon told; None where it is none of gozo's events."""
    try:
        told: dict[str, Any] = json.loads(payload)
        type_, _, kind = told["type"].rpartition(".")
        if type_ != TYPE:
            return None
        due, late = told.get("due"), told.get("late_ms")
        return Event(
            kind=kind,
            at=_moment(told["at"]),
            daemon=str(told["daemon"]),
            id=None if told["id"] is None else str(told["id"]),
            subject=str(told.get("subject", "")),
            when=str(told.get("when", "")),
            due=None if due is None else _moment(due),
            late_ms=None if late is None else float(late),
            state=str(told.get("state", "")),
            replaced=told.get("replaced") is True,
            error=str(told.get("error", "")),
            message=str(told.get("message", "")),
            attempts=int(told.get("attempts", 0)),
            reason=str(told.get("reason", "")),
        )
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _moment(text: str) -> datetime:
    """Read a moment as a daemon writes it; in UTC."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no offset")
    return moment.astimezone(UTC)
