"""Which requests are taken: the policy's word, the server's limits, and the daemon's quotas."""

from __future__ import annotations

from collections.abc import Callable

from gozo.entries import ENTRY_HEADERS
from gozo.headers import pack
from gozo.policy import Policy, check_size
from gozo.quotas import Quotas, Rate
from gozo.schedule import CancelRequest, Entry, Request, ScheduleRequest
from gozo.store.ledger import Ledger
from gozo.volatile import Volatile


class Admission:
    """Knows what is kept, and what is about to be."""

    def __init__(
        self,
        policy: Policy,
        quotas: Quotas,
        ledger: Ledger,
        volatile: Volatile,
        max_payload: Callable[[], int],
    ) -> None:
        self._policy = policy
        self._quotas = quotas
        self._rate = Rate(quotas.max_rate)
        self._ledger = ledger
        self._volatile = volatile
        self._max_payload = max_payload
        self._counts = quotas.max_pending is not None
        self._good: str | None = None
        """The subject that was allowed last: the next request has the same, most likely."""
        self._coming: set[str] = set()
        """Ids, or keys of what has none, that are being stored where there is nothing."""
        self._leaving: set[str] = set()
        """Ids that are being cancelled."""

    def check_unread(self, size: int, at: float) -> None:
        """Refuse what must not even wait to be read: a payload of `size` bytes, `at` that time.

        So what a flood of these takes in memory is nothing.

        Raises:
            RequestError: `payload_too_large` or `too_many_requests`.
        """
        self._quotas.check_payload(size)
        self._rate.check(at)

    def check(self, request: Request) -> None:
        """Refuse a request that cannot be taken.

        Raises:
            RequestError: with the code and the sentence that the client is to be told.
        """
        if request.receipt is not None:
            self._policy.check_target(request.receipt, "receipt subject")
        if not isinstance(request, ScheduleRequest):
            return
        entry, size = request.entry, len(request.payload)
        if entry.subject != self._good:
            self._policy.check_target(entry.subject)
            self._good = entry.subject
        self._quotas.check_payload(size)
        headers = ENTRY_HEADERS + len(entry.subject.encode()) + len(entry.when)
        if entry.id is not None:
            headers += len(entry.id.encode())
        if entry.headers:
            headers += len(pack(entry.headers))
        check_size(size, headers, self._max_payload())
        self._quotas.check_delay(entry.created_us, entry.due_us)
        if self._counts and self._is_new(entry):
            kept = self._ledger.kept + len(self._volatile)
            self._quotas.check_pending(kept + len(self._coming) - len(self._leaving))

    def storing(self, name: str) -> None:
        """Count a schedule that is being stored under an id, or under a key of its own."""
        if self._counts and not self._stays(name):
            self._coming.add(name)

    def cancelling(self, id_: str) -> None:
        """Leave a schedule out of the count that is being cancelled."""
        if self._counts and (id_ in self._coming or self._stays(id_)):
            self._leaving.add(id_)

    def done(self, request: Request, name: str) -> None:
        """Count what was stored or cancelled as the bucket has it now."""
        if self._counts:
            (self._leaving if isinstance(request, CancelRequest) else self._coming).discard(name)

    def _stays(self, id_: str) -> bool:
        return self._ledger.keeps(id_) and id_ not in self._leaving

    def _is_new(self, entry: Entry) -> bool:
        """Tell whether there will be one more, since it takes no other's place."""
        return entry.id is None or not (entry.id in self._coming or self._stays(entry.id))
