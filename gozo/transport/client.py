"""A NATS client that no message can kill: nats-py's, with its own way to read and write.

nats-py 2.16 makes the connection: addresses, TLS, authentication. What comes after is done
here, because there nats-py can be stopped or made to lose messages from outside:

- Its parser splits a line at any white space and decodes subjects as it goes, so a subject
  with a vertical tab or one that is not UTF-8 ends the connection; a header block of exactly
  `NATS/1.0` ends its reader. Here subjects, headers and payloads are handed on as bytes.
- A PONG that comes after its `flush()` timed out ends its reader. Here nobody waits for one:
  whatever is heard shows that the link lives.
- What was written while the connection was lost is sent after a reconnect, however late.
  Here a client lives for one connection; what it had buffered dies with it.
- A server that ends the connection before its first PONG counts as connected to. Here not.
- Servers that the first INFO names are believed, though it came before TLS. Here not.
- `publish` waits in a buffer for a task to flush it. Here bytes reach the transport in the
  same turn of the event loop, or at once.

It uses private names of nats-py, hence the pinned version; a test holds each cure.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

from nats import errors as nats_errors
from nats.aio.client import Client

from gozo.runtime.clock import steady
from gozo.runtime.logs import get_logger

Handler = Callable[[bytes, bytes, bytes | None, bytes], None]
"""Takes subject, reply subject, header block or None, and payload. Must not block."""

READ_SIZE = 64 * 1024  # bytes
WRITE_BUFFER = 1024 * 1024  # bytes that the transport takes before it asks to wait
MAX_CONTROL_LINE = 1024 * 1024  # bytes; only INFO lines come near it
MOST_PAYLOAD = 64 * 1024 * 1024
"""Bytes that a message may have of a server that takes no more itself: it may have been set lower
just now."""
LARGEST_LIMIT = (1 << 31) - 1  # of nats-server's max_payload
MAX_PINGS = 2
PING_INTERVAL = 1  # seconds: a connection that is dead is noticed within three

log = get_logger("gozo.connection")


class HardenedClient(Client):
    """One connection to one server. It does not reconnect: make another one."""

    def __init__(
        self,
        *,
        secure: bool,
        portion: int,
        on_lost: Callable[[str], None],
        on_error: Callable[[str], None],
        on_larger: Callable[[], None],
    ) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._secure = secure
        self._on_lost = on_lost
        self._on_error = on_error
        self._on_larger = on_larger
        self.handlers: dict[bytes, Handler] = {}
        """Who takes the messages of each subscription, by its id as it comes over the wire."""
        self._lost = False
        self._outgoing: list[bytes] = []
        self._waiting = 0  # bytes in `_outgoing`
        self._written = 0
        self._heard = False
        self.carried = False
        """Whether a message has come since somebody set this back."""
        self.lived_at = steady()
        """When something had last moved on the link, on the steady clock; within a second."""
        self._ps = WireParser(self, portion)  # type: ignore[assignment]  # same methods, no base class

    @property
    def info(self) -> dict[str, Any]:
        """What the server said of itself."""
        said: object = self._server_info  # whatever JSON it was
        return said if isinstance(said, dict) else {}

    @property
    def address(self) -> str:
        """The address of the server, as it was connected to."""
        url = self.connected_url
        return "" if url is None else f"{url.scheme}://{url.hostname}:{url.port}"

    @property
    def buffered(self) -> int:
        """Bytes that the operating system has not taken yet."""
        self.push()
        return 0 if self._lost else self._stream.transport.get_write_buffer_size()

    @property
    def backlog(self) -> int:
        """Bytes that wait to be sent, without pushing them."""
        if self._lost:
            return 0
        return self._waiting + self._socket.get_write_buffer_size()

    async def open(self, *, timeout: float, **options: Any) -> None:
        """Connect within `timeout` seconds; `options` name one server in `servers`.

        Raises:
            OSError, nats.errors.Error, TimeoutError: as nats-py raises them.
            ConnectionError: the server ended the connection instead of answering a first PING.
            ValueError: what it said of itself is not what NATS servers say.
        """
        try:
            async with asyncio.timeout(timeout):
                await self.connect(
                    allow_reconnect=False,
                    connect_timeout=max(1, int(timeout)),
                    error_cb=_ignore,
                    **options,
                )
        except OSError as error:
            if words := self._last_words():
                raise nats_errors.Error(f"nats: {words}") from error
            raise
        check_info(self._server_info)
        if not self.is_connected:
            # nats-py takes the end of the connection for an answer, and returns.
            raise ConnectionResetError("the first PING was not answered")
        self._socket = self._stream.transport
        self._socket.set_write_buffer_limits(high=WRITE_BUFFER)
        if self._socket.get_extra_info("ssl_object") is not None:
            # nats-py makes a reader as for a plain link, which at the end would want to go on
            # half closed; TLS cannot, and asyncio warns of it. Nor does it tell the reader of
            # its transport, which then reads without end however much is still to be handled.
            self._socket.get_protocol()._over_ssl = True  # type: ignore[attr-defined]
            self._transport._io_reader.set_transport(self._socket)  # type: ignore[union-attr]
            if not self.options["tls_handshake_first"]:
                # It came before TLS, when whoever is in between could write it. What servers
                # there are is believed once an INFO inside of TLS says so.
                self.info.pop("connect_urls", None)

    def _last_words(self) -> str:
        """The error line of a server that ended the connection at once; empty if none was read.

        A full server sends its line behind INFO, and closes. What nats-py writes then fails
        before it has read that line.
        """
        if not self._transport:
            return ""
        unread = bytes(self._transport._io_reader._buffer)  # type: ignore[attr-defined]
        line = re.search(rb"-ERR ([^\r]*)\r\n", unread)
        return line[1].decode("utf-8", "replace") if line else ""

    def write(self, data: bytes) -> None:
        """Send bytes of the protocol with the next turn of the event loop, in order.

        What is written within one turn goes to the transport as one piece: that is several
        times cheaper for a burst of small messages. Nothing happens once the link is lost.
        """
        if not self._lost:
            self._outgoing.append(data)
            self._waiting += len(data)
            if len(self._outgoing) == 1:
                self._loop.call_soon(self.push)

    def push(self) -> None:
        """Hand what was written to the transport now."""
        if not self._lost and self._stream.transport.is_closing():
            # The transport knows before its reader is told; uvloop's then refuses to write.
            self.lose("the connection was closed")
        if self._outgoing and not self._lost:
            data = b"".join(self._outgoing)
            self._outgoing.clear()
            self._waiting = 0
            self._written += len(data)
            self._stream.write(data)

    async def emptied(self) -> None:
        """Wait until the operating system has taken everything."""
        while self.buffered:  # noqa: ASYNC110  # a transport tells of less, not of empty
            await asyncio.sleep(0.01)

    async def drained(self) -> None:
        """Wait until the transport has room again.

        Raises:
            ConnectionError: the connection was lost meanwhile.
        """
        await self._stream.drain()

    def listen(self, subject: str, handler: Handler, queue: str = "", most: int = 0) -> int:
        """Subscribe, in a queue group or for oneself; the server ends it after `most` messages.

        Messages go to `handler` as they are read; 0 is without end. Returns the subscription's id.
        """
        self._sid += 1
        self.handlers[b"%d" % self._sid] = handler
        self.write(f"SUB {subject} {queue} {self._sid}\r\n".encode())
        if most:
            self.write(b"UNSUB %d %d\r\n" % (self._sid, most))
        return self._sid

    def unlisten(self, sid: int, *, hear_out: bool = False) -> None:
        """End a subscription; with `hear_out` its handler still takes what is on its way."""
        if (known := b"%d" % sid) in self.handlers:
            self.write(b"UNSUB %b\r\n" % known)
            if not hear_out:
                del self.handlers[known]

    def lose(self, reason: str) -> None:
        """Give the connection up, at once and with all that is buffered."""
        if self._lost:
            return
        self._lost = True
        self._outgoing.clear()
        self._status = Client.CLOSED
        current = _current_task()
        for task in (self._reading_task, self._ping_interval_task, self._flusher_task):
            if task is not None and task is not current:
                task.cancel()
        if self._transport:
            self._stream.transport.abort()
        self._on_lost(reason)

    def note_info(self, news: object) -> None:
        """Take in what the server says of itself.

        Raises:
            ValueError: NATS servers do not say that.
        """
        self._server_info.update(check_info(news))
        before = self._max_payload
        self._max_payload = self._server_info.get("max_payload", before)
        if self._max_payload > before:
            self._on_larger()

    def server_error(self, text: str) -> None:
        """Take an error line of the server: a missing permission, or the end."""
        self._on_error(text)
        if not text.lower().startswith("permissions violation"):
            self.lose(text)

    @property
    def _stream(self) -> asyncio.StreamWriter:
        writer: asyncio.StreamWriter = self._transport._io_writer  # type: ignore[union-attr]
        return writer

    # What follows replaces methods that nats-py calls itself.

    async def _select_next_server(self) -> None:
        server = self._server_pool[0]
        await self._connect_to_server(server)
        self._current_server = server
        protocol = getattr(getattr(self._transport, "_io_writer", None), "_protocol", None)
        closed = getattr(protocol, "_closed", None)
        if closed is not None:
            # What ended a connection is reported elsewhere; asyncio may log it again, at the end.
            closed.add_done_callback(_retrieve)

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if not initial_connection:
            self.note_info(info)
            return
        if self.options["tls_handshake_first"]:
            return  # it came through TLS
        uri = self._current_server.uri if self._current_server else None
        if self._secure or (uri is not None and uri.scheme == "tls"):
            if info.get("tls_available"):
                info["tls_required"] = True
            if not info.get("tls_required"):
                raise nats_errors.SecureConnRequiredError

    async def _process_err(self, err_msg: str) -> None:
        self.server_error(err_msg)

    async def _process_op_err(self, e: Exception) -> None:
        self.lose(str(e) or type(e).__name__)

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        if self._transport:
            self.lose("closed")

    async def _ping_interval(self) -> None:
        """Give the link up once nothing has moved on it for a few PINGs.

        On a slow link a PONG waits behind all that is still to be sent, so what the operating
        system takes from a buffer that was not empty counts as a sign of life as well.
        """
        left, taken = 0, 0
        while not self._lost:
            await asyncio.sleep(PING_INTERVAL)
            moved = left > 0 and self._written - self.buffered > taken
            left, taken = self.buffered, self._written - self.buffered
            if self._heard or moved:
                self._pings_outstanding = 0
                self.lived_at = steady()
            self._heard = False
            if self._pings_outstanding >= MAX_PINGS:
                self.lose("the server does not answer")
            self._pings_outstanding += 1
            self.write(b"PING\r\n")

    async def _read_loop(self) -> None:
        assert self._transport is not None
        try:
            while not self._lost:
                data = await self._transport.read(READ_SIZE)
                if not data:
                    self.lose("the server closed the connection")
                else:
                    self._heard = True
                    await self._ps.parse(data)
                    if len(data) == READ_SIZE:
                        # More is there already, and what is due must not wait for all of it.
                        await asyncio.sleep(0)
        except (OSError, ValueError, LookupError, nats_errors.Error) as error:
            self.lose(str(error) or type(error).__name__)


class WireParser:
    """Splits what the server sends into messages (NATS client protocol)."""

    def __init__(self, client: HardenedClient, portion: int) -> None:
        self._client = client
        self._portion = portion
        """How many messages are dispatched before others get their turn."""
        self.reset()

    def reset(self) -> None:
        """Forget an unfinished message."""
        self._rest = bytearray()
        self._needed = 0

    async def parse(self, data: bytes = b"") -> None:
        """Take in what was read and dispatch each message that is complete, in portions.

        Others get their turn between these, who may have to send what is due.

        Raises:
            ValueError: it is not the protocol.
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
        """Dispatch some messages in `data`; return where the next begins, and if it may be there.

        Without all of it there, `_needed` is how long it is; 0 if that is not known either.
        """
        size = len(data)
        client = self._client
        handlers = client.handlers
        for _ in range(self._portion):
            if position >= size:
                break
            end = data.find(b"\r\n", position)
            if end < 0:
                if size - position > MAX_CONTROL_LINE:
                    raise ValueError("the server sent a line without an end")
                self._needed = 0
                break
            # The server puts exactly one space between words; white space of other kinds
            # may be part of a subject.
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
            client.carried = True
            handler = handlers.get(words[2])
            if handler is None:
                continue
            reply = words[3] if len(words) == 5 + with_headers else b""
            headers = data[start:body] if with_headers else None
            try:
                handler(words[1], reply, headers, data[body:finish])
            except Exception:
                # One that fails fails alone.
                name = words[1].decode("utf-8", "replace")
                log.exception("connection.handler_failed", subject=name)
        else:
            return position, True
        return position, False

    def _check_size(self, size: int, payload: int) -> None:
        """Refuse to wait for a message of a size that no server would send.

        Raises:
            ValueError: for the whole or its payload there is no such size.
        """
        if payload < 0 or size > max(self._client.max_payload, MOST_PAYLOAD):
            raise ValueError(f"the server sent a message of {size} bytes, {payload} of payload")

    def _control(self, operation: bytes, line: bytes) -> None:
        match operation:
            case b"PING":
                self._client.write(b"PONG\r\n")
            case b"PONG" | b"+OK" | b"":
                pass
            case b"-ERR":
                self._client.server_error(line[5:].decode("utf-8", "replace").strip("' "))
            case b"INFO":
                try:
                    news = json.loads(line[5:])
                except RecursionError as error:
                    raise ValueError("the server sent an INFO line that does not end") from error
                self._client.note_info(news)
            case _:
                raise ValueError("the server sent something that is not the NATS protocol")


def check_info(info: object) -> dict[str, Any]:
    """Return an INFO in which that can be used which gozo reckons with.

    Raises:
        ValueError: it is not what NATS servers say of themselves.
    """
    if not isinstance(info, dict):
        raise ValueError("the server sent an INFO that is not a JSON object")  # noqa: TRY004
    limit = info.get("max_payload", LARGEST_LIMIT)
    if type(limit) is not int or not 0 < limit <= LARGEST_LIMIT:
        raise ValueError(f"the server says that its max_payload is {str(limit)[:80]!r}")
    return info


async def _ignore(error: Exception) -> None:
    """Errors are raised by what was called, or told to `on_lost` and `on_error`."""


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _retrieve(closed: asyncio.Future[None]) -> None:
    if not closed.cancelled():
        closed.exception()
