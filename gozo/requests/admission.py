"""Decides which requests are accepted: by policy, server limits and quotas."""

from __future__ import annotations

from dataclasses import dataclass

from gozo.delivery.answer_inbox import AnswerInbox
from gozo.delivery.in_memory import InMemory
from gozo.errors import Refusal, RequestError
from gozo.protocol.requests import dated
from gozo.protocol.subject_policy import (
    IMPORT_LASTS,
    IMPORTED,
    MOST_HEADERS,
    Policy,
    check_size,
    not_imported,
)
from gozo.requests.quotas import Quotas, Rate
from gozo.runtime.clock import steady
from gozo.schedule.cron import Cron
from gozo.schedule.expression import Every, When
from gozo.schedule.model import (
    MICROSECONDS,
    Confirmation,
    Entry,
    Request,
    ScheduleRequest,
)
from gozo.schedule.recurrence import expression
from gozo.store.bucket import TTL_SINCE, is_before
from gozo.store.entry_codec import headers_size
from gozo.store.schedule_store import ScheduleStore
from gozo.transport.connection import Connection

KEPT_BURST = 2.0  # seconds' worth of requests at once, since the last leader counted some
_IMPORTED = IMPORTED.encode()
LONG_EXPRESSION = 256  # characters from which the size of the entry is checked


@dataclass(slots=True)
class _Expected:
    """The expected effect of pending changes on one schedule."""

    changes: int = 0
    stays: bool = False
    """Whether the schedule exists after the last of these changes."""
    more: int = 0
    """By how much these changes alter the number of schedules: 1, 0 or -1."""


