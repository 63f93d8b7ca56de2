"""The admin verbs: calls of administrators to `<request subject>.admin.<verb>`.

Calls wait in the same queue as requests, so that a call that cancels a request comes after it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from gozo.delivery.in_memory import Sent
from gozo.errors import Refusal, RequestError
from gozo.protocol.admin import parse_force, parse_ids, parse_note, parse_reschedule
from gozo.protocol.deliveries import triggered
from gozo.protocol.event_kinds import Kind
from gozo.protocol.heard import Heard, Verb
from gozo.protocol.receipts import (
    cancel_receipt,
    over_error,
    over_receipt,
    protected_error,
    refusal_receipt,
    rescheduled_receipt,
)
from gozo.protocol.subject_policy import Policy
from gozo.requests.context import Context, Processor
from gozo.requests.replies import Answer
from gozo.schedule import expression as grammar
from gozo.schedule.model import LONGEST_REASON, Entry, ScheduleRequest
from gozo.schedule.recurrence import paused, rescheduled, resumed
from gozo.store.changes import GONE, Result
from gozo.transport.connection import Connection

Verdict = Callable[[Answer | RequestError | None], None]
"""Takes the answer for one id; None if another leader may answer."""

VERBS = tuple(verb for verb in Verb if verb is not Verb.REQUEST)
"""The verbs of administrators."""


class AdminVerbs(Processor):
    """Processes calls, and answers each once its result is known."""

    def __init__(
        self,
        context: Context,
        policy: Policy,
        connection: Connection,
    ) -> None:
        super().__init__(context)
        self._policy = policy
        self._connection = connection
        self._begin_run = context.begin_run
        self._actions: dict[Verb, Callable[[Heard], None]] = {
            Verb.CANCEL: self._cancel,
            Verb.RESCHEDULE: self._reschedule,
            Verb.PAUSE: self._pause,
            Verb.RESUME: self._resume,
            Verb.TRIGGER: self._trigger,
            Verb.OUTCOME: self._outcome,
        }

    def act(self, heard: Heard) -> None:
        """Process a call."""
        self._actions[heard.verb](heard)

    def refuse(self, heard: Heard, error: RequestError, *, replies: bool) -> None:
        """Refuse a call without processing it; send a reply only if `replies`."""
        self._reply(heard, self._checked(None, error), replies=replies)

    # Verbs for many ids

    def _cancel(self, heard: Heard) -> None:
        """Cancel ids."""

        def cancel(id_: str, verdict: Verdict) -> None:
            self._store.cancel(id_, partial(self._pass_on, id_, verdict), origin=heard)

        self._for_each(heard, cancel)

    def _pause(self, heard: Heard) -> None:
        """Pause schedules: they are kept and not delivered."""
        try:
            note = parse_note(heard.payload)
        except RequestError as error:
            self._answer(heard, self._checked(None, error))
            return
        self._alter_each(heard, Kind.PAUSED, lambda entry: paused(entry, note))

    def _resume(self, heard: Heard) -> None:
        """Resume paused schedules."""
        self._alter_each(heard, Kind.RESUMED, resumed)

    def _alter_each(self, heard: Heard, kind: Kind, change: Callable[[Entry], Entry]) -> None:
        spares_runs = kind is Kind.RESUMED

        def alter_one(id_: str, verdict: Verdict) -> None:
            new: Entry | None = None

            def alter(entry: Entry) -> Entry | None:
                nonlocal new
                new = change(entry)
                return None if new == entry else new

            def on_result(result: Result, words: str) -> None:
                if result in _DONE:
                    if result is not Result.UNCHANGED and new is not None:
                        self._events.acted(kind, new)
                    running = not spares_runs and self._store.is_running(id_)
                    verdict(cancel_receipt(id_, kind, running=running))
                elif result in GONE:
                    verdict(over_receipt(id_, result, self._store.progress_of_runs(id_)))
                else:
                    self._pass_on(id_, verdict, result, words)

            self._store.alter(id_, alter, on_result, origin=heard, spares_runs=spares_runs)

        self._for_each(heard, alter_one)

    def _trigger(self, heard: Heard) -> None:
        """Deliver schedules now, without changing them."""
        try:
            force = parse_force(heard.payload)
        except RequestError as error:
            self._answer(heard, self._checked(None, error))
            return

        def trigger(id_: str, verdict: Verdict) -> None:
            def send(entry: Entry, payload: bytes) -> None:
                if entry.is_answered:
                    self._begin_triggered(id_, verdict, entry, payload, force=force)
                else:
                    self._send_triggered(id_, verdict, entry, payload, heard.received_us)

            def on_result(result: Result, words: str) -> None:
                if result in GONE and (progress := self._store.progress_of_runs(id_)):
                    verdict(over_error(progress))
                elif result is not Result.UNCHANGED:
                    self._pass_on(id_, verdict, result, words)

            self._store.look(id_, send, on_result, origin=heard)

        self._for_each(heard, trigger)

    def _send_triggered(
        self, id_: str, verdict: Verdict, entry: Entry, payload: bytes, now_us: int
    ) -> None:
        """Send a schedule once, from memory."""

        def on_sent(sent: Sent, reason: str) -> None:
            match sent:
                case Sent.DROPPED:
                    verdict(None)
                case Sent.FAILED:
                    verdict(cancel_receipt(id_, sent) | {"reason": reason[:LONGEST_REASON]})
                case Sent.TRIGGERED:
                    verdict(cancel_receipt(id_, sent))

        self._events.acted(Kind.TRIGGERED, entry)
        self._in_memory.add_triggered(ScheduleRequest(triggered(entry, now_us), payload), on_sent)
        self._wake_delivery()

    def _begin_triggered(
        self, id_: str, verdict: Verdict, entry: Entry, payload: bytes, *, force: bool
    ) -> None:
        """Begin a run of a schedule whose receiver has to confirm it."""

        def on_result(result: Result, words: str) -> None:
            if result in _DONE:
                self._events.acted(Kind.TRIGGERED, entry)
                verdict(cancel_receipt(id_, Sent.TRIGGERED))
            else:
                self._pass_on(id_, verdict, result, words)

        try:
            self._begin_run(self._store.key_of(id_), entry, payload, on_result, force=force)
        except RequestError as error:
            verdict(error)

    def _outcome(self, heard: Heard) -> None:
        """Report the outcome of schedules, after all earlier requests for them are done."""

        def tell(id_: str, verdict: Verdict) -> None:
            def call() -> None:
                verdict(cancel_receipt(id_, self._store.outcome(id_)))

            self._store.after(id_, call)

        self._for_each(heard, tell)

    def _for_each(self, heard: Heard, act: Callable[[str, Verdict], None]) -> None:
        """Call `act` for each id of a call, and answer once all have results."""
        try:
            ids = parse_ids(heard.payload, self._connection.max_payload)
        except RequestError as error:
            self._answer(heard, self._checked(None, error))
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
                self._in_progress.drop(heard)  # without an answer: the other leader answers
                return
            results = [self._checked(id_, answers[number]) for number, id_ in enumerate(ids)]
            self._answer(heard, {"results": results})

        for number, id_ in enumerate(ids):
            act(id_, partial(on_verdict, number))

    # A verb for one id

    def _reschedule(self, heard: Heard) -> None:
        """Change only the due time of a schedule."""
        id_ = None
        try:
            id_, when = parse_reschedule(heard.payload)
            grammar.parse(when)
        except RequestError as error:
            self._answer(heard, self._checked(id_, error))
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
                self._in_progress.drop(heard)
                return
            refusal = refused[0] if refused else refusal_of(result, words)
            if refusal is not None:
                self._answer(heard, self._checked(id_, refusal))
            elif result in (Result.STORED, Result.REPLACED):
                self._events.acted(Kind.RESCHEDULED, altered[0])
                running = self._store.is_running(id_)
                receipt = rescheduled_receipt(altered[0], running=running)
                self._answer(heard, receipt)
            else:
                self._answer(heard, over_receipt(id_, result, self._store.progress_of_runs(id_)))

        self._store.alter(id_, alter, on_result, origin=heard)

    # Answers

    def _pass_on(self, id_: str, verdict: Verdict, result: Result, words: str) -> None:
        """Pass on the store's result for an id, unless another leader answers."""
        if result is Result.DROPPED:
            verdict(None)
            return
        refusal = refusal_of(result, words)
        running = self._store.is_running(id_)
        verdict(refusal or cancel_receipt(id_, result, running=running))

    def _checked(self, id_: str | None, answer: Answer | RequestError) -> Answer:
        """Return the answer for an id; a refusal is counted and logged."""
        if not isinstance(answer, RequestError):
            return answer
        self._stats.refused_by_verbs += 1
        self._replies.refused(id_, answer)
        return refusal_receipt(id_, answer)

    def _answer(self, heard: Heard, answer: Answer) -> None:
        self._reply(heard, answer)
        self._in_progress.done(heard)

    def _reply(self, heard: Heard, answer: Answer, *, replies: bool = True) -> None:
        self._stats.calls[heard.verb] += 1
        self._stats.refused_calls[heard.verb] += _is_refusal(answer)
        if replies and self._policy.may_answer(heard.reply):
            self._replies.answer(heard.reply.decode("utf-8", "surrogateescape"), answer)


_DONE = (Result.STORED, Result.REPLACED, Result.UNCHANGED)


def _is_refusal(answer: Answer) -> bool:
    """Tell whether an answer refuses the call, or a part of it."""
    results = answer.get("results", (answer,))
    assert isinstance(results, (list, tuple))
    return any(result["status"] == "refused" for result in results)


def refusal_of(result: Result, words: str) -> RequestError | None:
    """Return the reason why a change was not made; None if it was made."""
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
                f"the stored schedule with this id is invalid ({words}): replace or cancel it",
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
