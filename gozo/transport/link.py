"""The present link to a server: its client, and why the last one was lost.

The parts of a connection share the link, which knows none of them: a part that must act on the
loss of a link adds itself to `on_lost`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from gozo.errors import DisconnectedError
from gozo.runtime.clock import steady
from gozo.runtime.logs import get_logger
from gozo.transport.client import HardenedClient

SETTLED = 1.0  # seconds that a link must last to be replaced at once when it is lost
DEFAULT_MAX_PAYLOAD = 1024 * 1024  # bytes; the default of nats-server

log = get_logger("gozo.connection")


class Link:
    """The present link; its clients report their state to it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.client: HardenedClient | None = None
        """The client of the present or the last link; None before the first and after `close`."""
        self.connected = False
        self.epoch = 0
        """The number of links so far."""
        self.failure = ""
        """Why the link was lost, or the last attempt to make one failed; empty while connected."""
        self.on_lost: list[Callable[[], None]] = []
        self.on_error: list[Callable[[str], None]] = []
        """Called with each error line of the server."""
        self.on_larger: list[Callable[[], None]] = []
        """Called when the server accepts larger messages than before."""
        self._lost = asyncio.Event()
        self._made_at = self._failed_at = steady()

    def adopt(self, client: HardenedClient) -> None:
        """Use a client that has connected."""
        self.client = client
        self.epoch += 1
        self.connected = True
        self.failure = ""
        self._made_at = steady()
        self._lost.clear()

    def close(self) -> HardenedClient | None:
        """Stop using the client, and return it."""
        client, self.client = self.client, None
        self.connected = False
        return client

    def attempt_failed(self) -> None:
        """Note that an attempt to connect to a server failed."""
        self._failed_at = steady()

    def all_failed(self, reason: str) -> None:
        """Note that the attempts to connect to all servers failed."""
        self.failure = reason

    async def until_lost(self) -> None:
        """Wait until the link is lost; return at once if there is none."""
        await self._lost.wait()

    # Reports of the client

    def client_lost(self, reason: str) -> None:
        """Note that the link is lost."""
        if not self.connected:
            return
        self.connected = False
        self.failure = reason
        self._lost.set()
        log.warning("connection.lost", name=self.name, reason=reason)
        notify(self.on_lost)

    def server_error(self, text: str) -> None:
        """Pass on an error line of the server."""
        notify(self.on_error, text)

    def limit_raised(self) -> None:
        """The server accepts larger messages than before."""
        if self.connected and self.client is not None:
            limit = self.client.max_payload
            log.info("connection.limit_raised", name=self.name, max_payload=limit)
            notify(self.on_larger)

    # Queries

    def require(self) -> HardenedClient:
        """Return the client.

        Raises:
            DisconnectedError: there is no link.
        """
        if not self.connected or self.client is None:
            raise DisconnectedError(f"there is no connection to NATS at the moment{self._because}")
        return self.client

    def lost_error(self) -> DisconnectedError:
        """Return the error for an operation that was lost with the link."""
        return DisconnectedError(f"the connection to NATS was lost{self._because}")

    @property
    def _because(self) -> str:
        return f": {self.failure}" if self.failure else ""

    @property
    def age(self) -> float:
        """Seconds since the link was made."""
        return steady() - self._made_at

    @property
    def stirred_at(self) -> float:
        """When data last moved on the link, or an attempt to make one failed; steady clock."""
        return max(self._failed_at, self.client.lived_at if self.client else 0.0)

    @property
    def info(self) -> dict[str, Any]:
        """The server's INFO."""
        return self.client.info if self.client else {}


def notify(listeners: Iterable[Callable[..., None]], *arguments: object) -> None:
    """Call listeners; one that fails does not affect the others."""
    for listener in tuple(listeners):
        try:
            listener(*arguments)
        except Exception:
            log.exception("connection.handler_failed")
