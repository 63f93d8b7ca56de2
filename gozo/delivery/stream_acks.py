"""Deliveries that count only once a stream has acknowledged them (`Gozo-Confirm: stream`).

Each message is published with its own reply subject, to which the stream sends its acknowledgement
(PubAck). The owner is called with the result: acknowledged, refused, not acknowledged in time, or
unknown because the connection was lost.
"""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import NamedTuple, Protocol

from gozo.delivery.source import Due
from gozo.runtime.clock import steady
from gozo.schedule.model import Outgoing
from gozo.transport.commands import status_of
from gozo.transport.connection import Connection
from gozo.transport.permissions import not_published

ACK_TIME = 3.0  # seconds to wait for an acknowledgement
SWEEP = 0.5  # seconds between checks for overdue acknowledgements
SLICE = 50  # overdue messages reported before others get a turn
SLICE_WAIT = 0.01  # seconds until the next slice
WINDOW = 4_000  # messages without an acknowledgement
SILENT_WINDOW = WINDOW // 4
"""The share of silent schedules: each occupies its place until its time is over."""


class Owner(Protocol):
    """Called with the result of each message."""

    def on_acknowledged(self, due: Due, message: Outgoing) -> None:
        """A stream has stored the message."""

    def on_failed(self, due: Due, reason: str) -> None:
        """A stream refused the message, or no stream stores its subject."""

    def on_unanswered(self, due: Due, reason: str) -> None:
        """No stream acknowledged the message in time, as while a stream elects a leader."""

    def on_unsent(self, due: Due) -> None:
        """The connection was lost before the acknowledgement."""

    def on_room(self) -> None:
        """There is room again."""


class _Sent(NamedTuple):
    token: bytes
    at: float
    message: Outgoing
    silent: bool


class StreamAcks:
    """Messages that were sent and are not acknowledged."""

    def __init__(self, connection: Connection, owner: Owner) -> None:
        self._connection = connection
        self._owner = owner
        self._sent: dict[Due, _Sent] = {}
        self._versions: set[tuple[str, int]] = set()
        self._by_subject: dict[bytes, dict[Due, None]] = {}
        """The same by subject, in order of sending: thousands may be refused at once."""
        self._silent = 0
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._sent)

    def awaits(self, key: str, revision: int) -> bool:
        """Tell whether a version of a schedule was sent and its acknowledgement is awaited."""
        return (key, revision) in self._versions

    def room(self, *, silent: bool) -> int:
        """How many more may be sent, of silent schedules or of others."""
        room = WINDOW - len(self._sent)
        return min(room, SILENT_WINDOW - self._silent) if silent else room

    def send(self, due: Due, message: Outgoing, *, silent: bool) -> None:
        """Publish a message; `silent`: of a silent schedule (see `parking`).

        Raises:
            DisconnectedError: there is no link.
        """
        on_reply = partial(self._on_reply, due)
        token = self._connection.call(message.subject, message.payload, on_reply, message.headers)
        self._sent[due] = _Sent(token, steady(), message, silent)
        self._silent += silent
        self._versions.add((due[0].key, due[0].revision))
        self._by_subject.setdefault(message.subject, {})[due] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SWEEP, self._sweep)

    def deny(self, subject: bytes) -> bool:
        """Handle a refused publication on a subject; False if no message here has that subject."""
        due = next(iter(self._by_subject.get(subject, ())), None)
        if due is None:
            return False
        self._fail(due, not_published(subject.decode("utf-8", "replace")))
        return True

    def _on_reply(self, due: Due, headers: bytes | None, payload: bytes | None) -> None:
        sent = self._sent.get(due)
        if sent is None:
            return
        if payload is None:
            self._forget(due)
            self._owner.on_unsent(due)
        elif status_of(headers):
            self._fail(due, "no stream stores its subject")
        else:
            problem = _problem(payload)
            if problem is None:
                self._take(due)
                self._owner.on_acknowledged(due, sent.message)
            elif problem:
                self._fail(due, problem)
            else:
                # Something other than a stream answered: a stream may still do so.
                self._connection.expect_more(sent.token, partial(self._on_reply, due))

    def _sweep(self) -> None:
        self._timer = None
        before = steady() - ACK_TIME
        # In order of sending, so the first that is not overdue ends the search.
        late: list[Due] = []
        for due, sent in self._sent.items():
            if sent.at > before or len(late) == SLICE:
                break
            late.append(due)
        for due in late:
            self._let_go(due)
            self._owner.on_unanswered(due, f"no stream acknowledged it within {ACK_TIME:g} s")
        if self._sent:
            wait = SLICE_WAIT if len(late) == SLICE else SWEEP
            self._timer = asyncio.get_running_loop().call_later(wait, self._sweep)

    def _fail(self, due: Due, reason: str) -> None:
        self._let_go(due)
        self._owner.on_failed(due, reason)

    def _let_go(self, due: Due) -> None:
        self._connection.hang_up(self._sent[due].token)
        self._take(due)

    def _take(self, due: Due) -> None:
        was_full = self.room(silent=self._sent[due].silent) <= 0
        self._forget(due)
        if was_full:
            self._owner.on_room()

    def _forget(self, due: Due) -> None:
        sent = self._sent.pop(due)
        self._silent -= sent.silent
        self._versions.discard((due[0].key, due[0].revision))
        same = self._by_subject[sent.message.subject]
        del same[due]
        if not same:
            del self._by_subject[sent.message.subject]


def _problem(answer: bytes) -> str | None:
    """Return the error in an acknowledgement; None: no error; "": it is not an acknowledgement."""
    try:
        ack = json.loads(answer)
        error = ack.get("error")
        if error is not None:
            return f"the stream refused it: {error.get('description', error)}"
        return None if ack.get("stream") and int(ack["seq"]) else ""
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        return ""
