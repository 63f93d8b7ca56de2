"""Deliveries that count only once a stream has acknowledged them (`Gozo-Confirm: stream`).

Each is published with a reply subject of its own, on which the stream's acknowledgement comes
(PubAck). What is not acknowledged in time, or refused, is told to the owner with the reason, one
apart from the other; a lost connection is told apart as well, since then nobody knows.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Protocol

from gozo.runtime.clock import steady
from gozo.schedule.model import Outgoing
from gozo.schedule.timetable import Item
from gozo.transport.commands import status_of
from gozo.transport.connection import Connection
from gozo.transport.permissions import not_published

ACK_TIME = 3.0  # seconds to wait for an acknowledgement
SWEEP = 0.5  # seconds between looks for those that are late
SLICE = 50  # of those that are late, told to the owner before others get a turn
SLICE_WAIT = 0.01  # seconds until the next are told
WINDOW = 4_000  # messages without an acknowledgement
SILENT_WINDOW = WINDOW // 4
"""Those of them whose schedule had none in time before: each waits for it as long as it may."""


class Owner(Protocol):
    """Who is told what became of a message."""

    def on_acknowledged(self, item: Item, message: Outgoing) -> None:
        """A stream has it."""

    def on_failed(self, item: Item, reason: str) -> None:
        """No stream has it, as far as is known."""

    def on_unanswered(self, item: Item, reason: str) -> None:
        """No stream has acknowledged it in time: one that elects a leader is silent."""

    def on_unsent(self, item: Item) -> None:
        """The connection was lost."""


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
        self._sent: dict[Item, _Sent] = {}
        self._versions: set[tuple[str, int]] = set()
        self._by_subject: dict[bytes, dict[Item, None]] = {}
        """The same, in order for each subject: thousands may be refused at once."""
        self._silent = 0
        self._timer: asyncio.TimerHandle | None = None
        self.on_room: Callable[[], None] = lambda: None
        """Told when there is room again."""

    def __len__(self) -> int:
        return len(self._sent)

    def awaits(self, key: str, revision: int) -> bool:
        """Tell whether a version of a schedule was sent and is not acknowledged."""
        return (key, revision) in self._versions

    def room(self, *, silent: bool) -> int:
        """How many more may be sent, of schedules that had no acknowledgement or of others."""
        room = WINDOW - len(self._sent)
        return min(room, SILENT_WINDOW - self._silent) if silent else room

    def send(self, item: Item, message: Outgoing, *, silent: bool) -> None:
        """Publish a message; `silent`: the last one of its schedule was not acknowledged in time.

        Raises:
            DisconnectedError: there is no link.
        """
        on_reply = partial(self._on_reply, item)
        token = self._connection.call(message.subject, message.payload, on_reply, message.headers)
        self._sent[item] = _Sent(token, steady(), message, silent)
        self._silent += silent
        self._versions.add((item.key, item.revision))
        self._by_subject.setdefault(message.subject, {})[item] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(SWEEP, self._sweep)

    def deny(self, subject: bytes) -> bool:
        """Take it that the server refused a message to this subject; False if there is none."""
        item = next(iter(self._by_subject.get(subject, ())), None)
        if item is None:
            return False
        self._fail(item, not_published(subject.decode("utf-8", "replace")))
        return True

    def _on_reply(self, item: Item, headers: bytes | None, payload: bytes | None) -> None:
        sent = self._sent.get(item)
        if sent is None:
            return
        if payload is None:
            self._forget(item)
            self._owner.on_unsent(item)
        elif status_of(headers):
            self._fail(item, "no stream takes its subject")
        else:
            problem = _problem(payload)
            if problem is None:
                self._take(item)
                self._owner.on_acknowledged(item, sent.message)
            elif problem:
                self._fail(item, problem)
            else:
                # Somebody else answered: the stream may still do so.
                self._connection.expect_more(sent.token, partial(self._on_reply, item))

    def _sweep(self) -> None:
        self._timer = None
        before = steady() - ACK_TIME
        # In the order of sending, so the first that is young ends the search.
        late: list[Item] = []
        for item, sent in self._sent.items():
            if sent.at > before or len(late) == SLICE:
                break
            late.append(item)
        for item in late:
            self._let_go(item)
            self._owner.on_unanswered(item, f"no stream acknowledged it within {ACK_TIME:g} s")
        if self._sent:
            wait = SLICE_WAIT if len(late) == SLICE else SWEEP
            self._timer = asyncio.get_running_loop().call_later(wait, self._sweep)

    def _fail(self, item: Item, reason: str) -> None:
        self._let_go(item)
        self._owner.on_failed(item, reason)

    def _let_go(self, item: Item) -> None:
        self._connection.hang_up(self._sent[item].token)
        self._take(item)

    def _take(self, item: Item) -> None:
        was_full = self.room(silent=self._sent[item].silent) <= 0
        self._forget(item)
        if was_full:
            self.on_room()

    def _forget(self, item: Item) -> None:
        sent = self._sent.pop(item)
        self._silent -= sent.silent
        self._versions.discard((item.key, item.revision))
        same = self._by_subject[sent.message.subject]
        del same[item]
        if not same:
            del self._by_subject[sent.message.subject]


def _problem(answer: bytes) -> str | None:
    """Return what is wrong with an acknowledgement: None is nothing; "" if it is not one."""
    try:
        ack = json.loads(answer)
        error = ack.get("error")
        if error is not None:
            return f"the stream refused it: {error.get('description', error)}"
        return None if ack.get("stream") and int(ack["seq"]) else ""
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        return ""
