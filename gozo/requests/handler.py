"""Processes requests: stores or cancels schedules, or refuses requests, and answers them.

A schedule without an id stays in this leader's memory until it is delivered, without being
stored: see `RequestHandler.use_memory`.
"""

from __future__ import annotations

import logging
from functools import partial

from gozo.errors import RequestError
from gozo.leadership.handled_feed import FeedWriter
from gozo.protocol.heard import Heard
from gozo.protocol.receipts import cancel_receipt, stored_receipt
from gozo.protocol.requests import parse_request
from gozo.requests.admin_verbs import refusal_of
from gozo.requests.admission import Admission
from gozo.requests.context import Context, Processor
from gozo.requests.origins import Origins
from gozo.runtime.logs import get_logger
from gozo.schedule.model import CancelRequest, Request, ScheduleRequest
from gozo.store.changes import NO_DEADLINE, Result
from gozo.store.entry_codec import reserved_key

_NEW, _REPLACED = Result.STORED, Result.REPLACED

log = get_logger("gozo.intake")


class RequestHandler(Processor):
    """Processes messages on the request subject, as `AdminVerbs` processes calls."""

    def __init__(
        self,
        context: Context,
        admission: Admission,
        feed_writer: FeedWriter,
        origins: Origins,
    ) -> None:
        super().__init__(context)
        self._admission = admission
        self._feed_writer = feed_writer
        self._origins = origins
        self._holds = False
        self._details = log.enabled(logging.DEBUG)
        """Whether to log each request."""

    def use_memory(self, allowed: bool) -> None:
        """Allow or forbid to keep schedules without an id in memory: only a leader may.

        Otherwise they are stored, each under a generated key.
        """
        self._holds = allowed

    def handle(self, heard: Heard) -> None:
        """Process a request."""
        try:
            self._admission.check_kept(heard.received_us)
            request = parse_request(heard.reply, heard.headers, heard.payload, heard.received_us)
            request = self._admission.admit(request, heard.reply)
        except RequestError as error:
            self._in_progress.done(heard)
            self._replies.refuse(heard, error)
            return
        if isinstance(request, CancelRequest):
            self._admission.cancelling(request.id)
            number = self._replies.await_receipt(request, heard, "cancelled")
            done = partial(self._on_result, request, heard, request.id, number)
            self._store.cancel(request.id, done, by_request=True, origin=heard)
        elif request.entry.confirmation is not None and request.entry.is_answered:
            request, key, is_begun = self._origins.name(request, heard)
            self._put(request, heard, request.id or key, key, is_begun=is_begun)
        elif (id_ := request.entry.id) is not None:
            self._put(request, heard, id_)
        elif self._holds and not request.entry.extended:
            self._in_progress.size -= heard.size
            self._stats.accepted += 1
            self._in_memory.add(request, heard)
            self._feed_writer.heard()
            if self._events.enabled:
                self._events.accepted(request.entry, replaced=False)
            self._wake_delivery()
        else:
            key = reserved_key()
            self._put(request, heard, key, key)

    def _put(
        self,
        request: ScheduleRequest,
        heard: Heard,
        name: str,
        key: str | None = None,
        *,
        is_begun: bool = False,
    ) -> None:
        """Store a request under its id or its key, unless its run is begun; `name` is either."""
        number, deadline = 0, NO_DEADLINE
        if request.receipt is not None:
            number = self._replies.await_receipt(request, heard, "stored")
            deadline = self._replies.until(number)
        self._admission.storing(name)
        done = partial(self._on_result, request, heard, name, number)
        if is_begun:
            done(_NEW, "")
        else:
            self._store.put(request, done, key, deadline=deadline, origin=heard)

    def _on_result(
        self, request: Request, heard: Heard, name: str, number: int, result: Result, words: str
    ) -> None:
        self._admission.done(name)
        if result is Result.DROPPED:
            self._in_progress.drop(heard)
            self._replies.settle(number)  # the other leader answers
            return
        self._in_progress.done(heard)
        refusal = None
        if result is not _NEW and result is not _REPLACED:
            refusal = refusal_of(result, words)
        if refusal is not None:
            self._replies.refused(request.id, refusal)
        else:
            self._stats.accepted += 1
            if self._events.enabled and isinstance(request, ScheduleRequest) and request.id is None:
                self._events.accepted(request.entry, replaced=False)
        if self._details:
            log.debug("request.done", id=request.id, result=result)
        if request.receipt is None or not self._replies.settle(number):
            return
        if refusal is not None:
            self._replies.answer_refused(request.receipt, request.id, refusal, heard)
            return
        if isinstance(request, ScheduleRequest):
            # Without an id, it can only replace what an earlier leader stored of it.
            replaced = result is _REPLACED and request.id is not None
            receipt = stored_receipt(request.entry, replaced=replaced)
        else:
            receipt = cancel_receipt(request.id, result, running=self._store.is_running(request.id))
        self._replies.answer(request.receipt, receipt)