class Admission:
    """Admits requests, and counts existing schedules and those being stored."""

    def __init__(
        self,
        policy: Policy,
        quotas: Quotas,
        store: ScheduleStore,
        in_memory: InMemory,
        connection: Connection,
        answers: AnswerInbox,
    ) -> None:
        self._policy = policy
        self._quotas = quotas
        self._rate = Rate(quotas.max_rate)
        self._kept_rate = self._rate
        self._uncounted_us = self._kept_until_us = 0
        self._store = store
        self._in_memory = in_memory
        self._connection = connection
        self._answers = answers
        self._counts = quotas.max_pending is not None
        self.limits_unread = quotas.max_payload is not None or quotas.max_rate is not None
        """Whether `check_unread` can refuse anything."""
        self._good: str | None = None
        """The last subject that was allowed: the next request probably has the same one."""
        self._expected: dict[str, _Expected] = {}
        """The schedules being stored or cancelled, by id, or by key if they have none."""
        self._more = 0
        """By how much all pending changes alter the number of schedules."""

    def check_unread(self, size: int) -> None:
        """Refuse a message on arrival, by its payload's size or the rate of requests.

        A refused message is never queued, so a flood takes no memory.

        Raises:
            RequestError: `payload_too_large` or `too_many_requests`.
        """
        self._quotas.check_payload(size)
        self._rate.check(steady())

    def begin_term(self, uncounted_us: int, now_us: int) -> None:
        """Count the requests kept while no replica led: from `uncounted_us` until now."""
        if self._quotas.max_rate is not None:
            self._kept_rate = Rate(self._quotas.max_rate, KEPT_BURST)
            self._uncounted_us, self._kept_until_us = uncounted_us, now_us

    def check_kept(self, received_us: int) -> None:
        """Refuse a request that arrived while no replica led, if there were too many.

        Raises:
            RequestError: `too_many_requests`.
        """
        if self._uncounted_us <= received_us < self._kept_until_us:
            self._uncounted_us = received_us  # so that time never goes back, unlike a clock
            self._kept_rate.check(received_us / MICROSECONDS)

    def admit(self, request: Request, reply: bytes) -> Request:
        """Return an admitted request with its first due time; `reply` is its reply subject.

        The due time is computed last, since that may take longest.

        Raises:
            RequestError: with the code and the message for the client.
        """
        if request.receipt is not None:
            self._check_receipt(request.receipt, reply)
        if not isinstance(request, ScheduleRequest):
            return request
        entry, size = request.entry, len(request.payload)
        if entry.subject != self._good:
            self._check_target(entry)
        if self.limits_unread:
            self._quotas.check_payload(size)
        longest, largest = self._connection.max_payload, self._store.max_message
        might_not_fit = size + MOST_HEADERS > longest or size + MOST_HEADERS > largest
        if entry.headers or might_not_fit or len(entry.when) > LONG_EXPRESSION:
            check_size(size, headers_size(entry), longest, largest)
        spec = entry.spec
        if spec is not None or entry.confirmation is not None:
            self._check_special(entry, size)
        if self._counts and self._is_new(entry):
            kept = self._store.kept + len(self._in_memory)
            self._quotas.check_pending(kept + self._more)
        if spec is not None:
            request = dated(request)
        if self._quotas.max_delay_us is not None:
            jitter_us = 0 if spec is None else spec.jitter_us
            self._quotas.check_delay(entry.created_us, request.entry.due_us + jitter_us)
        return request

    def _check_receipt(self, receipt: str, reply: bytes) -> None:
        self._policy.check_answer(receipt)
        if reply.startswith(_IMPORTED):
            raise self._not_imported("a receipt would not arrive")

    def _check_target(self, entry: Entry) -> None:
        """Refuse a subject that is not allowed, or will no longer exist when it is due."""
        self._policy.check_target(entry.subject)
        if not entry.subject.startswith(IMPORTED):
            self._good = entry.subject
            return
        if entry.recurs:
            raise self._not_imported("only the first message of a recurring schedule would arrive")
        if entry.id is not None:
            raise self._not_imported("a schedule with an id would outlive it")
        if entry.confirm:
            raise self._not_imported("no stream would acknowledge the message")
        if entry.is_answered:
            raise self._not_imported("its receiver could not be sent a second attempt")
        if entry.due_us - entry.created_us > IMPORT_LASTS * MICROSECONDS:
            raise self._not_imported(f"it must be due within {IMPORT_LASTS} s")

    def _check_special(self, entry: Entry, size: int) -> None:
        """Refuse what recurs too often, could not be confirmed, or whose runs do not fit."""
        if entry.spec is not None:
            self._check_interval(expression(entry.when))
        if entry.confirmation is None:
            return
        check_size(size, headers_size(entry), self._connection.max_payload, self._store.max_message)
        self._check_confirmation(entry.confirmation)
        if entry.is_answered:
            self._answers.check()

    def _check_confirmation(self, confirmation: Confirmation) -> None:
        """Refuse a forbidden dead letter, and a time to live that the server ignores."""
        self._policy.check_dead_letter(confirmation.dead_letter)
        if confirmation.dead_letter.startswith(IMPORTED):
            raise self._not_imported("a dead letter would not arrive")
        version = self._connection.info.get("version")
        if confirmation.ttl_us and version and is_before(version, TTL_SINCE):
            raise RequestError(
                Refusal.INVALID_REQUEST,
                f"Gozo-TTL needs nats-server {TTL_SINCE[0]}.{TTL_SINCE[1]}, and this is {version}, "
                "whose streams would keep the message: omit it, or upgrade the server",
            )

    def _not_imported(self, what: str) -> RequestError:
        return not_imported(self._policy.request_subject, what)

    def _check_interval(self, when: When) -> None:
        if isinstance(when, Every):
            self._quotas.check_interval(when.us)
        elif isinstance(when, Cron) and self._quotas.min_interval_us > MICROSECONDS:
            closest_us = when.closest_us
            if closest_us is not None:
                self._quotas.check_interval(closest_us)

    def storing(self, name: str) -> None:
        """Count a schedule that is being stored, by its id or its generated key."""
        if self._counts:
            self._expect(name, stays=True)

    def cancelling(self, id_: str) -> None:
        """Subtract a schedule that is being cancelled from the count."""
        if self._counts:
            self._expect(id_, stays=False)

    def done(self, name: str) -> None:
        """Count a schedule as it is in the bucket, once a change is done."""
        expected = self._expected.get(name)
        if expected is None:
            return
        expected.changes -= 1
        if expected.changes:
            self._count(name, expected)
        else:
            self._more -= expected.more
            del self._expected[name]

    def _expect(self, name: str, *, stays: bool) -> None:
        expected = self._expected.setdefault(name, _Expected())
        expected.changes += 1
        expected.stays = stays
        self._count(name, expected)

    def _count(self, name: str, expected: _Expected) -> None:
        more = expected.stays - self._store.keeps(name)
        self._more += more - expected.more
        expected.more = more

    def _is_new(self, entry: Entry) -> bool:
        """Tell whether a schedule is additional, and replaces no other."""
        if entry.id is None:
            return True
        expected = self._expected.get(entry.id)
        return not (self._store.keeps(entry.id) if expected is None else expected.stays)
