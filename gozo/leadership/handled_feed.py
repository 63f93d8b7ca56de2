"""What a leader reports to the other replicas about the requests that it has handled.

All replicas hear all requests. The leader publishes digests and positions of those that it has
handled (stored, cancelled, refused, delivered), many in one message, so that a standby keeps
exactly what is left to do in case it leads next. Requests without an id stay in the leader's memory
until they are delivered; only then are they handled.

A request is identified by a digest, which identical requests share. A standby does not have
requests that the leader heard before the standby subscribed: their positions show that, once the
standby knows how far their counts differ. Reports that come earlier wait. See
`gozo.leadership.feed_messages` for the format of the messages, and `gozo.leadership.offsets` for
the counts.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Iterable
from math import inf
from typing import NamedTuple

from gozo.errors import DisconnectedError
from gozo.leadership.feed_messages import (
    ACCOUNT,
    ENTRY,
    HANDLED,
    LEADER,
    TERM,
    Answer,
    FeedMessage,
    Place,
    number_of,
    write_answer,
    write_entries,
    write_head,
)
from gozo.leadership.offsets import Gap, Hearing
from gozo.protocol.heard import HeardCount

EARLY_KEPT = 2.0  # seconds at least for which early reports are remembered
MOST_TERMS = 100  # terms and leaders remembered
GATHER = 0.02  # seconds that digests wait for others
MOST_DIGESTS = 4_000  # digests in one message
MOST_UNPLACED = 100_000  # digests that wait until positions are known


class Handled(NamedTuple):
    """A request that a leader has handled, with this replica's own position of it."""

    digest: bytes
    position: int
    until: int
    """The last position that it can have: another one if it was handed over to the leader, which
    knows only the gap in which it came."""


