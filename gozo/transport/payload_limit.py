"""Checks the server's limit on the size of messages again when one was too large.

A server announces a raised limit only to new connections, so one is made to ask.
"""

from __future__ import annotations

import asyncio

from gozo.errors import GozoError
from gozo.runtime.clock import steady
from gozo.runtime.logs import get_logger
from gozo.runtime.tasks import end
from gozo.transport.dialer import Dialer
from gozo.transport.link import Link

ASK_AGAIN = 5.0  # seconds between two checks: each uses one of the account's connections

log = get_logger("gozo.connection")


class PayloadLimit:
    """Checks the limit of the present link."""

    def __init__(self, link: Link, dialer: Dialer) -> None:
        self._link = link
        self._dialer = dialer
        self._asking: asyncio.Task[None] | None = None
        self._asked_at = -ASK_AGAIN

    def doubt(self) -> None:
        """Check the limit again, unless that was just done."""
        now = steady()
        if self._link.connected and now >= self._asked_at + ASK_AGAIN:
            self._asked_at = now
            self._asking = asyncio.create_task(self._ask(), name="ask for limits")

    async def close(self) -> None:
        """Stop a check."""
        await end(self._asking)

    async def _ask(self) -> None:
        client = self._link.client
        try:
            info = await self._dialer.ask_info()
        except GozoError as error:
            log.debug("connection.limits_unknown", reason=str(error))
            return
        # Another server may be behind the same address.
        if client is not None and info.get("server_id") == client.info.get("server_id"):
            client.note_info({"max_payload": info["max_payload"]})
