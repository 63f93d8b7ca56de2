"""Splits the bytes from a server into messages (NATS client protocol)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Protocol

from gozo.runtime.logs import get_logger

Handler = Callable[[bytes, bytes, bytes | None, bytes], None]
"""Takes subject, reply subject, header block or None, and payload. Must not block."""

MAX_CONTROL_LINE = 1024 * 1024  # bytes; only INFO lines come near it
MOST_PAYLOAD = 64 * 1024 * 1024
"""The most bytes of a message, even if the server's own limit is lower: that may just have been
lowered."""

log = get_logger("gozo.connection")


class Receiver(Protocol):
    """The client that uses a parser."""

    @property
    def handlers(self) -> Mapping[bytes, Handler]:
        """The handler of each subscription, by its id on the wire. Always the same object."""

    @property
    def max_payload(self) -> int:
        """Bytes that the server accepts in a message."""

    def write(self, data: bytes) -> None:
        """Send bytes of the protocol."""

    def note_info(self, news: object) -> None:
        """Note the server's INFO; raises ValueError if it is not one."""

    def server_error(self, text: str) -> None:
        """Handle an error line of the server."""


class WireParser:
    """Dispatches the messages of one connection to the handlers of its subscriptions."""

    def __init__(self, receiver: Receiver, portion: int) -> None:
        """`portion`: how many messages are dispatched before other tasks run."""
        self._receiver = receiver
        self._handlers = receiver.handlers
        self._portion = portion
        self.carried = False
        """Whether a message has arrived since `reset_carried`."""
        self.reset()

    def reset(self) -> None:
        """Forget an incomplete message."""
        self._rest = bytearray()
        self._needed = 0

    def reset_carried(self) -> None:
        """Start to watch for a message."""
        self.carried = False

    async def parse(self, data: bytes = b"") -> None:
        """Dispatch each complete message in the bytes read, in portions.

        Other tasks run in between: they may have due deliveries.

        Raises:
            ValueError: this is not the NATS protocol.
        """
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return
            data = bytes(self._rest)
            self._rest.clear()
        used, more = self._consume(data, 0)
        while more:
            await asyncio.sleep(0)
            used, more = self._consume(data, used)
        if used < len(data):
            self._rest += data[used:] if used else data
        else:
            self._needed = 0

    def _consume(self, data: bytes, position: int) -> tuple[int, bool]:
        """Dispatch a portion of `data`; return where the next message begins, and whether to go on.

        If that message is incomplete, `_needed` is its size, or 0 if unknown.
        """
        size = len(data)
        handlers = self._handlers
        for _ in range(self._portion):
            if position >= size:
                break
            end = data.find(b"\r\n", position)
            if end < 0:
                if size - position > MAX_CONTROL_LINE:
                    raise ValueError("the server sent a line without an end")
                self._needed = 0
                break
            # The server puts exactly one space between words; other white space may be part of
            # a subject.
            words = data[position:end].split(b" ")
            operation = words[0]
            start = end + 2
            with_headers = operation == b"HMSG"
            if with_headers:
                body = start + int(words[-2])
            elif operation == b"MSG":
                body = start
            else:
                self._control(operation, data[position:end])
                position = start
                continue
            finish = start + int(words[-1])
            if not body <= finish <= size - 2:
                self._check_size(finish - start, finish - body)
                self._needed = finish + 2 - position
                break
            position = finish + 2
            self.carried = True
            handler = handlers.get(words[2])
            if handler is None:
                continue
            reply = words[3] if len(words) == 5 + with_headers else b""
            headers = data[start:body] if with_headers else None
            try:
                handler(words[1], reply, headers, data[body:finish])
            except Exception:
                # A handler that fails affects only its own message.
                name = words[1].decode("utf-8", "replace")
                log.exception("connection.handler_failed", subject=name)
        else:
            return position, True
        return position, False

    def _check_size(self, size: int, payload: int) -> None:
        """Refuse to wait for a message of a size that no server would send.

        Raises:
            ValueError: the message or its payload cannot have that size.
        """
        if payload < 0 or size > max(self._receiver.max_payload, MOST_PAYLOAD):
            raise ValueError(f"the server sent a message of {size} bytes, {payload} of payload")

    def _control(self, operation: bytes, line: bytes) -> None:
        match operation:
            case b"PING":
                self._receiver.write(b"PONG\r\n")
            case b"PONG" | b"+OK" | b"":
                pass
            case b"-ERR":
                self._receiver.server_error(line[5:].decode("utf-8", "replace").strip("' "))
            case b"INFO":
                try:
                    news = json.loads(line[5:])
                except RecursionError as error:
                    raise ValueError("the server sent an INFO line without an end") from error
                self._receiver.note_info(news)
            case _:
                raise ValueError("the server sent something other than the NATS protocol")