class FeedReader:
    """Knows which requests leaders have handled, from their reports."""

    def __init__(self, on_earlier: Callable[[bytes, bytes, int], None]) -> None:
        """Call `on_earlier` with each handled request that came before anything was kept.

        It takes the leader, the digest, and the leader's position.
        """
        self._on_earlier = on_earlier
        self._numbers: dict[bytes, tuple[int, int]] = {}
        """The number of the last message of each term, and how many requests it and those before
        it have reported as handled."""
        self._leaders: dict[bytes, Hearing] = {}
        self.kept_from = 0
        """The own count from which on requests are kept here."""
        self._waiting: dict[bytes, list[tuple[bytes, int]]] = {}
        """What was handled, by leaders whose positions are not known yet."""
        self._first_taken: dict[bytes, int] = {}
        """The first number under which each older leader took a request that was heard here."""
        self._early: Counter[bytes] = Counter()
        self._earlier: Counter[bytes] = Counter()
        self._turn_at = 0.0
        self._turn_count = self._earlier_count = 0

    def begin(self, now: float, count: int) -> None:
        """Start again at `now`, in seconds of a steady clock, and at an own count.

        Earlier reports are forgotten, and some may have been missed.
        """
        self._numbers.clear()
        self._leaders.clear()
        self._first_taken.clear()
        self.keep_from(now, count)

    def keep_from(self, now: float, count: int) -> None:
        """Keep requests from an own count on: earlier ones are not struck out here."""
        self.kept_from = count
        self._waiting.clear()
        self._early.clear()
        self._earlier.clear()
        self._turn_at = now
        self._turn_count = self._earlier_count = count

    def hear(self, message: FeedMessage, count: int) -> bool:
        """Take in a message that came at an own count.

        Returns whether one before it was not heard that reported requests as handled.
        """
        last, handled = self._numbers.get(message.term, (0, 0))
        is_first = not self._numbers
        if len(self._numbers) >= MOST_TERMS:
            self._numbers.clear()
        before = handled if message.before is None else message.before
        self._numbers[message.term] = (message.number, before + len(message.digests))
        if message.place is not None:
            if len(self._leaders) >= MOST_TERMS and message.leader not in self._leaders:
                self._leaders.clear()
            self._leaders.setdefault(message.leader, Hearing()).note(message, message.place, count)
        elif message.is_taken and message.positions and message.leader not in self._first_taken:
            if len(self._first_taken) >= MOST_TERMS:
                self._first_taken.clear()
            heard = count - self.kept_from
            before = len(message.positions) - heard
            self._first_taken[message.leader] = message.positions[0] + max(0, before)
        if is_first or message.number == last + 1:
            return False
        return message.before is None or message.before != handled

    def handled(self, message: FeedMessage) -> list[Handled]:
        """Return what is known by now to be handled, of what was heard here.

        Requests named by an older version have no position: they count as heard for some seconds,
        and so as not early.
        """
        if message.place is None:
            return self._handled_by_older(message)
        leader = message.leader
        waiting = self._waiting.setdefault(leader, [])
        waiting.extend(zip(message.digests, message.positions, strict=True))
        if not self._leaders[leader].is_settled and len(waiting) < MOST_UNPLACED:
            return []
        del self._waiting[leader]
        return self._place(leader, waiting)

    def _handled_by_older(self, message: FeedMessage) -> list[Handled]:
        """Return what was handled, without what was taken before this was heard."""
        if message.is_taken:
            return []
        first = self._first_taken.get(message.leader, inf)
        return [
            Handled(digest, self._earlier_count, self._earlier_count)
            for digest, taking in zip(message.digests, message.positions, strict=True)
            if not taking or taking >= first
        ]

    def settle(self) -> list[Handled]:
        """Return what still waits for positions to be known, as far as they are."""
        waiting, self._waiting = self._waiting, {}
        return [one for leader, some in waiting.items() for one in self._place(leader, some)]

    def _place(self, leader: bytes, handled: Iterable[tuple[bytes, int]]) -> list[Handled]:
        found: list[Handled] = []
        hearing = self._leaders.get(leader)
        if hearing is None:
            return found
        for digest, theirs in handled:
            own = hearing.position(theirs)
            if own is not None and own > self.kept_from:
                until = hearing.end_of_gap(theirs)
                found.append(Handled(digest, own, own if until is None else until))
            elif own is not None:
                self._on_earlier(leader, digest, theirs)
        return found

    def position(self, leader: bytes, theirs: int) -> int | None:
        """Return the own position of what has a position with a leader; None if unknown."""
        hearing = self._leaders.get(leader)
        return None if hearing is None else hearing.position(theirs)

    def heard_until(self, leader: bytes, begun: int) -> int | None:
        """Return the own position of the last that a leader heard before a subscription of its."""
        hearing = self._leaders.get(leader)
        return None if hearing is None else hearing.heard_until(begun)

    def gap(self, leader: bytes, begun: int) -> Gap | None:
        """Return what a leader missed before one of its subscriptions; None if not certain."""
        hearing = self._leaders.get(leader)
        return None if hearing is None else hearing.gap(begun)

    def is_settled(self, leader: bytes) -> bool:
        """Tell whether the positions of a leader are known for certain."""
        hearing = self._leaders.get(leader)
        return hearing is not None and hearing.is_settled

    def turn(self, now: float, count: int) -> None:
        """Forget old early reports; to be called several times a second."""
        if now > self._turn_at + EARLY_KEPT:
            self._earlier, self._early = self._early, Counter()
            self._earlier_count, self._turn_count = self._turn_count, count
            self._turn_at = now

    def note_early(self, handled: Handled) -> None:
        """Remember for some seconds that a request that was not heard yet is handled.

        In a cluster, the leader's report may arrive before the request. Not so for a request
        that was heard some seconds ago and dropped since: a later one may be identical.
        """
        if handled.position > self._earlier_count:
            self._early[handled.digest] += 1

    def is_early(self, digest: bytes) -> bool:
        """Tell, once, whether a request that is heard now is known to be handled."""
        for known in (self._earlier, self._early):
            if known and known[digest] > 0:
                known[digest] -= 1
                return True
        return False


