"""Sends writes to the bucket, many in flight, each with an expected revision.

A write has one of six results, which decides what is safe to do next. In particular, a write
without an answer may have been applied: only reading the key shows whether it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from typing import NoReturn

from gozo.protocol.headers import block
from gozo.protocol.inboxes import tokens
from gozo.protocol.subject_policy import LARGEST_BLOCK, MOST_HEADERS
from gozo.runtime.clock import steady
from gozo.runtime.logs import get_logger
from gozo.store.bucket import Bucket
from gozo.transport.commands import publication, status_of
from gozo.transport.connection import Connection
from gozo.transport.jetstream import CONFLICTS, NO_ROOM, PLAIN_ACK, is_final, read_ack

ANSWER_TIME = 5.0  # seconds to wait for an answer
MOST_UNSENT = 2 * 1024 * 1024  # bytes that the operating system has not accepted yet
UNCHECKED = 64 * 1024  # bytes written between two checks of the unsent bytes
SWEEP_INTERVAL = 0.5  # seconds between searches for overdue answers
SILENT = 3.0  # seconds without any answer after which the bucket counts as not writable

log = get_logger("gozo.store")


class WriteResult(Enum):
    """How a write ended."""

    STORED = auto()
    CONFLICT = auto()
    """The key has another revision than expected, or another write to it is in flight."""
    UNKNOWN = auto()
    """No answer, or an inconclusive one: it may or may not have been applied."""
    UNAVAILABLE = auto()
    """Not stored: the server cannot at present."""
    NO_ROOM = auto()
    """Not stored: the storage is full, or has reached a limit."""
    REFUSED = auto()
    """The server will not store this, now or later."""


_STORED = WriteResult.STORED  # looking up the member takes as long as reading an answer

OnDone = Callable[[WriteResult, int, str], None]
"""Takes the result, and the revision if it was stored, otherwise the server's error message."""


class Writer:
    """Sends writes and matches their answers."""

    def __init__(
        self, connection: Connection, bucket: Bucket, answer_time: float = ANSWER_TIME
    ) -> None:
        self._connection = connection
        self._answer_time = answer_time
        """Seconds. A later answer is ignored: a create may have been stored so late that others
        ignore it."""
        self._prefix = bucket.entrance.encode()
        # Its own inbox instead of `Connection.call`, since no other code runs as often.
        inbox = f"{connection.new_inbox()}."
        self._inbox = inbox.encode()
        self._skip = len(inbox)
        self._tokens = tokens()
        self._pending: dict[bytes, tuple[float, OnDone]] = {}
        self._unchecked = 0
        """Bytes written since the last check of the unsent bytes."""
        self._answered = False
        """Whether anything was answered since the last sweep."""
        self._silent_since: float | None = None
        """When the oldest pending write was sent, if none has been answered; None otherwise."""
        connection.listen(f"{inbox}*", self._hear)
        connection.on_lost.append(self._on_lost)

    @property
    def in_flight(self) -> int:
        """How many writes have no answer yet."""
        return len(self._pending)

    @property
    def is_congested(self) -> bool:
        """Whether the operating system has not accepted many of the written bytes yet."""
        if self._unchecked < UNCHECKED:
            return False
        is_much = self._connection.backlog > MOST_UNSENT
        if not is_much:
            self._unchecked = 0
        return is_much

    @property
    def is_silent(self) -> bool:
        """Whether writes are sent but none is answered, although the link is up."""
        since = None if self._answered else self._silent_since
        return since is not None and steady() > since + SILENT

    def write(
        self,
        key: str,
        lines: bytes,
        payload: bytes,
        expected: int | None,
        on_done: OnDone,
        sent: float | None = None,
    ) -> None:
        """Write header lines and payload under a key; `on_done` is called exactly once, later.

        `sent` is when the time for the answer starts, on the steady clock; None: now.

        Raises:
            DisconnectedError: there is no link; `on_done` will not be called.
        """
        headers = block(lines, expected)
        size = len(headers) + len(payload)
        # A size that every server accepts needs no further check.
        if size > MOST_HEADERS and (words := self._too_large(size, len(headers))):
            asyncio.get_running_loop().call_soon(on_done, WriteResult.REFUSED, 0, words)
            return
        token = next(self._tokens)
        subject = self._prefix + key.encode()
        self._connection.write(publication(subject, payload, headers, self._inbox + token))
        self._pending[token] = (steady() if sent is None else sent, on_done)
        self._unchecked += size

    def _too_large(self, size: int, headers: int) -> str:
        """Say why the server would refuse a message; it might close the connection instead."""
        most = self._connection.max_payload
        if size > most:
            self._connection.doubt_limits()
            return f"{size} bytes exceed the server's max_payload, {most}"
        if headers > LARGEST_BLOCK:
            return f"{headers} bytes of headers exceed the server's limit, {LARGEST_BLOCK}"
        return ""

    def _hear(self, subject: bytes, _: bytes, headers: bytes | None, payload: bytes) -> None:
        pending = self._pending.pop(subject[self._skip :], None)
        if pending is None:
            return
        self._answered = True
        plain = PLAIN_ACK.match(payload)
        sent, on_done = pending
        if steady() - sent > self._answer_time:  # the process was stopped, else it was swept
            on_done(WriteResult.UNKNOWN, 0, self._too_late)
        elif plain is not None:
            on_done(_STORED, int(plain[1]), "")
        else:
            on_done(*_write_result(headers, payload))

    @property
    def _too_late(self) -> str:
        return f"no answer within {self._answer_time:g} s"

    def _on_lost(self) -> None:
        pending, self._pending = self._pending, {}
        self._silent_since = None
        for _, on_done in pending.values():
            on_done(WriteResult.UNKNOWN, 0, "the connection was lost")

    async def sweep(self) -> NoReturn:
        """End writes whose answer is overdue, as unknown; runs until it is cancelled."""
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            self._note_silence()
            before = steady() - self._answer_time
            # They are in order of sending, so the first recent one ends the search.
            late = []
            for token, (sent, on_done) in self._pending.items():
                if sent > before:
                    break
                late.append((token, on_done))
            for token, on_done in late:
                if self._pending.pop(token, None) is not None:
                    on_done(WriteResult.UNKNOWN, 0, self._too_late)

    def _note_silence(self) -> None:
        if self._answered:
            self._answered, self._silent_since = False, None
        elif self._silent_since is None and self._pending:
            self._silent_since, _ = next(iter(self._pending.values()))


def _write_result(headers: bytes | None, answer: bytes) -> tuple[WriteResult, int, str]:
    sequence, code, words = read_ack(headers, answer)
    if sequence:
        return WriteResult.STORED, sequence, ""
    if code in CONFLICTS:
        return WriteResult.CONFLICT, 0, words
    if is_final(code, words):
        return WriteResult.REFUSED, 0, words
    if code in NO_ROOM:
        return WriteResult.NO_ROOM, 0, words
    if code or status_of(headers):
        return WriteResult.UNAVAILABLE, 0, words
    return WriteResult.UNKNOWN, 0, words
