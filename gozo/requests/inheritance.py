"""Finds out which of a former leader's requests the new one has, after an unplanned change.

A leader that loses the lease without releasing it has requests in memory that are not sent yet.
The new leader has received most of them as a standby; it must be handed the others, and only
those. Its ordinary reports may be lost while the old leader is cut off. So when the old leader
comes back, it asks which requests the new one had when its term began, until it gets an answer. The
new leader remembers their digests and positions for its term. Later requests were received by
both, if the old leader received them at all.

The answer also says which requests the new leader has not handled yet. The old leader keeps those
(see `gozo.requests.entrusted`), since perhaps no other replica has them.

The answer is valid for one change of leader.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from enum import Enum, auto
from typing import Protocol, TypeVar

from gozo.errors import DisconnectedError
from gozo.leadership.feed_messages import (
    DONE,
    GREETING,
    LATER,
    LEADER,
    NONCE,
    UNKNOWN,
    Answer,
    FeedMessage,
    Question,
    read_entries,
    write_entries,
    write_question,
)
from gozo.leadership.handled_feed import FeedReader, FeedWriter
from gozo.leadership.offsets import ENOUGH_SAMPLES
from gozo.protocol.heard import HeardCount
from gozo.runtime.clock import steady
from gozo.runtime.logs import get_logger

FIRST_WAIT = 0.2  # seconds until an unanswered question is repeated; doubled each time
LONGEST_WAIT = 2.0  # seconds, the upper limit: answers to earlier questions do not count
OFFSET_WAIT = 1.0  # seconds to wait after the answer for the difference of the counts
GIVE_UP_TIME = 15.0  # seconds of asking a leader that does not answer: it is an older version

log = get_logger("gozo.intake")


class Known(Protocol):
    """A request that can be compared with those of other replicas."""

    @property
    def digest(self) -> bytes:
        """The digest of the request."""

    @property
    def position(self) -> int:
        """Its number among all requests received here."""


Request = TypeVar("Request", bound=Known)


class Inheritance:
    """The requests that a leader had when its term began; sixteen bytes for each."""

    def __init__(self, requests: Iterable[Known], led_at: int) -> None:
        self._entries = write_entries((one.digest, one.position) for one in requests)
        self._led_at = led_at
        """How many requests the leader had received by then."""

    def tell(
        self,
        question: Question,
        reader: FeedReader,
        writer: FeedWriter,
        left: Iterable[Known],
    ) -> None:
        """Answer a question; `left` are the requests that the leader has not handled yet."""
        gap = reader.heard_until(question.leader, question.begun)
        answer = Answer(question.nonce, self._led_at, UNKNOWN if gap is None else gap, 0)
        pending = {(one.digest, one.position) for one in left}
        had = zip(*read_entries(self._entries), strict=True)
        entries = [(one[0], one[1] if one in pending else one[1] | DONE) for one in had]
        entries += [(digest, at | LATER) for digest, at in pending if at > self._led_at]
        writer.answer(answer, write_entries(entries), ENOUGH_SAMPLES + 1)


class _Came(Enum):
    """When a request arrived that this replica had when it lost the lead."""

    NOW = auto()
    """In the present subscription."""
    BEFORE = auto()
    """In an earlier subscription."""
    IN_GAP = auto()
    """Between two subscriptions, so this replica missed it, but may have been handed it."""


class Account:
    """The leader's account: which of this replica's requests it has."""

    def __init__(
        self,
        since: int,
        begun: int,
        until: int,
        since_before: int | None = None,
        *,
        is_gap_known: bool = True,
    ) -> None:
        self._since = since
        """The last position here before the leader's term: all later requests are the leader's."""
        self._since_before = begun if since_before is None else since_before
        """The same by the count of an earlier subscription, for requests that came in that one."""
        self._begun = begun
        """The last position here before the present subscription. Only the account shows whether
        the leader received earlier requests."""
        self._until = until
        """The last position of the requests that this replica had when it lost the lead."""
        self._has: dict[_Came, Counter[bytes]] = {came: Counter() for came in _Came}
        """How many requests with each digest the leader had."""
        if not is_gap_known:  # the leader did not know which came in the gap
            self._has[_Came.IN_GAP] = self._has[_Came.BEFORE]
        self.leader = b""
        """The name of the leader that gave the account."""
        self._pending = Counter[tuple[bytes, int]]()
        """Requests received here that the leader has not handled, by digest and its position."""
        self._pending_in_gap = Counter[tuple[bytes, int]]() if is_gap_known else self._pending
        """The same for requests that this replica missed."""

    def _came(self, position: int | None, *, in_gap: bool) -> _Came | None:
        """Return when one of the leader's requests came here; None: after the lead was lost.

        This replica keeps such later ones as a standby does. `in_gap`: while it received no
        requests, unless the position here says otherwise.
        """
        if position is not None and position > self._begun:
            return _Came.NOW if position <= self._until else None
        return _Came.IN_GAP if in_gap else _Came.BEFORE

    def note(self, digest: bytes, position: int | None, *, in_gap: bool) -> None:
        """Note a request that the leader had, with the position here if known."""
        came = self._came(position, in_gap=in_gap)
        if came is not None:
            self._has[came][digest] += 1

    def note_pending(
        self, digest: bytes, theirs: int, position: int | None, *, in_gap: bool
    ) -> None:
        """Note a request that the leader has not handled; `theirs` is the position there."""
        came = self._came(position, in_gap=in_gap)
        if came is not None:
            pending = self._pending_in_gap if came is _Came.IN_GAP else self._pending
            pending[digest, theirs] += 1

    def note_handled(self, digest: bytes, theirs: int) -> None:
        """Note a request that the leader has handled since it answered."""
        self._pending.pop((digest, theirs), None)
        self._pending_in_gap.pop((digest, theirs), None)

    def pending(self, requests: Iterable[Known]) -> Counter[tuple[bytes, int]]:
        """Return those of some requests that the leader may not have handled yet.

        They are given by digest and the leader's position.
        """
        heard, in_gap = set[bytes](), set[bytes]()
        for request in requests:
            (in_gap if request.position == self._begun else heard).add(request.digest)
        if self._pending_in_gap is self._pending:
            heard |= in_gap
            in_gap.clear()
        found = Counter[tuple[bytes, int]]()
        for digests, pending in ((heard, self._pending), (in_gap, self._pending_in_gap)):
            found.update({one: n for one, n in pending.items() if one[0] in digests})
        return found

    def lacking(self, requests: Sequence[Request]) -> list[Request]:
        """Return the requests that the leader does not have, in order; pass each only once.

        Of several identical requests the leader has the latest: it may have subscribed after
        the others came.
        """
        lacking = set[int]()
        for request in sorted(requests, key=lambda request: request.position, reverse=True):
            if request.position > max(self._since, self._begun):
                continue
            if self._since_before < request.position < self._begun:
                continue
            came = _Came.NOW if request.position > self._begun else _Came.BEFORE
            if request.position == self._begun:
                came = _Came.IN_GAP
            has = self._has[came]
            if has[request.digest] > 0:
                has[request.digest] -= 1
            else:
                lacking.add(request.position)
        return [request for request in requests if request.position in lacking]


def others(requests: Iterable[Request], some: Iterable[Request]) -> list[Request]:
    """Return the requests that are not among `some`, in order."""
    positions = {request.position for request in some}
    return [request for request in requests if request.position not in positions]


class Inquiry:
    """Finds out which requests of this former leader the present leader has."""

    def __init__(
        self,
        name: bytes,
        publish: Callable[[bytes], None],
        reader: FeedReader,
        count: HeardCount,
    ) -> None:
        self._publish = publish
        self._feed_reader = reader
        self._count = count
        self._name = name
        """The name of this replica in messages to leaders."""
        self._nonce = b""
        self._begun = 0
        """The count when the present subscription began, as sent in the question."""
        self._term = b""
        """The term of the leader that is answering."""
        self._resumed_at = 0
        """The count of that leader when its present subscription began."""
        self._answers: list[Answer] = []
        """The parts of the answer that have arrived."""
        self._handled: list[tuple[bytes, int]] = []
        """Requests that the leader has handled since it answered."""
        self._heard_at = 0.0
        self._news = asyncio.Event()

    def greet(self) -> None:
        """Ask the leader, if any, for its count."""
        with suppress(DisconnectedError):
            self._publish(write_question(Question(GREETING, self._name, 0)))

    async def find_out(
        self, begun: Callable[[], int], is_led: Callable[[], bool]
    ) -> Account | None:
        """Ask until the leader has answered; None if it does not answer.

        `begun` returns the count when the present subscription began; `is_led` tells whether
        another replica leads.
        """
        silent_since, patience = steady(), FIRST_WAIT
        while True:
            try:
                asked_for = begun()
                if await self._ask(asked_for, patience) and begun() == asked_for:
                    return self._account(asked_for)
                patience = min(2 * patience, LONGEST_WAIT)
            except DisconnectedError:
                silent_since, patience = steady(), FIRST_WAIT
                await asyncio.sleep(FIRST_WAIT)
            if not is_led():
                silent_since = steady()
            elif steady() > silent_since + GIVE_UP_TIME:
                log.warning("handover.no_answer", seconds=GIVE_UP_TIME)
                return None

    def _account(self, begun: int) -> Account:
        leader, (_, led_at, gap, *_) = self._term[:LEADER], self._answers[0]
        position = self._feed_reader.position
        since = position(leader, led_at)
        since_before = None
        if self._resumed_at > led_at:
            since = None  # the leader may have missed some since its term began
        elif gap > UNKNOWN:
            # The leader knew the difference of the counts while this replica led.
            since_before = led_at - gap + self._begun - 1
        if since is None:
            since = self._count.value  # it has received no request yet, or missed some
        until = self._feed_reader.kept_from
        account = Account(since, begun, until, since_before, is_gap_known=gap > UNKNOWN)
        account.leader = leader
        answers, self._answers = self._answers, []
        for answer in answers:
            for digest, flagged in zip(answer.digests, answer.positions, strict=True):
                theirs = flagged & ~(DONE | LATER)
                mine = position(leader, theirs)
                in_gap = UNKNOWN < gap < theirs
                if not flagged & LATER:
                    account.note(digest, mine, in_gap=in_gap)
                elif mine is None or (in_gap and mine <= begun):
                    continue  # this replica missed it
                if not flagged & DONE:
                    account.note_pending(digest, theirs, mine, in_gap=in_gap)
        for one in self._handled:
            account.note_handled(*one)
        log.info("handover.answered", requests=sum(len(one.digests) for one in answers))
        return account

    async def _ask(self, begun: int, patience: float) -> bool:
        """Ask once; True if the whole answer came, each part within `patience` seconds.

        Raises:
            DisconnectedError: there is no connection.
        """
        self._answers.clear()
        self._handled.clear()
        self._begun = begun
        self._nonce = secrets.token_bytes(NONCE)
        asked_at = self._heard_at = steady()
        self._publish(write_question(Question(self._nonce, self._name, begun)))
        while not self._answers or self._answers[-1].left:
            if not await self._hear_more(self._heard_at + patience):
                return False
        while not self._feed_reader.is_settled(self._term[:LEADER]):
            if not await self._hear_more(asked_at + OFFSET_WAIT):
                break
        return True

    async def _hear_more(self, until: float) -> bool:
        self._news.clear()
        try:
            async with asyncio.timeout(max(0.0, until - steady())):
                await self._news.wait()
        except TimeoutError:
            return False
        return True

    def hear(self, message: FeedMessage) -> None:
        """Handle a message of a leader: a part of the answer, or its count."""
        answer = message.answer
        if answer is not None and answer.nonce == self._nonce:
            if not self._answers:
                self._term = message.term
                self._resumed_at = message.place.begun if message.place else 0
            elif message.term != self._term or answer.left != self._answers[-1].left - 1:
                return
            self._answers.append(answer)
            self._heard_at = steady()
        elif self._answers and message.term == self._term:
            self._handled += zip(message.digests, message.positions, strict=True)
        self._news.set()
