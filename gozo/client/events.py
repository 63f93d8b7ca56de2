"""The events that daemons publish about schedules: live, and stored in a stream."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

from gozo.client.arguments import moment
from gozo.client.decoding import matcher
from gozo.client.models import Event, HistoryInfo
from gozo.client.past import Past, stream_info
from gozo.client.subscription import Listening
from gozo.errors import (
    NotFoundError,
    Refusal,
    RequestError,
    invalid_value,
)
from gozo.protocol.event_kinds import NAME_A_SUBJECT, Kind
from gozo.protocol.ids import escape_id
from gozo.settings.model import ConnectionSettings
from gozo.store.event_history import history_of, is_covered
from gozo.telemetry.events import TYPE
from gozo.transport.connection import Connection
from gozo.transport.jetstream import parse_time

NO_HISTORY = "no history is kept: start the daemons with --history 30d, or another duration"


class Following:
    """An iterator over events as they are published; subscribed while it is entered.

    The iteration raises the same errors as that of `Listening`.
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


class EventLog:
    """The events about the schedules of one bucket."""

    def __init__(self, connection: Connection, settings: ConnectionSettings) -> None:
        self._connection = connection
        self._subject = f"{settings.request_subject}.event"
        self._stream = history_of(settings.bucket)

    def follow(self, id_: str | None) -> Following:
        """Iterate over events from now on, of one schedule or of all."""
        subject = f"{self._subject}.>" if id_ is None else self._of(id_)
        return Following(Listening(self._connection, subject))

    def past(
        self,
        id_: str | None,
        since: datetime | None,
        until: datetime | None,
        kinds: Collection[str],
        subject: str | None,
    ) -> AsyncIterator[Event]:
        """Iterate over stored events.

        Raises:
            RequestError: no event could match.
            NotFoundError: no history is kept; raised by the first step.
        """
        _check(since, until, kinds, subject)
        wanted = None if subject is None else matcher(subject)
        if wanted is not None and not kinds:
            kinds = NAME_A_SUBJECT

        async def events() -> AsyncIterator[Event]:
            info = await stream_info(self._connection, self._stream, NO_HISTORY)
            last = int(info["state"]["last_seq"])
            subjects = self._subjects(id_, kinds)
            past = Past(self._connection, self._stream, subjects, since, last)
            async for kept in past.messages():
                if until is not None and kept.stored >= until:
                    return
                event = read_event(kept.payload)
                if event is not None and (wanted is None or wanted.match(event.subject)):
                    yield event

        return events()

    async def info(self) -> HistoryInfo | None:
        """Describe the stream that keeps events; None if it does not exist."""
        try:
            found = await stream_info(self._connection, self._stream, NO_HISTORY)
        except NotFoundError:
            return None
        config, state = found["config"], found["state"]
        subjects = tuple(config.get("subjects") or ())
        events, age = int(state["messages"]), int(config.get("max_age") or 0)
        return HistoryInfo(
            name=self._stream,
            subjects=subjects,
            is_current=is_covered(f"{self._subject}.>", subjects),
            events=events,
            created=moment(parse_time(found["created"])),
            first=moment(parse_time(state["first_ts"])) if events else None,
            last=moment(parse_time(state["last_ts"])) if events else None,
            max_age=timedelta(microseconds=age // 1000) if age else None,
            settings=config,
        )

    def _subjects(self, id_: str | None, kinds: Collection[str]) -> list[str]:
        """Return the subjects of all events that could match."""
        names = sorted(set(kinds))
        if id_ is not None:
            return [f"{self._subject}.{kind}.{escape_id(id_)}" for kind in names or ["*"]]
        if not names:
            return [f"{self._subject}.>"]
        return [f"{self._subject}.{kind}{rest}" for kind in names for rest in ("", ".>")]

    def _of(self, id_: str) -> str:
        return f"{self._subject}.*.{escape_id(id_)}"


def _check(
    since: datetime | None, until: datetime | None, kinds: Collection[str], subject: str | None
) -> None:
    """Refuse filters that no event could match.

    Raises:
        RequestError: `invalid_request`.
    """
    unknown = sorted(set(kinds) - set(Kind))
    if unknown:
        raise RequestError(
            Refusal.INVALID_REQUEST,
            invalid_value("kind of event", str(unknown[0]), f"expected {', '.join(Kind)}"),
        )
    silent = sorted(set(kinds) - NAME_A_SUBJECT)
    if subject is not None and silent:
        raise RequestError(
            Refusal.INVALID_REQUEST,
            f"events of the kind {silent[0]} have no subject: omit one of the two",
        )
    if since is not None and until is not None and until <= since:
        raise RequestError(
            Refusal.INVALID_REQUEST, f"since {since} is not before until {until}: swap them"
        )


def read_event(payload: bytes) -> Event | None:
    """Read an event; None if it is not one of gozo's."""
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
            attempt=int(told.get("attempt", 0)),
            attempts=int(told.get("attempts", 0)),
            reason=str(told.get("reason", "")),
            note=str(told.get("note", "")),
            outcome=str(told.get("outcome", "")),
            host=str(told.get("host", "")),
            exit_status=_number(told.get("exit_status")),
            took=None if (took := told.get("took")) is None else float(took),
        )
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _moment(text: str) -> datetime:
    """Read a moment in an event; in UTC."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no offset")
    return moment.astimezone(UTC)
