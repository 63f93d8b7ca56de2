"""Hands requests over from one leader to the next, so that none is lost.

A deposed leader still has requests. It asks the next leader which of them that one has as well
(see `gozo.requests.inheritance`), and processes the others itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain

from gozo.delivery.in_memory import InMemory, Taken
from gozo.leadership.feed_messages import Question
from gozo.leadership.handled_feed import FeedWriter
from gozo.protocol.heard import Heard
from gozo.requests.backlog import Backlog
from gozo.requests.inheritance import Account, Inheritance, Inquiry, others
from gozo.requests.standby import Standby
from gozo.runtime.logs import get_logger
from gozo.store.schedule_store import ScheduleStore

log = get_logger("gozo.intake")


class Handover:
    """Tracks the requests left by a past term, and which of them the next leader has."""

    def __init__(
        self,
        standby: Standby,
        in_memory: InMemory,
        store: ScheduleStore,
        feed_writer: FeedWriter,
        publish: Callable[[bytes], None],
    ) -> None:
        """`publish` sends questions to leaders."""
        self._standby = standby
        self._in_memory = in_memory
        self._store = store
        self._feed_writer = feed_writer
        self.left = Backlog()
        """Requests that a past term left unprocessed."""
        self.is_held = False
        """Whether these are held back until it is known which of them the next leader has."""
        self.inquiry = Inquiry(feed_writer.name, publish, standby.feed_reader, feed_writer.count)
        self._inherited = Inheritance((), 0)
        self._successor: Account | None = None
        """The account of the present leader; None if unknown, or if this replica leads."""

    # As the leader

    def begin_term(self) -> None:
        """Remember the requests that this leader has as its term begins."""
        self._successor = None
        self._inherited = Inheritance(self._requests(), self._feed_writer.count.value)

    def answer(self, question: Question) -> None:
        """Tell a former leader which requests this one has."""
        left = (*self._requests(), *self._store.origins)
        self._inherited.tell(question, self._standby.feed_reader, self._feed_writer, left)

    def _requests(self) -> Iterable[Heard]:
        """Return the requests in this leader's memory, and those not being stored yet."""
        standby = self._standby
        held = (self._in_memory, self.left, standby.entrusted, standby.backlog)
        return chain(standby.offers.aside, *(one.requests for one in held))

    # As a former leader

    def end_term(self) -> None:
        """Hold back all unfinished requests, begun or not: another replica may lead."""
        self._standby.entrusted.move_to(self.left)
        self.hold_back()
        self._store.hold()

    def hold_back(self) -> None:
        """Hold back the remaining requests."""
        self.is_held = True

    def release(self) -> None:
        """Continue with the remaining requests."""
        self.is_held = False
        self._store.go_on()

    @property
    def is_needed(self) -> bool:
        """Whether this replica has any requests that the next leader may have as well."""
        return bool(self.left or len(self._in_memory) or self._store.origins)

    async def ask(self, is_led: Callable[[], bool]) -> Account | None:
        """Ask the next leader which requests it has; None if it does not answer."""
        return await self.inquiry.find_out(lambda: self._feed_writer.begun, is_led)

    def note(self, account: Account | None) -> None:
        """Note which requests the next leader has; None: unknown."""
        self._successor = account
        if account is not None:
            mine = (*self._in_memory.requests, *self.left.requests, *self._store.origins)
            self._standby.entrusted.begin(account.leader, account.pending(mine))

    def act_on_left(self) -> None:
        """Continue with the requests of the past term that the next leader does not have."""
        if self._successor is not None:
            left = [self.left.take() for _ in range(len(self.left))]
            lacking = self._successor.lacking(left)
            for heard in lacking:
                self.left.add(heard)
            begun = self._store.origins
            lacking += self._successor.lacking(begun)
            has = others((*begun, *left), lacking)
            if has:
                log.info("handover.requests_dropped", requests=len(has))
                self._store.drop({heard.position for heard in has})
                self._standby.entrusted.keep(has)
        self.release()

    def lacking(self, requests: list[Taken]) -> list[Taken]:
        """Return the requests in memory here that the next leader does not have.

        The others are kept here until the next leader has handled them.
        """
        if self._successor is None:
            return requests
        lacking = self._successor.lacking(requests)
        self._standby.entrusted.keep([taken.heard for taken in others(requests, lacking)])
        return lacking

    def end_if_done(self) -> None:
        """Forget the next leader's account, once nothing is left of the past term."""
        if not (self.is_held or self.left or len(self._in_memory)):
            self._successor = None
            self._standby.entrusted.end()

    def forget_successor(self) -> None:
        """Forget the next leader's account."""
        self._successor = None
