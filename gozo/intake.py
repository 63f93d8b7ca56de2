"""Takes requests: reads them off the wire at once, acts on them in the order they came.

What arrives waits in memory, within a bound, until it is stored. Requests have a connection
of their own, so that a flood of them delays neither an acknowledgement nor a lease.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from gozo.clock import wall_us
from gozo.connection import Connection, Listener
from gozo.errors import Refusal, RequestError
from gozo.logs import get_logger
from gozo.policy import Policy, check_size
from gozo.protocol import parse_request, reserved_key
from gozo.schedule import CancelRequest, Request, ScheduleRequest
from gozo.stats import Stats
from gozo.store.ledger import Ledger, Result
from gozo.volatile import Volatile

SLICE = 20  # requests acted on before others get a turn
OVERHEAD = 600  # bytes of memory that a waiting request takes besides its own
ENTRY_HEADERS = 320  # bytes that an entry's headers have besides id, subject and expression

log = get_logger("gozo.intake")


class Intake:
    """The beginning of a schedule's life."""

    def __init__(
        self,
        connection: Connection,
        policy: Policy,
        ledger: Ledger,
        volatile: Volatile,
        stats: Stats,
        max_backlog: int,
        on_volatile: Callable[[], None],
        may_act: Callable[[], bool],
    ) -> None:
        self._connection = connection
        self._policy = policy
        self._ledger = ledger
        self._volatile = volatile
        self._stats = stats
        self._max_backlog = max_backlog
        self._on_volatile = on_volatile
        self._may_act = may_act
        self._listener: Listener | None = None
        self._backlog: deque[tuple[int, bytes, bytes | None, bytes]] = deque()
        self._bytes = 0
        self._work = asyncio.Event()
        self._open = False
        self._leading = False

    def listen(self) -> None:
        """Hear requests from now on; they wait until `act`."""
        self._leading = True
        self._open = False
        if self._listener is None:
            self._listener = self._connection.listen(self._policy.request_subject, self._on_message)

    def stop_listening(self) -> None:
        """Hear no more requests; those heard are still acted on, and none kept in memory."""
        self._leading = False
        if self._listener is not None:
            self._listener.stop()
            self._listener = None

    def act(self) -> None:
        """Begin to act on what was heard: all keys of the bucket are known by now."""
        self._open = True
        self._work.set()

    def wake(self) -> None:
        """Look again whether there is anything to act on."""
        self._work.set()

    @property
    def waiting(self) -> int:
        """How many requests were heard and not acted on."""
        return len(self._backlog)

    async def run(self) -> NoReturn:
        """Act on requests; runs until it is cancelled."""
        backlog = self._backlog
        while True:
            while not (backlog and self._open and self._may_act()):
                self._work.clear()
                await self._work.wait()
            while not self._ledger.has_room:
                await self._ledger.progress()
            for _ in range(min(SLICE, len(backlog))):
                self._take(*backlog.popleft())
            await asyncio.sleep(0)

    def _on_message(
        self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes
    ) -> None:
        size = len(payload) + len(headers or b"") + OVERHEAD
        if self._bytes + size > self._max_backlog:
            self._refuse(
                RequestError(
                    Refusal.BUSY,
                    f"{self._bytes} bytes of requests wait to be stored already: "
                    "send it again later, or raise --max-backlog",
                )
            )
            return
        self._bytes += size
        self._backlog.append((wall_us(), reply, headers, payload))
        if self._open:
            self._work.set()

    def _take(self, received_us: int, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        size = len(payload) + len(headers or b"") + OVERHEAD
        try:
            request = parse_request(reply, headers, payload, received_us)
            if isinstance(request, ScheduleRequest):
                self._check(request)
        except RequestError as error:
            self._bytes -= size
            self._refuse(error)
            return
        self._stats.accepted += 1
        if isinstance(request, CancelRequest):
            self._ledger.cancel(request.id, partial(self._on_result, request, size))
        elif request.id is None and not self._leading:
            self._ledger.put(request, partial(self._on_result, request, size), reserved_key())
        elif request.id is None:
            self._bytes -= size
            self._volatile.add(request)
            self._on_volatile()
        else:
            self._ledger.put(request, partial(self._on_result, request, size))

    def _check(self, request: ScheduleRequest) -> None:
        self._policy.check_target(request.subject)
        id_size = len(request.id.encode()) if request.id else 0
        subject_size = len(request.subject.encode())
        headers = ENTRY_HEADERS + id_size + subject_size + len(request.when)
        check_size(len(request.payload), headers, self._connection.max_payload)

    def _on_result(self, request: Request, size: int, result: Result, words: str) -> None:
        self._bytes -= size
        if result is Result.REFUSED:
            self._stats.accepted -= 1
            self._refuse(RequestError(Refusal.TOO_LARGE, f"the bucket refused it: {words}"))
        log.debug("request.done", id=request.id, result=result)

    def _refuse(self, error: RequestError) -> None:
        self._stats.refused[error.code] += 1
        log.limited("warning", "request.refused", code=error.code, reason=str(error))