class FeedWriter:
    """Reports what this replica has handled, in order."""

    def __init__(self, publish: Callable[[bytes], None], count: HeardCount, name: bytes) -> None:
        """Report with `publish`, under a name: the `tag_of` this replica's id."""
        self.name = name
        self.count = count
        self._publish = publish
        self._waiting: list[tuple[bytes, int]] = []
        self.begun = 0
        """The count when the present subscription began."""
        self._hears = True
        self._echoes = 0
        """How often a message is sent as soon as another comes back."""
        self._timer: asyncio.TimerHandle | None = None
        self.begin_term()

    def begin_term(self) -> None:
        """Restart the count of messages: no listener knows what was reported before."""
        self.term = self.name + secrets.token_bytes(TERM - LEADER)
        self._number = self._told = 0
        self._echoed = self._echoed_count = 0

    def begin_hearing(self) -> None:
        """Hear requests from now on: some before may have been missed."""
        self.begun = self.count.value
        self._echoed = self._echoed_count = 0

    def end_hearing(self) -> None:
        """Stop hearing requests: from now on the count means nothing to other replicas."""
        self._hears = False

    def handled(self, digest: bytes, position: int) -> None:
        """Report that nothing is left to do for a request."""
        self._waiting.append((digest, position))
        if self._timer is None:
            self._schedule()

    def heard(self) -> None:
        """Report the count after a request was taken into memory."""
        if self._timer is None:
            self._schedule()

    def _schedule(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(GATHER, self._tell_count)

    def heard_back(self, payload: bytes) -> None:
        """Note an own message that has come back."""
        if self._hears:
            self._echoed, self._echoed_count = number_of(payload), self.count.value
            if self._echoes:
                self._echoes -= 1
                self.hello()

    def _tell_count(self) -> None:
        if not self._waiting:
            self.hello()
        self.flush()

    def flush(self) -> None:
        """Send the reports that wait; without a connection they go on waiting."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            some = self._waiting[:MOST_DIGESTS]
            if not self._tell(HANDLED, write_entries(some)):
                return
            self._told += len(some)
            del self._waiting[:MOST_DIGESTS]

    def flush_by(self, publish: Callable[[bytes], None]) -> None:
        """Send the reports that wait by another connection, since the usual one is lost.

        They are of a new term, so that what the usual one did not send is no gap, and without a
        count, since requests do not come by that connection.
        """
        self.begin_term()
        usual, hears = self._publish, self._hears
        self._publish, self._hears = publish, False
        self.flush()
        self._publish, self._hears = usual, hears

    def hello(self, echoes: int = 0) -> None:
        """Report the numbers reached, so that a replica that missed a message notices.

        Repeat that as soon as the message comes back, a few times.
        """
        self._tell(HANDLED, b"")
        self._echoes = max(self._echoes, echoes)

    def answer(self, answer: Answer, entries: bytes, echoes: int) -> None:
        """Answer a question, and report the count again as `hello` does."""
        self.flush()
        size = MOST_DIGESTS * ENTRY
        parts = [entries[place : place + size] for place in range(0, len(entries), size)] or [b""]
        for left, part in zip(reversed(range(len(parts))), parts, strict=True):
            self._tell(ACCOUNT, write_answer(answer._replace(left=left)) + part)
        self._echoes = max(self._echoes, echoes)

    def _tell(self, kind: bytes, rest: bytes) -> bool:
        number = self._number + 1
        place = Place(self.begun)
        if self._hears:
            place = Place(self.begun, self.count.value, self._echoed, self._echoed_count)
        head = write_head(kind, self.term, number, self._told, place)
        try:
            self._publish(head + rest)
        except DisconnectedError:
            return False
        self._number = number
        return True
