"""Detects links that look alive but carry no messages."""

from __future__ import annotations

import asyncio

from gozo.errors import DisconnectedError, NoServerError, NotAllowedError
from gozo.runtime.clock import steady
from gozo.transport.inbox import Inbox
from gozo.transport.link import Link

CHECK = 10.0  # seconds between checks, and for the echo of a check to arrive
LAG = 60.0  # seconds without an echo while other messages arrive: on a busy link it comes last


class Liveness:
    """Checks the present link periodically."""

    def __init__(self, link: Link, inbox: Inbox) -> None:
        self._link = link
        self._inbox = inbox
        self.restart()

    def restart(self) -> None:
        """Start over with a new link."""
        self._echoed_at = steady()
        self._may_echo = True
        """Whether the server has not denied an echo on this link."""

    async def watch(self) -> None:
        """Check the link until it is lost."""
        while True:
            try:
                async with asyncio.timeout(CHECK):
                    return await self._link.until_lost()
            except TimeoutError:
                await self._check()

    async def _check(self) -> None:
        """Drop a link that answers PINGs but carries no messages: its subscriptions are gone.

        An echo arrives after all messages that the server has for us, so it may take longer while
        these arrive. There is a limit, since a link may deliver messages but accept none.
        """
        client = self._link.client
        if client is None or not self._may_echo:
            return
        client.parser.reset_carried()
        try:
            await self._inbox.echo(CHECK)
        except NotAllowedError:
            self._may_echo = False  # the denial is a sign of life too, and would be repeated
        except DisconnectedError:
            return
        except NoServerError:
            if client is self._link.client and not client.buffered:
                lag = steady() - self._echoed_at
                if not client.parser.carried or lag > LAG:
                    client.lose("it carries no messages")
            return
        self._echoed_at = steady()
