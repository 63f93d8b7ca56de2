"""Which requests are taken: the policy's word, the server's limits, and the daemon's quotas."""

from __future__ import annotations

from dataclasses import dataclass

from gozo.delivery.in_memory import InMemory
from gozo.errors import RequestError
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
from gozo.schedule.model import MICROSECONDS, Entry, Request, ScheduleRequest
from gozo.schedule.recurrence import expression
from gozo.store.entry_codec import headers_size
from gozo.store.schedule_store import ScheduleStore
from gozo.transport.connection import Connection

KEPT_BURST = 2.0  # seconds' worth at once of what was kept: what the last leader took is among it
_IMPORTED = IMPORTED.encode()
LONG_TIME = 256  # characters of an expression


@dataclass(slots=True)
class _Expected:
    """What becomes of one schedule by the changes of it that are not done."""

    changes: int = 0
    stays: bool = False
    """Whether it is there after the last of them."""
    more: int = 0
    """How many more than now there are then: 1, 0 or -1."""


class Admission:
    """Knows what is kept, and what is about to be."""

    def __init__(
        self,
        *,
        policy: Policy,
        quotas: Quotas,
        store: ScheduleStore,
        in_memory: InMemory,
        connection: Connection,
    ) -> None:
        self._policy = policy
        self._quotas = quotas
        self._rate = Rate(quotas.max_rate)
        self._kept_rate = self._rate
        self._uncounted_us = self._kept_until_us = 0
        self._store = store
        self._in_memory = in_memory
        self._connection = connection
        self._counts = quotas.max_pending is not None
        self.limits_unread = quotas.max_payload is not None or quotas.max_rate is not None
        """Whether `check_unread` ever refuses anything."""
        self._good: str | None = None
        """The subject that was allowed last: the next request has the same, most likely."""
        self._expected: dict[str, _Expected] = {}
        """By ids, or keys of what has none: what is being stored or cancelled."""
        self._more = 0
        """How many schedules more than now there will be once all of that is done."""

    def check_unread(self, size: int) -> None:
        """Refuse what must not even wait to be read: a payload of `size` bytes, heard just now.

        So what a flood of these takes in memory is nothing.

        Raises:
            RequestError: `payload_too_large` or `too_many_requests`.
        """
        self._quotas.check_payload(size)
        self._rate.check(steady())

    def begin_term(self, uncounted_us: int, now_us: int) -> None:
        """Count what was kept before this replica leads, from the moment when no one else did."""
        if self._quotas.max_rate is not None:
            self._kept_rate = Rate(self._quotas.max_rate, KEPT_BURST)
            self._uncounted_us, self._kept_until_us = uncounted_us, now_us

    def check_kept(self, received_us: int) -> None:
        """Refuse what came while no replica led, and faster than is allowed.

        Raises:
            RequestError: `too_many_requests`.
        """
        if self._uncounted_us <= received_us < self._kept_until_us:
            self._uncounted_us = received_us  # so that time never runs back, as a clock may
            self._kept_rate.check(received_us / MICROSECONDS)

    def admit(self, request: Request, reply: bytes) -> Request:
        """Return a request with its first time, or refuse one that cannot be taken.

        `reply` is its reply subject. All that can be known before that time is looked for is
        looked at first.

        Raises:
            RequestError: with the code and the sentence that the client is to be told.
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
        if entry.headers or might_not_fit or len(entry.when) > LONG_TIME:
            check_size(size, headers_size(entry), longest, largest)
        spec = entry.spec
        if spec is not None:
            self._check_interval(expression(entry.when))
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
        """Refuse a subject that is not allowed, or that will be gone when it is due."""
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
        if entry.due_us - entry.created_us > IMPORT_LASTS * MICROSECONDS:
            raise self._not_imported(f"it must be due within {IMPORT_LASTS} s")

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
        """Count a schedule that is being stored under an id, or under a key of its own."""
        if self._counts:
            self._expect(name, stays=True)

    def cancelling(self, id_: str) -> None:
        """Leave a schedule out of the count that is being cancelled."""
        if self._counts:
            self._expect(id_, stays=False)

    def done(self, name: str) -> None:
        """Count what was stored or cancelled as the bucket has it now."""
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
        """Tell whether there will be one more, since it takes no other's place."""
        if entry.id is None:
            return True
        expected = self._expected.get(entry.id)
        return not (self._store.keeps(entry.id) if expected is None else expected.stays)
