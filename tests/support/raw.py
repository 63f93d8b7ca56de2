"""A NATS client of a few lines on a plain socket: every byte as it is on the wire.

For what a client library hides or refuses: the exact header block of a delivery, and
requests that no proper client would send. The benchmarks use it because it adds next to
nothing to what they measure.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from tests.support.patience import allow

CHUNK = 256 * 1024  # bytes read at once
CONNECT = b'CONNECT {"verbose":false,"headers":true,"no_responders":true,"lang":"test"}\r\n'


@dataclass(frozen=True, slots=True)
class RawMessage:
    """A message as it came: when, and its header block, payload and reply subject in bytes."""

    at_ns: int
    subject: bytes
    headers: bytes
    payload: bytes
    reply: bytes = b""


def request(
    subject: bytes, *, reply: bytes = b"", headers: bytes | None = None, payload: bytes = b""
) -> bytes:
    """Return the bytes that publish a message; `headers` is a whole block or None."""
    to = subject + b" " + reply + b" " if reply else subject + b" "
    if headers is None:
        return b"PUB %s%d\r\n%s\r\n" % (to, len(payload), payload)
    sizes = b"%d %d" % (len(headers), len(headers) + len(payload))
    return b"HPUB %s%s\r\n%s%s\r\n" % (to, sizes, headers, payload)


def header_block(**headers: str) -> bytes:
    """Return a header block; `Gozo_When="+1"` stands for `Gozo-When: +1`."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(["NATS/1.0", *lines, "", ""]).encode()


class RawClient:
    """One plain connection. Blocking, with a bound on every wait."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection(
            (parts.hostname or "127.0.0.1", parts.port or 4222), timeout=allow(5)
        )
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self._waiting: list[RawMessage] = []
        self._subscriptions = 0
        self._pongs = 0
        self._socket.sendall(CONNECT)

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._socket.sendall(data)

    def subscribe(self, subject: str) -> None:
        """Listen on a subject, from now on."""
        self._subscriptions += 1
        self.send(f"SUB {subject} {self._subscriptions}\r\n".encode())
        self.confirm()

    def confirm(self) -> None:
        """Return when the server has taken everything that was sent before.

        PING and PONG prove it here, where nothing waits in a buffer of the client's.
        """
        expected = self._pongs + 1
        self.send(b"PING\r\n")
        while self._pongs < expected:
            self._read(allow(5))

    def receive(self, timeout: float | None = None) -> list[RawMessage]:
        """Return the messages that came next, at least one.

        Raises TimeoutError when none has come for `timeout` seconds. The time noted with a
        message is when its last bytes were read, before anything was done with them.
        """
        bound = allow(10) if timeout is None else timeout
        while not self._waiting:
            self._read(bound)
        messages, self._waiting = self._waiting, []
        return messages

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _read(self, timeout: float) -> None:
        """Read once, and take in every protocol line that is complete."""
        self._socket.settimeout(timeout)
        data = self._socket.recv(CHUNK)
        at_ns = time.time_ns()
        if not data:
            raise ConnectionError("the server closed the connection")
        buffer = self._buffer + data if self._buffer else data
        position = 0
        while (end := buffer.find(b"\r\n", position)) >= 0:
            line = buffer[position:end]
            after = end + 2
            if line.startswith((b"MSG ", b"HMSG ")):
                parts = line.split(b" ")
                total = int(parts[-1])
                has_headers = line.startswith(b"H")
                if len(buffer) < after + total + 2:
                    break
                header_end = after + (int(parts[-2]) if has_headers else 0)
                message_end = after + total
                headers, payload = buffer[after:header_end], buffer[header_end:message_end]
                reply = parts[3] if len(parts) > 4 + has_headers else b""
                self._waiting.append(RawMessage(at_ns, parts[1], headers, payload, reply))
                after = message_end + 2
            else:
                self._control(line)
            position = after
        self._buffer = buffer[position:]

    def _control(self, line: bytes) -> None:
        if line == b"PING":
            self.send(b"PONG\r\n")
        elif line == b"PONG":
            self._pongs += 1
        elif line.startswith(b"-ERR"):
            raise ConnectionError(line.decode())
