"""The leader's verbs: what an administrator asks of `<request subject>.admin.<verb>`.

They wait in line with the requests, so that who sends a request and then cancels it gets what
was meant.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from gozo.backlog import Act, Heard
from gozo.errors import Refusal, RequestError
from gozo.policy import Policy
from gozo.protocol import (
    cancel_receipt,
    parse_cancels,
    parse_reschedule,
    refusal_receipt,
    stored_receipt,
)
from gozo.recurrence import rescheduled
from gozo.schedule import Entry
from gozo.store.ledger import Ledger, Result


class Administration:
    """Acts on the verbs, and answers once it is known what became of each."""

    def __init__(
        self,
        policy: Policy,
        ledger: Ledger,
        max_payload: Callable[[], int],
        answer: Callable[[str, dict[str, object]], None],
        on_done: Callable[[Heard], None],
    ) -> None:
        self._policy = policy
        self._ledger = ledger
        self._max_payload = max_payload
        self._publish = answer
        self._on_done = on_done
        self.verbs: dict[str, Act] = {"cancel": self._cancel, "reschedule": self._reschedule}

    def _cancel(self, heard: Heard) -> None:
        """Cancel ids."""
        try:
            ids = parse_cancels(heard.payload, self._max_payload())
        except RequestError as error:
            self._answer(heard, refusal_receipt(None, error))
            return
        results: dict[int, dict[str, object]] = {}

        def on_result(number: int, id_: str, result: Result, words: str) -> None:
            refusal = refusal_of(result, words)
            results[number] = (
                cancel_receipt(id_, result) if refusal is None else refusal_receipt(id_, refusal)
            )
            if len(results) == len(ids):
                answers = [results[number] for number in range(len(ids))]
                self._answer(heard, {"results": answers})

        for number, id_ in enumerate(ids):
            self._ledger.cancel(id_, partial(on_result, number, id_))

    def _reschedule(self, heard: Heard) -> None:
        """Give a schedule another due time, and keep the rest."""
        try:
            id_, when = parse_reschedule(heard.payload)
        except RequestError as error:
            self._answer(heard, refusal_receipt(None, error))
            return
        altered: list[Entry] = []
        refused: list[RequestError] = []

        def alter(entry: Entry) -> Entry:
            try:
                altered[:] = [rescheduled(entry, when, heard.received_us)]
            except RequestError as error:
                refused.append(error)
                raise
            return altered[0]

        def on_result(result: Result, words: str) -> None:
            refusal = refused[0] if refused else refusal_of(result, words)
            if refusal is not None:
                self._answer(heard, refusal_receipt(id_, refusal))
            elif result in (Result.STORED, Result.REPLACED):
                receipt = stored_receipt(altered[0], replaced=True, status="rescheduled")
                self._answer(heard, receipt)
            else:
                self._answer(heard, cancel_receipt(id_, result))

        self._ledger.alter(id_, alter, on_result)

    def _answer(self, heard: Heard, answer: dict[str, object]) -> None:
        if self._policy.may_answer(heard.reply):
            self._publish(heard.reply.decode("utf-8", "surrogateescape"), answer)
        self._on_done(heard)


def refusal_of(result: Result, words: str) -> RequestError | None:
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
