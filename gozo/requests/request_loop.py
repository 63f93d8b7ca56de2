"""Processes waiting requests and calls, in turns, so that other tasks run in between."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import NoReturn

from gozo.protocol.heard import Verb
from gozo.requests.admin_verbs import AdminVerbs
from gozo.requests.backlog import Backlog
from gozo.requests.context import Context
from gozo.requests.handler import RequestHandler
from gozo.requests.handover import Handover
from gozo.requests.standby import Standby
from gozo.runtime.logs import get_logger

TURN = 0.001  # seconds of processing before other tasks run
BACKLOG_TIME = 1.0  # seconds that deliveries of a new leader wait for earlier requests

_REQUEST = Verb.REQUEST  # looked up once, not for each request

log = get_logger("gozo.intake")


class RequestLoop:
    """Processes first the requests left by a past term, then, as the leader, the backlog."""

    def __init__(
        self,
        context: Context,
        standby: Standby,
        handover: Handover,
        handler: RequestHandler,
        admin_verbs: AdminVerbs,
        may_act: Callable[[], bool],
    ) -> None:
        """`may_act` tells whether a leader may process requests at present."""
        self._store = context.store
        self._in_progress = context.in_progress
        self._replies = context.replies
        self._standby = standby
        self._handover = handover
        self._handler = handler
        self._admin_verbs = admin_verbs
        self._may_act = may_act
        self._leads = False
        self._work, self._turn = asyncio.Event(), asyncio.Event()
        self.wake = self._work.set
        """Check again for requests to process; called for each request."""

    def lead(self, leads: bool) -> None:
        """Start or stop processing the backlog."""
        self._leads = leads

    async def run(self) -> NoReturn:
        """Process requests; runs until it is cancelled."""
        in_progress, handle, call = self._in_progress, self._handler.handle, self._admin_verbs.act
        while True:
            backlog = self._next()
            if backlog is None:
                self._work.clear()
                await self._work.wait()
                continue
            if not self._store.has_room:
                await self._store.progress()
                continue
            over = time.monotonic() + TURN  # called for each request, and faster than `steady`
            while backlog and time.monotonic() < over:
                heard = backlog.take()
                in_progress.size += heard.size
                try:
                    if heard.verb is _REQUEST:
                        handle(heard)
                    else:
                        call(heard)
                except Exception:
                    # One unforeseen message must not stop the others.
                    self._replies.count_failed()
                    log.exception("request.failed")
            self._turn.set()
            await asyncio.sleep(0)

    def _next(self) -> Backlog | None:
        """Return the queue that may be processed now; None: neither."""
        if self._handover.left and not self._handover.is_held:
            return self._handover.left
        backlog = self._standby.backlog
        return backlog if backlog and self._leads and self._may_act() else None

    async def backlog_begun(self) -> None:
        """Wait until the present backlog is begun, but no longer than `BACKLOG_TIME`."""
        last = self._standby.backlog.last
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BACKLOG_TIME):
                while self._standby.backlog.first <= last:
                    await self._next_turn()

    async def left_begun(self) -> None:
        """Wait until all requests left by the past term are begun."""
        while self._handover.left:
            await self._next_turn()

    async def _next_turn(self) -> None:
        self._turn.clear()
        await self._turn.wait()
