"""Answers HTTP on `--metrics`: figures for Prometheus, and whether the daemon is alive and ready.

    /metrics    the figures: see `gozo.metrics`
    /healthz    200 while no part hangs, else 503
    /readyz     200 while the daemon leads or stands by, else 503 and the reason

It is served by the event loop itself, so that an answer shows that the loop turns. Only as much
of HTTP/1.1 (RFC 9112) as a scraper speaks: one request a connection, GET and HEAD.
"""

from __future__ import annotations

import asyncio
import os
from http import HTTPStatus

from gozo.errors import GozoError
from gozo.logs import get_logger
from gozo.metrics import Metrics
from gozo.vitals import Vitals

PATIENCE = 5.0  # seconds for a request to come, and for the answer to be taken
LONGEST = 16 * 1024  # bytes of a request
MOST = 32  # requests at a time
WORDS = 3  # of the first line: method, target, version

log = get_logger("gozo.monitor")


class Monitor:
    """The listener of one daemon."""

    def __init__(self, vitals: Vitals, address: tuple[str, int]) -> None:
        self._vitals = vitals
        self._metrics = Metrics(vitals)
        self._address = address
        self._server: asyncio.Server | None = None
        self._requests = 0

    async def open(self) -> None:
        """Listen.

        Raises:
            GozoError: one cannot listen there.
        """
        host, port = self._address
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            self._server = await asyncio.start_server(self._serve, host, port, limit=LONGEST)
        except OSError as error:
            # asyncio's own words repeat the address; names that are not found have no errno.
            number = error.errno or 0
            reason = os.strerror(number) if number > 0 else error.strerror or str(error)
            raise GozoError(
                f"one cannot listen on {shown} ({reason}): give --metrics another address or port"
            ) from error
        bound = self._server.sockets[0].getsockname()
        log.info("metrics.ready", address=bound[0], port=bound[1])

    def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._requests += 1
        try:
            if self._requests <= MOST:
                async with asyncio.timeout(PATIENCE):
                    try:
                        head = await reader.readuntil(b"\r\n\r\n")
                    except asyncio.LimitOverrunError:
                        # Closed with something unread, the connection would be reset.
                        while await reader.read(LONGEST):
                            pass
                        raise
                    writer.write(self._answer(head))
                    await writer.drain()
        except (TimeoutError, OSError, EOFError, asyncio.LimitOverrunError) as error:
            log.debug("metrics.unanswered", reason=error)
        finally:
            self._requests -= 1
            writer.close()

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
                part = self._vitals.hangs()
                return _verdict(f"the {part} hangs" if part else "", "alive")
            case "/readyz":
                return _verdict(self._vitals.unready(), self._vitals.role)
            case _:
                known = "not here: ask for /metrics, /healthz or /readyz"
                return _response(HTTPStatus.NOT_FOUND, known)


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
