"""A NATS client that no message can stop: that of nats-py, with its own reading and writing.

nats-py 2.16 makes the connection: addresses, TLS, authentication. The rest is done here, because
others can stop nats-py there, or make it lose messages:

- Its parser splits a line at any white space and decodes subjects as it goes, so a subject
  with a vertical tab or one that is not UTF-8 ends the connection; a header block of exactly
  `NATS/1.0` ends its reader. This client passes subjects, headers and payloads on as bytes.
- A PONG that arrives after its `flush()` timed out ends its reader. This client waits for no
  PONG: anything it receives shows that the link is alive.
- What was written while the connection was lost is sent after a reconnect, however late.
  This client lives for one connection and loses its buffer with it.
- It considers itself connected to a server that ends the connection before the first PONG.
- It believes the list of servers in the first INFO, which came before TLS.
- It waits with `asyncio.wait_for`, which loses a cancellation in the moment that the server answers
  or ends the connection (Python before 3.12): a task would go on after it was cancelled.
- `publish` waits in a buffer for a task to flush it. This client hands bytes to the transport
  in the same turn of the event loop, or at once.

It uses private names of nats-py, hence the pinned version; each point has a test.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from nats import errors as nats_errors
from nats.aio.client import Client

from gozo.runtime.clock import steady
from gozo.transport.parser import Handler, WireParser

READ_SIZE = 64 * 1024  # bytes
WRITE_BUFFER = 1024 * 1024  # bytes that the transport takes before it asks to wait
LARGEST_LIMIT = (1 << 31) - 1  # the largest max_payload of nats-server
MAX_PINGS = 2
PING_INTERVAL = 1  # seconds: a dead connection is noticed within three


class Owner(Protocol):
    """The receiver of the events of a client."""

    def client_lost(self, reason: str) -> None:
        """The connection is lost. Called once."""

    def server_error(self, text: str) -> None:
        """The server sent an error line."""

    def limit_raised(self) -> None:
        """The server accepts larger messages than before."""


class NoOwner:
    """The owner of a client that nobody uses for long."""

    def client_lost(self, reason: str) -> None:
        """Ignore it."""

    def server_error(self, text: str) -> None:
        """Ignore it."""

    def limit_raised(self) -> None:
        """Ignore it."""


class HardenedClient(Client):
    """One connection to one server. It does not reconnect: make another one."""

    def __init__(
        self,
        *,
        secure: bool,
        portion: int,
        owner: Owner,
    ) -> None:
        """Make a client that is not connected yet.

        `secure` demands TLS; `portion` is that of `WireParser`.
        """
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._secure = secure
        self._owner = owner
        self.handlers: dict[bytes, Handler] = {}
        """The handler of each subscription, by its id on the wire."""
        self._lost = False
        self._outgoing: list[bytes] = []
        self._waiting = 0  # bytes in `_outgoing`
        self._written = 0
        self._heard = False
        self.lived_at = steady()
        """When data last moved on the link, on the steady clock, to within a second."""
        self.parser = self._ps = WireParser(self, portion)  # type: ignore[assignment]  # duck-typed

    @property
    def info(self) -> dict[str, Any]:
        """What the server said of itself."""
        said: object = self._server_info  # whatever JSON it was
        return said if isinstance(said, dict) else {}

    @property
    def address(self) -> str:
        """The address of the server, as the connection was made."""
        url = self.connected_url
        return "" if url is None else f"{url.scheme}://{url.hostname}:{url.port}"

    @property
    def buffered(self) -> int:
        """Bytes that the operating system has not taken yet, after a push."""
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
            ConnectionError: the server ended the connection instead of answering the first PING.
            ValueError: its INFO is not that of a NATS server.
        """
        try:
            async with asyncio.timeout(timeout):
                with _raising_lost_cancellation():
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
            # nats-py takes the end of the connection for the PONG, and returns.
            raise ConnectionResetError("the first PING was not answered")
        self._socket = self._stream.transport
        self._socket.set_write_buffer_limits(high=WRITE_BUFFER)
        if self._socket.get_extra_info("ssl_object") is not None:
            # nats-py makes a reader as for a plain link. Such a reader tries to stay half open
            # at the end; TLS cannot, and asyncio warns about it. Without a transport it also
            # never pauses reading, however much is still unhandled.
            self._socket.get_protocol()._over_ssl = True  # type: ignore[attr-defined]
            self._transport._io_reader.set_transport(self._socket)  # type: ignore[union-attr]
            if not self.options["tls_handshake_first"]:
                # That INFO came before TLS, so a man in the middle could have written it. The
                # list of servers is believed once an INFO inside TLS has it.
                self.info.pop("connect_urls", None)

    def _last_words(self) -> str:
        """Return the error line of a server that ended the connection at once; empty if none.

        A full server sends it right after INFO, and closes. Then nats-py fails to write before it
        has read that line.
        """
        if not self._transport:
            return ""
        unread = bytes(self._transport._io_reader._buffer)  # type: ignore[attr-defined]
        line = re.search(rb"-ERR ([^\r]*)\r\n", unread)
        return line[1].decode("utf-8", "replace") if line else ""

    def write(self, data: bytes) -> None:
        """Send bytes of the protocol with the next turn of the event loop, in order.

        Everything written within one turn goes to the transport as one piece, which is several
        times cheaper for a burst of small messages. Does nothing once the link is lost.
        """
        if not self._lost:
            self._outgoing.append(data)
            self._waiting += len(data)
            if len(self._outgoing) == 1:
                self._loop.call_soon(self.push)

    def push(self) -> None:
        """Hand everything written to the transport now."""
        if not self._lost and self._stream.transport.is_closing():
            # The transport knows before its reader does; that of uvloop then refuses to write.
            self.lose("the connection was closed")
        if self._outgoing and not self._lost:
            data = b"".join(self._outgoing)
            self._outgoing.clear()
            self._waiting = 0
            self._written += len(data)
            self._stream.write(data)

    async def emptied(self) -> None:
        """Wait until the operating system has taken everything."""
        while self.buffered:  # noqa: ASYNC110  # a transport reports less, not empty
            await asyncio.sleep(0.01)

    async def drained(self) -> None:
        """Wait until the transport has room again.

        Raises:
            ConnectionError: the connection was lost.
        """
        await self._stream.drain()

    def listen(self, subject: str, handler: Handler, queue: str = "", most: int = 0) -> int:
        """Subscribe, in a queue group if one is given; return the id of the subscription.

        `handler` gets the messages as they are read. The server ends the subscription after `most`
        of them; 0: never.
        """
        self._sid += 1
        self.handlers[b"%d" % self._sid] = handler
        self.write(f"SUB {subject} {queue} {self._sid}\r\n".encode())
        if most:
            self.write(b"UNSUB %d %d\r\n" % (self._sid, most))
        return self._sid

    def unlisten(self, sid: int, *, hear_out: bool = False) -> None:
        """End a subscription; with `hear_out` its handler still gets what is on its way."""
        if (known := b"%d" % sid) in self.handlers:
            self.write(b"UNSUB %b\r\n" % known)
            if not hear_out:
                del self.handlers[known]

    def lose(self, reason: str) -> None:
        """Abort the connection; what is buffered is lost."""
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
        self._owner.client_lost(reason)

    def note_info(self, news: object) -> None:
        """Take what the server says of itself.

        Raises:
            ValueError: no NATS server says that.
        """
        self._server_info.update(check_info(news))
        before = self._max_payload
        self._max_payload = self._server_info.get("max_payload", before)
        if self._max_payload > before:
            self._owner.limit_raised()

    def server_error(self, text: str) -> None:
        """Take an error line of the server: a missing permission, or the end of the link."""
        self._owner.server_error(text)
        if not text.lower().startswith("permissions violation"):
            self.lose(text)

    @property
    def _stream(self) -> asyncio.StreamWriter:
        writer: asyncio.StreamWriter = self._transport._io_writer  # type: ignore[union-attr]
        return writer

    # These replace methods that nats-py calls itself.

    async def _select_next_server(self) -> None:
        server = self._server_pool[0]
        await self._connect_to_server(server)
        self._current_server = server
        protocol = getattr(getattr(self._transport, "_io_writer", None), "_protocol", None)
        closed = getattr(protocol, "_closed", None)
        if closed is not None:
            # The reason is reported elsewhere; without this, asyncio may log it again at the end.
            closed.add_done_callback(_retrieve)

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if not initial_connection:
            self.note_info(info)
            return
        if self.options["tls_handshake_first"]:
            return  # INFO came through TLS
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
        """Abort the link once nothing has moved on it for a few PINGs.

        On a slow link a PONG waits behind everything still to be sent, so it is also a sign of life
        if the operating system takes data from a buffer that was not empty.
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
                        # There is more to read, and due deliveries must not wait for all of it.
                        await asyncio.sleep(0)
        except (OSError, ValueError, LookupError, nats_errors.Error) as error:
            self.lose(str(error) or type(error).__name__)


def check_info(info: object) -> dict[str, Any]:
    """Return an INFO after checking the values that gozo relies on.

    Raises:
        ValueError: it is not that of a NATS server.
    """
    if not isinstance(info, dict):
        raise ValueError("the server sent an INFO that is not a JSON object")  # noqa: TRY004
    limit = info.get("max_payload", LARGEST_LIMIT)
    if type(limit) is not int or not 0 < limit <= LARGEST_LIMIT:
        raise ValueError(f"the server says that its max_payload is {str(limit)[:80]!r}")
    return info


@contextmanager
def _raising_lost_cancellation() -> Iterator[None]:
    """Raise the cancellation of the present task that the block took and did not pass on."""
    task = asyncio.current_task()
    assert task is not None
    before = task.cancelling()
    try:
        yield
    finally:
        if task.cancelling() > before:
            raise asyncio.CancelledError


async def _ignore(error: Exception) -> None:
    """Ignore it: errors are raised by `open`, or go to the owner."""


def _current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def _retrieve(closed: asyncio.Future[None]) -> None:
    if not closed.cancelled():
        closed.exception()
