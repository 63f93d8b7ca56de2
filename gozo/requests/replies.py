"""Sends receipts, answers and refusals to the senders of requests and calls.

Each request that asks for a receipt is answered in time, even if its result is not known by then.
Refusals are dropped while too many bytes are unsent, so that a flood of invalid requests takes
little memory; nor are they much longer than the requests.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial

from gozo.errors import DisconnectedError, Refusal, RequestError
from gozo.leadership.lookout import Lookout
from gozo.protocol.heard import Heard
from gozo.protocol.receipts import asks_receipt, refusal_receipt, shortened, unknown_receipt
from gozo.protocol.subject_policy import LARGEST_BLOCK, UNLIMITED, Policy
from gozo.requests.unanswered import Waiting
from gozo.runtime.clock import steady
from gozo.runtime.clock_watch import ClockWatch
from gozo.runtime.logs import get_logger
from gozo.schedule.model import MICROSECONDS, Request
from gozo.store.changes import NO_DEADLINE
from gozo.store.schedule_store import ScheduleStore
from gozo.telemetry.events import EventSink
from gozo.telemetry.stats import Stats
from gozo.transport.connection import Connection

Answer = dict[str, object]

REFUSAL_MARGIN = 1_024
"""Bytes by which a refusal may exceed its request, so that gozo does not amplify traffic."""

MOST_UNSENT = 4 * 1024 * 1024  # bytes waiting to be sent beyond which refusals are dropped

_RECEIPT = re.compile(rb"gozo-receipt", re.IGNORECASE)

log = get_logger("gozo.intake")


class Replies:
    """Answers requests and calls."""

    def __init__(
        self,
        connection: Connection,
        policy: Policy,
        store: ScheduleStore,
        stats: Stats,
        events: EventSink,
        clock: ClockWatch,
        lookout: Lookout,
        on_too_large: Callable[[], None],
    ) -> None:
        """`on_too_large` is called when a message is refused because of its size."""
        self._connection = connection
        self._policy = policy
        self._store = store
        self._stats = stats
        self._events = events
        self._clock = clock
        self._lookout = lookout
        self._on_too_large = on_too_large
        self._unanswered = Waiting()

    # Receipts

    def await_receipt(self, request: Request, heard: Heard, verb: str) -> int:
        """Make sure that a request is answered in time, and return its number.

        0 if it asks for no receipt.
        """
        if request.receipt is None:
            return 0
        age = (self._clock.reading_us() - heard.received_us) / MICROSECONDS
        return self._unanswered.add(request.receipt, request.id, verb, age=age, now=steady())

    def until(self, number: int) -> float:
        """Return by when the request with a number is answered."""
        return self._unanswered.until(number)

    def settle(self, number: int) -> bool:
        """Note that the result of a request is known; False if it was already answered."""
        return self._unanswered.settle(number)

    def answer_late(self, *, all_: bool = False) -> None:
        """Answer requests whose result is not known in time, or all that are unanswered."""
        for one in self._unanswered.late(NO_DEADLINE if all_ else steady()):
            log.limited("warning", "receipt.unknown", id=one.id)
            self.answer(one.receipt, unknown_receipt(one.id, one.verb))

    def answer(self, subject: str, answer: Answer, most: int = UNLIMITED) -> None:
        """Publish an answer; a refusal of more than `most` bytes is shortened."""
        answer = self._lookout.signed(answer)
        payload = json.dumps(answer).encode()
        if len(payload) > most:
            payload = json.dumps(shortened(answer, most)).encode()
        if len(payload) > self._connection.max_payload:
            # The server would not refuse it but close the connection.
            log.limited("warning", "receipt.too_large", bytes=len(payload))
            return
        try:
            self._connection.publish(subject, payload)
        except DisconnectedError as error:
            log.limited("info", "receipt.lost", reason=str(error))

    # Refusals

    def refused(self, id_: str | None, error: RequestError) -> None:
        """Count and log a refusal, and publish its event."""
        self._stats.refused[error.code] += 1
        if error.code is Refusal.TOO_LARGE:
            self._on_too_large()
        log.limited("warning", "request.refused", code=error.code, reason=str(error))
        self._events.refused(id_, error)

    def answer_refused(
        self, receipt: str, id_: str | None, error: RequestError, heard: Heard
    ) -> None:
        """Publish the receipt of a refused request."""
        self.answer(receipt, refusal_receipt(id_, error), _wire_size(heard) + REFUSAL_MARGIN)

    def refuse(self, heard: Heard, error: RequestError, *, at_once: bool = False) -> None:
        """Refuse a request without processing it, with a receipt if it asks for one.

        The receipt follows those of earlier requests for the same id, unless it is sent `at_once`,
        so that a flood takes no memory.
        """
        headers = heard.headers
        self.refused(asks_receipt(headers)[1] if self._events.enabled else None, error)
        is_asked = headers is not None and (
            len(headers) > LARGEST_BLOCK or _RECEIPT.search(headers)
        )
        if not is_asked or self.is_flooded():
            return
        receipt, id_ = asks_receipt(headers)
        if receipt is None or not self._policy.may_receive(receipt):
            return
        most = _wire_size(heard) + REFUSAL_MARGIN
        answer = partial(self.answer, receipt, refusal_receipt(id_, error), most)
        if id_ is None or at_once:
            answer()
        else:
            self._store.after(id_, answer)

    def is_flooded(self) -> bool:
        """Tell whether refusals are dropped because too many bytes are unsent."""
        flooded = self._connection.backlog > MOST_UNSENT
        if flooded:
            log.limited("info", "receipt.lost", reason="too many refusals are waiting to be sent")
        return flooded

    def count_failed(self) -> None:
        """Count a message that gozo failed to process, and that gets no answer."""
        self._stats.refused[Refusal.INVALID_REQUEST] += 1


def _wire_size(heard: Heard) -> int:
    """Return how many bytes the sender of a message sent."""
    return len(heard.headers or b"") + len(heard.payload) + len(heard.reply)
