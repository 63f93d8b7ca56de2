"""The leader's verbs: what an administrator asks of `<request subject>.admin.<verb>`.

They wait in line with the requests, so that who sends a request and then cancels it gets what
was meant.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from gozo.delivery.in_memory import InMemory, Sent
from gozo.errors import Refusal, RequestError
from gozo.protocol.admin import parse_ids, parse_note, parse_reschedule
from gozo.protocol.deliveries import triggered
from gozo.protocol.event_kinds import Kind
from gozo.protocol.heard import Act, Heard
from gozo.protocol.receipts import cancel_receipt, protected_error, refusal_receipt, stored_receipt
from gozo.protocol.subject_policy import Policy
from gozo.schedule import expression as grammar
from gozo.schedule.model import LONGEST_REASON, Entry, ScheduleRequest
from gozo.schedule.recurrence import paused, rescheduled, resumed
from gozo.store.changes import Result
from gozo.store.schedule_store import ScheduleStore
from gozo.telemetry.stats import Stats

Answer = dict[str, object]

Verdict = Callable[[Answer | RequestError | None], None]
"""Takes what is answered for one id; None: nothing, since another leader may answer."""

VERBS = ("cancel", "reschedule", "pause", "resume", "trigger", "outcome")
"""All of them."""


class AdminVerbs:
    """Acts on the verbs, and answers once it is known what became of each."""

    def __init__(
        self,
        policy: Policy,
        store: ScheduleStore,
        in_memory: InMemory,
        stats: Stats,
        max_payload: Callable[[], int],
        answer: Callable[[str, Answer], None],
        *,
        on_refused: Callable[[str | None, RequestError], None],
        on_done: Callable[[Heard], None],
        on_dropped: Callable[[Heard], None],
        on_acted: Callable[[Kind, Entry], None],
        wake_delivery: Callable[[], None],
    ) -> None:
        self._policy = policy
        self._store = store
        self._in_memory = in_memory
        self._stats = stats
        self._max_payload = max_payload
        self._publish = answer
        self._on_refused = on_refused
        self._on_done = on_done
        self._on_dropped = on_dropped
        self._on_acted = on_acted
        self._wake_delivery = wake_delivery
        self.verbs: dict[str, Act] = {
            "cancel": self._cancel,
            "reschedule": self._reschedule,
            "pause": self._pause,
            "resume": self._resume,
            "trigger": self._trigger,
            "outcome": self._outcome,
        }
        self._names = {act: verb for verb, act in self.verbs.items()}

    def refuse(self, heard: Heard, error: RequestError, *, told: bool) -> None:
        """Refuse a call that was not acted on, and tell so if there is room for that."""
        self._tell(heard, self._told(None, error), told=told)

    # For many ids

    def _cancel(self, heard: Heard) -> None:
        """Cancel ids."""

        def cancel(id_: str, verdict: Verdict) -> None:
            self._store.cancel(id_, partial(_pass_on, id_, verdict), origin=heard)

        self._for_each(heard, cancel)

    def _pause(self, heard: Heard) -> None:
        """Keep schedules, and do not deliver them."""
        try:
            note = parse_note(heard.payload)
        except RequestError as error:
            self._answer(heard, self._told(None, error))
            return
        self._alter_each(heard, Kind.PAUSED, lambda entry: paused(entry, note))

    def _resume(self, heard: Heard) -> None:
        """Deliver paused schedules again."""
        self._alter_each(heard, Kind.RESUMED, resumed)

    def _alter_each(self, heard: Heard, kind: Kind, change: Callable[[Entry], Entry]) -> None:
        def alter_one(id_: str, verdict: Verdict) -> None:
            new: Entry | None = None

            def alter(entry: Entry) -> Entry | None:
                nonlocal new
                new = change(entry)
                return None if new == entry else new

            def on_result(result: Result, words: str) -> None:
                if result in _DONE:
                    if result is not Result.UNCHANGED and new is not None:
                        self._on_acted(kind, new)
                    verdict(cancel_receipt(id_, kind))
                else:
                    _pass_on(id_, verdict, result, words)

            self._store.alter(id_, alter, on_result, origin=heard)

        self._for_each(heard, alter_one)

    def _trigger(self, heard: Heard) -> None:
        """Deliver schedules now, and leave them as they are."""

        def trigger(id_: str, verdict: Verdict) -> None:
            def on_sent(sent: Sent, reason: str) -> None:
                match sent:
                    case Sent.DROPPED:
                        verdict(None)
                    case Sent.FAILED:
                        verdict(cancel_receipt(id_, sent) | {"reason": reason[:LONGEST_REASON]})
                    case Sent.TRIGGERED:
                        verdict(cancel_receipt(id_, sent))

            def send(entry: Entry, payload: bytes) -> None:
                self._on_acted(Kind.TRIGGERED, entry)
                request = ScheduleRequest(triggered(entry, heard.received_us), payload)
                self._in_memory.add_triggered(request, on_sent)
                self._wake_delivery()

            def on_result(result: Result, words: str) -> None:
                if result is not Result.UNCHANGED:
                    _pass_on(id_, verdict, result, words)

            self._store.look(id_, send, on_result, origin=heard)

        self._for_each(heard, trigger)

    def _outcome(self, heard: Heard) -> None:
        """Tell what became of schedules, once all is done that was asked for before."""

        def tell(id_: str, verdict: Verdict) -> None:
            def call() -> None:
                verdict(cancel_receipt(id_, self._store.outcome(id_)))

            self._store.after(id_, call)

        self._for_each(heard, tell)

    def _for_each(self, heard: Heard, act: Callable[[str, Verdict], None]) -> None:
        """Do something for each id that is given, and answer once all is done."""
        try:
            ids = parse_ids(heard.payload, self._max_payload())
        except RequestError as error:
            self._answer(heard, self._told(None, error))
            return
        answers: dict[int, Answer | RequestError] = {}
        left = len(ids)

        def on_verdict(number: int, answer: Answer | RequestError | None) -> None:
            nonlocal left
            left -= 1
            if answer is not None:
                answers[number] = answer
            if left:
                return
            if len(answers) < len(ids):
                self._on_dropped(heard)  # and nothing is told: the other leader tells all of it
                return
            results = [self._told(id_, answers[number]) for number, id_ in enumerate(ids)]
            self._answer(heard, {"results": results})

        for number, id_ in enumerate(ids):
            act(id_, partial(on_verdict, number))

    # For one

    def _reschedule(self, heard: Heard) -> None:
        """Give a schedule another due time, and keep the rest."""
        id_ = None
        try:
            id_, when = parse_reschedule(heard.payload)
            grammar.parse(when)
        except RequestError as error:
            self._answer(heard, self._told(id_, error))
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
            if result is Result.DROPPED:
                self._on_dropped(heard)
                return
            refusal = refused[0] if refused else refusal_of(result, words)
            if refusal is not None:
                self._answer(heard, self._told(id_, refusal))
            elif result in (Result.STORED, Result.REPLACED):
                self._on_acted(Kind.RESCHEDULED, altered[0])
                receipt = stored_receipt(altered[0], replaced=True, status="rescheduled")
                self._answer(heard, receipt)
            else:
                self._answer(heard, cancel_receipt(id_, result))

        self._store.alter(id_, alter, on_result, origin=heard)

    def _told(self, id_: str | None, answer: Answer | RequestError) -> Answer:
        """Return what is answered for an id; a refusal is made known besides."""
        if not isinstance(answer, RequestError):
            return answer
        self._stats.refused_by_verbs += 1
        self._on_refused(id_, answer)
        return refusal_receipt(id_, answer)

    def _answer(self, heard: Heard, answer: Answer) -> None:
        self._tell(heard, answer)
        self._on_done(heard)

    def _tell(self, heard: Heard, answer: Answer, *, told: bool = True) -> None:
        verb = self._names[heard.act]
        self._stats.calls[verb] += 1
        self._stats.refused_calls[verb] += _is_refusal(answer)
        if told and self._policy.may_answer(heard.reply):
            self._publish(heard.reply.decode("utf-8", "surrogateescape"), answer)


_DONE = (Result.STORED, Result.REPLACED, Result.UNCHANGED)


def _is_refusal(answer: Answer) -> bool:
    """Tell whether an answer says that the whole, or something of it, was refused."""
    results = answer.get("results", (answer,))
    assert isinstance(results, (list, tuple))
    return any(result["status"] == "refused" for result in results)


def _pass_on(id_: str, verdict: Verdict, result: Result, words: str) -> None:
    """Answer for an id what the store says; nothing where another leader does it."""
    if result is Result.DROPPED:
        verdict(None)
        return
    refusal = refusal_of(result, words)
    verdict(cancel_receipt(id_, result) if refusal is None else refusal)


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
        case Result.PROTECTED:
            return protected_error()
        case Result.INVALID:
            return RequestError(
                Refusal.INVALID_REQUEST,
                f"what is stored under this id is invalid ({words}): replace it, or cancel it",
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
                "another change to this id was made while this one waited, so this one was not "
                "stored: send it again if it is still wanted",
            )
        case _:
            return None
