"""The HTTP server of `--metrics`: metrics for Prometheus, liveness and readiness.

    /metrics    the metrics: see `gozo.monitoring.prometheus`
    /healthz    200 while no part hangs, else 503
    /readyz     200 while the daemon serves (see `gozo.leadership.serving`), else 503 and why not

The server runs in the daemon's event loop, so an answer proves that the loop turns. It supports
only the part of HTTP/1.1 (RFC 9112) that a scraper needs: GET and HEAD, one request per connection.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from http import HTTPStatus

from gozo.errors import GozoError
from gozo.monitoring.health import Health
from gozo.monitoring.prometheus import Metrics
from gozo.runtime.logs import get_logger

EXCHANGE_TIME = 5.0  # seconds for a request to arrive and the response to be sent
MAX_REQUEST = 16 * 1024  # bytes of a request
MAX_CONNECTIONS = 256  # more than asyncio accepts at once, so that each gets its turn
PORT_TRIES = 20  # to find a port that is free on all addresses
FIRST_LINE = 3  # words in the first line: method, target, version

log = get_logger("gozo.monitor")


class HttpServer:
    """The HTTP server of one daemon."""

    def __init__(self, health: Health, address: tuple[str, int]) -> None:
        self._health = health
        self._metrics = Metrics(health)
        self._address = address
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.StreamWriter, None] = {}
        """The open connections, the oldest first."""

    async def open(self) -> None:
        """Listen.

        Raises:
            GozoError: the address is in use, or not one of this host.
        """
        host, port = self._address
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            self._server = await self._listen(host, port)
        except OSError as error:
            # asyncio's own text repeats the address; a name that is not found has no errno.
            number = error.errno or 0
            reason = os.strerror(number) if number > 0 else error.strerror or str(error)
            raise GozoError(
                f"cannot listen on {shown} ({reason}): give --metrics another address or port"
            ) from error
        bound = [one.getsockname() for one in self._server.sockets]
        log.info("metrics.ready", address=",".join(one[0] for one in bound), port=bound[0][1])

    async def _listen(self, host: str, port: int) -> asyncio.Server:
        """Listen on all addresses of a host, on one port; 0: a port that the system picks.

        Raises:
            OSError: the port is in use, or the host has no such address.
        """
        chosen = port
        for _ in range(PORT_TRIES):
            try:
                # For port 0 the system would pick a different port for each address.
                chosen = port or _free_port()
                return await asyncio.start_server(self._serve, host, chosen, limit=MAX_REQUEST)
            except OSError as error:
                if port or error.errno != errno.EADDRINUSE:
                    raise
        raise OSError(errno.EADDRINUSE, "no port is free on all addresses")

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open[writer] = None
        if len(self._open) > MAX_CONNECTIONS:
            # A scraper sends its request at once: the oldest sent none, or reads no answer.
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        try:
            async with asyncio.timeout(EXCHANGE_TIME):
                try:
                    head = await reader.readuntil(b"\r\n\r\n")
                except asyncio.LimitOverrunError:
                    # If data were left unread, closing would reset the connection.
                    while await reader.read(MAX_REQUEST):
                        pass
                    raise
                writer.write(self._answer(head))
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError, EOFError, asyncio.LimitOverrunError) as error:
            log.debug("metrics.unanswered", reason=error)
        finally:
            self._open.pop(writer, None)
            writer.transport.abort()

    def _answer(self, head: bytes) -> bytes:
        lines = head.decode("latin-1").split("\r\n")
        words = lines[0].split(" ")
        if len(words) != FIRST_LINE or not words[2].startswith("HTTP/1."):
            return _response(HTTPStatus.BAD_REQUEST, "not HTTP/1.1")
        method, path = words[0], words[1].partition("?")[0]
        if method not in ("GET", "HEAD"):
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD", allow="GET, HEAD")
        answer = self._page(path, _field(lines, "accept"))
        return answer if method == "GET" else answer.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"

    def _page(self, path: str, accept: str) -> bytes:
        match path:
            case "/metrics":
                body, kind = self._metrics.text(accept)
                return _response(HTTPStatus.OK, body, kind=kind)
            case "/healthz":
                part = self._health.hung()
                return _verdict(f"the {part} hangs" if part else "", "alive")
            case "/readyz":
                return _verdict(self._health.problem(), self._health.role)
            case _:
                known = "not found: try /metrics, /healthz or /readyz"
                return _response(HTTPStatus.NOT_FOUND, known)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def _verdict(problem: str, words: str) -> bytes:
    if problem:
        return _response(HTTPStatus.SERVICE_UNAVAILABLE, problem)
    return _response(HTTPStatus.OK, words)


def _response(
    status: HTTPStatus,
    body: bytes | str,
    *,
    kind: str = "text/plain; charset=utf-8",
    allow: str = "",
) -> bytes:
    content = body if isinstance(body, bytes) else f"{body}\n".encode()
    lines = [
        f"HTTP/1.1 {status.value} {status.phrase}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(content)}",
        "Cache-Control: no-store",
        "Connection: close",
        *([f"Allow: {allow}"] if allow else []),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


def _field(lines: list[str], name: str) -> str:
    for line in lines[1:]:
        key, _, value = line.partition(":")
        if key.strip().lower() == name:
            return value.strip()
    return ""
