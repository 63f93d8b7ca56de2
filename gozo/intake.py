"""Takes requests: reads them off the wire at once, acts on them in the order they came.

What arrives waits in memory, within a bound, until it is stored. Requests have a connection
of their own, so that a flood of them delays neither an acknowledgement nor a lease.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from gozo.clock import steady, wall_us
from gozo.connection import Connection, Listener
from gozo.entries import ENTRY_HEADERS, reserved_key
from gozo.errors import DisconnectedError, Refusal, RequestError
from gozo.hardened import Handler
from gozo.headers import pack
from gozo.logs import get_logger
from gozo.policy import Policy, check_size
from gozo.protocol import (
    asks_receipt,
    cancel_receipt,
    parse_cancels,
    parse_request,
    parse_reschedule,
    refusal_receipt,
    stored_receipt,
)
from gozo.schedule import CancelRequest, Entry, Request, ScheduleRequest, rescheduled
from gozo.stats import Stats
from gozo.store.ledger import NO_DEADLINE, Ledger, Result
from gozo.volatile import Volatile

SLICE = 20  # requests acted on before others get a turn
OVERHEAD = 600  # bytes of memory that a waiting request takes besides its own
PATIENCE = 5.0  # seconds after which a request with a receipt is refused, if nothing can be stored

_RECEIPT = re.compile(rb"gozo-receipt", re.IGNORECASE)
_ESCAPE = "surrogateescape"

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
        self._listeners: list[Listener] = []
        self._backlog: deque[_Waiting] = deque()
        self._bytes = 0
        self._work = asyncio.Event()
        self._open = False
        self._leading = False

    def listen(self) -> None:
        """Hear requests from now on; they wait until `act`."""
        self._leading = True
        self._open = False
        if not self._listeners:
            subject = self._policy.request_subject
            self._listeners = [
                self._connection.listen(subject, self._hear(self._take)),
                self._connection.listen(f"{subject}.admin.cancel", self._hear(self._cancel)),
                self._connection.listen(
                    f"{subject}.admin.reschedule", self._hear(self._reschedule)
                ),
            ]

    def stop_listening(self) -> None:
        """Hear no more requests; those heard are still acted on, and none kept in memory."""
        self._leading = False
        for listener in self._listeners:
            # What the server has sent by now, no other daemon will hear.
            listener.stop(hear_out=True)
        self._listeners = []

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
                act, received_us, reply, headers, payload = backlog.popleft()
                try:
                    act(received_us, reply, headers, payload)
                except Exception:
                    # One message that nobody foresaw must not end what all others depend on.
                    self._stats.refused[Refusal.INVALID_REQUEST] += 1
                    log.exception("request.failed")
            await asyncio.sleep(0)

    def _hear(self, act: _Act) -> Handler:
        """Make a handler that lets messages wait for `act`."""

        def on_message(subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
            size = len(payload) + len(headers or b"") + OVERHEAD
            if self._bytes + size > self._max_backlog:
                busy = RequestError(
                    Refusal.BUSY,
                    f"{self._bytes} bytes of requests wait to be stored already: "
                    "send it again later, or raise --max-backlog",
                )
                self._refuse_unread(headers, busy)
                return
            self._bytes += size
            self._backlog.append((act, wall_us(), reply, headers, payload))
            if self._open:
                self._work.set()

        return on_message

    # Requests

    def _take(self, received_us: int, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        size = len(payload) + len(headers or b"") + OVERHEAD
        try:
            request = parse_request(reply, headers, payload, received_us)
            self._check(request)
        except RequestError as error:
            self._bytes -= size
            self._refuse_unread(headers, error)
            return
        self._stats.accepted += 1
        done = partial(self._on_result, request, size)
        if isinstance(request, CancelRequest):
            self._ledger.cancel(request.id, done)
            return
        deadline = NO_DEADLINE if request.receipt is None else steady() + PATIENCE
        if request.id is not None:
            self._ledger.put(request, done, deadline=deadline)
        elif self._leading and not request.entry.extended:
            self._bytes -= size
            self._volatile.add(request)
            self._on_volatile()
        else:
            self._ledger.put(request, done, reserved_key(), deadline=deadline)

    def _check(self, request: Request) -> None:
        if request.receipt is not None:
            self._policy.check_target(request.receipt, "receipt subject")
        if isinstance(request, ScheduleRequest):
            entry = request.entry
            self._policy.check_target(entry.subject)
            headers = ENTRY_HEADERS + len(entry.subject.encode()) + len(entry.when)
            if entry.id is not None:
                headers += len(entry.id.encode())
            if entry.headers:
                headers += len(pack(entry.headers))
            check_size(len(request.payload), headers, self._connection.max_payload)

    def _on_result(self, request: Request, size: int, result: Result, words: str) -> None:
        self._bytes -= size
        refusal = _refusal(result, words)
        if refusal is not None:
            self._stats.accepted -= 1
            self._count(refusal)
        log.debug("request.done", id=request.id, result=result)
        if request.receipt is None:
            return
        if refusal is not None:
            receipt = refusal_receipt(request.id, refusal)
        elif isinstance(request, ScheduleRequest):
            receipt = stored_receipt(request.entry, replaced=result is Result.REPLACED)
        else:
            receipt = cancel_receipt(request.id, result)
        self._answer(request.receipt, receipt)

    def _refuse_unread(self, headers: bytes | None, error: RequestError) -> None:
        """Refuse a request that was not acted on; whoever asked for a receipt gets one."""
        self._count(error)
        if headers is None or not _RECEIPT.search(headers):
            return
        receipt, id_ = asks_receipt(headers)
        if receipt is None or not self._policy.may_answer(receipt.encode("utf-8", _ESCAPE)):
            return
        answer = partial(self._answer, receipt, refusal_receipt(id_, error))
        if id_ is None or error.code is Refusal.BUSY:
            answer()
        else:
            # Behind the receipts of earlier requests for this id.
            self._ledger.after(id_, answer)

    def _count(self, error: RequestError) -> None:
        self._stats.refused[error.code] += 1
        log.limited("warning", "request.refused", code=error.code, reason=str(error))

    def _answer(self, subject: str, answer: dict[str, object]) -> None:
        payload = json.dumps(answer).encode()
        if len(payload) > self._connection.max_payload:
            # The server would not refuse it but end the connection.
            log.limited("warning", "receipt.too_large", bytes=len(payload))
            return
        try:
            self._connection.publish(subject, payload)
        except DisconnectedError as error:
            log.limited("info", "receipt.lost", reason=str(error))

    # Administration

    def _cancel(
        self, received_us: int, reply: bytes, headers: bytes | None, payload: bytes
    ) -> None:
        """Cancel ids, and answer once it is known what became of each."""
        self._bytes -= len(payload) + len(headers or b"") + OVERHEAD
        try:
            ids = parse_cancels(payload, self._connection.max_payload)
        except RequestError as error:
            self._answer_admin(reply, refusal_receipt(None, error))
            return
        results: dict[int, dict[str, object]] = {}

        def on_result(number: int, id_: str, result: Result, words: str) -> None:
            refusal = _refusal(result, words)
            results[number] = (
                cancel_receipt(id_, result) if refusal is None else refusal_receipt(id_, refusal)
            )
            if len(results) == len(ids):
                answers = [results[number] for number in range(len(ids))]
                self._answer_admin(reply, {"results": answers})

        for number, id_ in enumerate(ids):
            self._ledger.cancel(id_, partial(on_result, number, id_))

    def _reschedule(
        self, received_us: int, reply: bytes, headers: bytes | None, payload: bytes
    ) -> None:
        """Give a schedule another due time, and keep the rest."""
        self._bytes -= len(payload) + len(headers or b"") + OVERHEAD
        try:
            id_, when, due_us = parse_reschedule(payload, received_us)
        except RequestError as error:
            self._answer_admin(reply, refusal_receipt(None, error))
            return
        altered: list[Entry] = []

        def alter(entry: Entry) -> Entry:
            altered[:] = [rescheduled(entry, when, due_us)]
            return altered[0]

        def on_result(result: Result, words: str) -> None:
            refusal = _refusal(result, words)
            if refusal is not None:
                self._answer_admin(reply, refusal_receipt(id_, refusal))
            elif result in (Result.STORED, Result.REPLACED):
                receipt = stored_receipt(altered[0], replaced=True, status="rescheduled")
                self._answer_admin(reply, receipt)
            else:
                self._answer_admin(reply, cancel_receipt(id_, result))

        self._ledger.alter(id_, alter, on_result)

    def _answer_admin(self, reply: bytes, answer: dict[str, object]) -> None:
        if self._policy.may_answer(reply):
            self._answer(reply.decode("utf-8", "surrogateescape"), answer)


_Act = Callable[[int, bytes, bytes | None, bytes], None]
"""Takes when a message came, its reply subject, its headers and its payload."""

_Waiting = tuple[_Act, int, bytes, bytes | None, bytes]


def _refusal(result: Result, words: str) -> RequestError | None:
    """Why a change was not made, where it was not."""
    match result:
        case Result.REFUSED:
            return RequestError(Refusal.TOO_LARGE, f"the bucket refused it: {words}")
        case Result.NEWER_FORMAT:
            return RequestError(
                Refusal.NEWER_FORMAT,
                "a newer version of gozo stored the schedule with this id, and this one leaves "
                "it alone: use the newer version",
            )
        case Result.UNAVAILABLE:
            return RequestError(
                Refusal.UNAVAILABLE,
                f"the bucket cannot be written at the moment ({words}), nothing was stored: "
                "send it again later",
            )
        case Result.SUPERSEDED:
            return RequestError(
                Refusal.SUPERSEDED,
                "another request for this id was stored by another daemon meanwhile: "
                "send it again if it is still wanted",
            )
        case _:
            return None
