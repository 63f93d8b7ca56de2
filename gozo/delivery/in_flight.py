"""Messages in flight: sent, and not known to have reached the server.

Each batch is followed by a message to ourselves: when that echo is back, the server has read the
batch, since NATS keeps the order of a connection. If the connection is lost before the echo, the
batch may not have arrived.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from gozo.delivery.denials import Denials
from gozo.delivery.source import Due
from gozo.errors import DisconnectedError
from gozo.runtime.clock import steady
from gozo.schedule.model import Outgoing
from gozo.schedule.timetable import Item
from gozo.transport.connection import Connection

BUFFER = 4 * 1024 * 1024  # unsent bytes beyond which no more are written
ECHO_AGAIN = 1.0  # seconds after which another echo is requested
ECHO_TIME = 0.25  # seconds after which an echo is late, and sending stops until it is back


class InFlight:
    """Messages written to one connection, in batches."""

    def __init__(
        self,
        connection: Connection,
        on_confirmed: Callable[[list[Due], list[Outgoing]], None],
        on_lost: Callable[[list[Due]], None],
        on_denied: Callable[[Due, str], None],
        on_clear: Callable[[], None],
    ) -> None:
        """Report to the owner the result of each message that was written.

        `on_confirmed`: the server has read these.
        `on_lost`: the connection was lost, and it is unknown whether these arrived.
        `on_denied`: the server refused this one, to the subject given.
        `on_clear`: the link was slow, and more may be written now.
        """
        self._connection = connection
        self._on_confirmed = on_confirmed
        self._on_lost = on_lost
        self._on_denied = on_denied
        self._on_clear = on_clear
        self._echoing: list[Due] | None = None
        """The batch whose echo is awaited, if any."""
        self._sent: list[Due] = []
        """Items written after that batch."""
        self._echoing_messages: list[Outgoing] = []
        self._sent_messages: list[Outgoing] = []
        """The messages of the two lists: by the time of the echo, the bucket may have other
        versions."""
        self._echo_sent = self._echo_asked = 0.0
        self._echo_number = 0
        """The number of the batch whose echo is awaited."""
        self._denied = Denials(self._find)
        self._draining: asyncio.Task[None] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether all written messages are confirmed."""
        return self._echoing is None and not self._sent

    @property
    def is_slow(self) -> bool:
        """Whether the link is slow or dead: messages sent now might have to be sent again."""
        late = self._echoing is not None and steady() - self._echo_sent > ECHO_TIME
        return late or self._draining is not None

    def write(self, parts: list[bytes], batch: list[Due], messages: list[Outgoing]) -> None:
        """Write a batch of messages; `parts` are their bytes on the wire."""
        if not batch:
            return
        self._sent += batch
        self._sent_messages += messages
        try:
            self._connection.write(b"".join(parts))
            if self._echoing is None:
                self._echo()
        except DisconnectedError:
            self._lose()
            return
        self.drain_if(self._connection.buffered)

    def drain_if(self, bytes_: int) -> None:
        """Count as slow until fewer bytes are unsent, if there are too many."""
        if bytes_ > BUFFER and self._draining is None:
            loop = asyncio.get_running_loop()
            self._draining = loop.create_task(self._drain(), name="delivery drains")

    async def _drain(self) -> None:
        try:
            await self._connection.drained()
        except DisconnectedError:
            pass
        finally:
            self._draining = None
            self._on_clear()

    # Echoes

    def _echo(self) -> None:
        self._echoing, self._sent = self._sent, []
        self._echoing_messages, self._sent_messages = self._sent_messages, []
        self._echo_sent = steady()
        self._ask_echo()

    def ask_link(self) -> None:
        """Test whether the link is alive, unless an echo is already awaited.

        Messages sent on a dead link have to be sent again. Its first sign may be a message that
        does not arrive from the bucket; an acknowledgement from a stream may simply be slow.
        """
        if self._echoing is None and self._connection.connected:
            self._echo()

    def _ask_echo(self) -> None:
        self._echo_asked = steady()
        self._connection.call_echo(partial(self._on_echo, self._echo_number))

    def look(self) -> None:
        """Request an overdue echo again; to be called several times a second.

        An echo is lost if the server denied publishing or receiving it at that moment. A later echo
        serves as well: the server has read the batch before it.
        """
        if self._echoing is not None and steady() > self._echo_asked + ECHO_AGAIN:
            with suppress(DisconnectedError):
                self._ask_echo()

    def _on_echo(self, number: int, headers: bytes | None, payload: bytes | None) -> None:
        if number != self._echo_number:
            return  # an earlier batch has its echo already
        self._echo_number += 1
        was_late = steady() - self._echo_sent > ECHO_TIME
        if payload is None:
            self._lose()
            return
        batch, self._echoing = self._echoing or [], None
        messages, self._echoing_messages = self._echoing_messages, []
        self._denied.restart()
        if self._denied:
            batch, messages = self._without_denied(batch, messages)
        self._on_confirmed(batch, messages)
        if self._sent:
            try:
                self._echo()
            except DisconnectedError:
                self._lose()
        if was_late:
            self._on_clear()

    def _lose(self) -> None:
        """Handle a lost connection: it is unknown whether these arrived."""
        lost = [*(self._echoing or []), *self._sent]
        self._echoing, self._sent = None, []
        self._echoing_messages, self._sent_messages = [], []
        self._denied.clear()
        self._on_lost(lost)

    # Refusals

    def deny(self, subject: str) -> None:
        """Record a refused publication; the server reports it before the echo of its batch."""
        self._denied.add(subject)

    def _find(self, place: int) -> tuple[Item, bytes] | None:
        """Return the unconfirmed item at a place in the order of sending, and its subject."""
        echoing, messages = self._echoing or [], self._echoing_messages
        if place >= len(echoing):
            place -= len(echoing)
            echoing, messages = self._sent, self._sent_messages
            if place >= len(echoing):
                return None
        return echoing[place][0], messages[place].subject

    def _without_denied(
        self, batch: list[Due], messages: list[Outgoing]
    ) -> tuple[list[Due], list[Outgoing]]:
        """Report refused messages, and return the others."""
        rest: list[Due] = []
        rest_messages: list[Outgoing] = []
        for due, message in zip(batch, messages, strict=True):
            subject = self._denied.take(due[0])
            if subject is None:
                rest.append(due)
                rest_messages.append(message)
            else:
                self._on_denied(due, subject)
        return rest, rest_messages
