"""Answers HTTP on `--metrics`: metrics for Prometheus, and whether the daemon is alive and ready.

    /metrics    the metrics: see `gozo.monitoring.prometheus`
    /healthz    200 while no part hangs, else 503
    /readyz     200 while it serves (see `gozo.leadership.serving`), else 503 and the reason

It is served by the event loop itself, so that an answer shows that the loop turns. Only as much
of HTTP/1.1 (RFC 9112) as a scraper speaks: one request a connection, GET and HEAD.
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

PATIENCE = 5.0  # seconds for a request to come, and for the answer to be taken
LONGEST = 16 * 1024  # bytes of a request
MOST = 256  # connections at a time: more than are accepted at once, so that each is heard
TRIES = 20  # to find a port that is free on all addresses
WORDS = 3  # of the first line: method, target, version

log = get_logger("gozo.monitor")


class HttpServer:
    """The listener of one daemon."""

    def __init__(self, health: Health, address: tuple[str, int]) -> None:
        self._health = health
        self._metrics = Metrics(health)
        self._address = address
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.StreamWriter, None] = {}
        """The connections, the oldest first."""

    async def open(self) -> None:
        """Listen.

        Raises:
            GozoError: one cannot listen there.
        """
        host, port = self._address
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            self._server = await self._listen(host, port)
        except OSError as error:
            # asyncio's own words repeat the address; names that are not found have no errno.
            number = error.errno or 0
            reason = os.strerror(number) if number > 0 else error.strerror or str(error)
            raise GozoError(
                f"one cannot listen on {shown} ({reason}): give --metrics another address or port"
            ) from error
        bound = [one.getsockname() for one in self._server.sockets]
        log.info("metrics.ready", address=",".join(one[0] for one in bound), port=bound[0][1])

    async def _listen(self, host: str, port: int) -> asyncio.Server:
        """Listen on all addresses of a host, on one port, also where it is left to the system.

        Raises:
            OSError: one cannot.
        """
        chosen = port
        for _ in range(TRIES):
            try:
                # Of port 0 the system would make another one for each address.
                chosen = port or _free_port()
                return await asyncio.start_server(self._serve, host, chosen, limit=LONGEST)
            except OSError as error:
                if port or error.errno != errno.EADDRINUSE:
                    raise
        raise OSError(errno.EADDRINUSE, "no port is free on all addresses")

    def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open[writer] = None
        if len(self._open) > MOST:
            # Whoever has a request sends it at once: the oldest has none, or takes no answer.
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        try:
            async with asyncio.timeout(PATIENCE):
                try:
                    head = await reader.readuntil(b"\r\n\r\n")
                except asyncio.LimitOverrunError:
                    # Closed with something unread, the connection would be reset.
                    while await reader.read(LONGEST):
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
        if len(words) != WORDS or not words[2].startswith("HTTP/1."):
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
                part = self._health.hangs()
                return _verdict(f"the {part} hangs" if part else "", "alive")
            case "/readyz":
                return _verdict(self._health.problem(), self._health.role)
            case _:
                known = "not here: ask for /metrics, /healthz or /readyz"
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
