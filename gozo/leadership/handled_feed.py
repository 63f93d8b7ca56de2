"""The leader's reports to the other replicas about the requests that it has handled.

All replicas receive all requests. The leader publishes digests and positions of those that it has
handled (stored, cancelled, refused, delivered), many in one message, so that a standby keeps
exactly the unhandled requests in case it leads next. Requests without an id stay in the leader's
memory until they are delivered; only then are they handled.

A request is identified by a digest, which identical requests share. A standby lacks requests that
the leader received before the standby subscribed: their positions show that, once the standby
knows how the counts differ. Until then, reports wait. See `gozo.leadership.feed_messages` for
the format of the messages, and `gozo.leadership.offsets` for the counts.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
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

EARLY_KEPT = 2.0  # seconds that early reports are remembered at least
MOST_TERMS = 100  # terms and leaders remembered
GATHER = 0.02  # seconds that digests wait for others, to be sent together
MOST_DIGESTS = 4_000  # digests in one message
MOST_UNHEARD = 4_000  # reports that have not come back and could be repeated
MOST_UNPLACED = 100_000  # digests that wait until positions are known


class Handled(NamedTuple):
    """A request that a leader has handled, with this replica's own position of it."""

    digest: bytes
    position: int
    until: int
    """The last position that it can have: greater than `position` if it was handed over to the
    leader, which knows only the gap in which it came."""


class FeedReader:
    """Tracks which requests leaders have handled, by their reports."""

    def __init__(self, on_earlier: Callable[[bytes, bytes, int], None]) -> None:
        """`on_earlier` is called with each handled request that came before requests were kept.

        It takes the leader, the digest, and the leader's position.
        """
        self._on_earlier = on_earlier
        self._numbers: dict[bytes, tuple[int, int]] = {}
        """For each term, the number of its last message, and how many requests its messages have
        reported as handled so far."""
        self._leaders: dict[bytes, Hearing] = {}
        self._begun = 0
        """This replica's count when its present subscription began."""
        self.kept_from = 0
        """Requests are kept here from this count on."""
        self._waiting: dict[bytes, list[tuple[bytes, int]]] = {}
        """Handled requests of leaders whose positions are not known yet."""
        self._first_taken: dict[bytes, int] = {}
        """For each leader of an older version, the number of its first request received here."""
        self._early: Counter[bytes] = Counter()
        self._earlier: Counter[bytes] = Counter()
        self._turn_at = 0.0
        self._turn_count = self._earlier_count = 0

    def begin(self, now: float, count: int) -> None:
        """Start over at `now`, in seconds of a steady clock, and at this replica's `count`.

        Earlier reports are forgotten, and some may have been missed.
        """
        self._numbers.clear()
        self._leaders.clear()
        self._first_taken.clear()
        self._begun = count
        self.keep_from(now, count)

    def keep_from(self, now: float, count: int) -> None:
        """Keep requests from a count on: reports about earlier ones are not applied here."""
        self.kept_from = count
        self._waiting.clear()
        self._early.clear()
        self._earlier.clear()
        self._turn_at = now
        self._turn_count = self._earlier_count = count

    def is_repeated(self, message: FeedMessage) -> bool:
        """Tell whether a message, or a later one of its term, was received before."""
        last, _ = self._numbers.get(message.term, (0, 0))
        return message.number <= last

    def hear(self, message: FeedMessage, count: int) -> bool:
        """Process a message received at this replica's `count`.

        Returns whether an earlier message that reported handled requests was missed.
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
        """Return the requests received here that are now known to be handled.

        Requests reported by an older version have no position: for some seconds they count as
        received, and so not as early.
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
        """Return the handled requests, without those taken before this replica subscribed."""
        if message.is_taken:
            return []
        first = self._first_taken.get(message.leader, inf)
        return [
            Handled(digest, self._earlier_count, self._earlier_count)
            for digest, taking in zip(message.digests, message.positions, strict=True)
            if not taking or taking >= first
        ]

    def settle(self) -> list[Handled]:
        """Return handled requests that waited for positions which are known now."""
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
        """Convert a leader's position into the one here; None if unknown."""
        hearing = self._leaders.get(leader)
        return None if hearing is None else hearing.position(theirs)

    def positions_there(self, own: int) -> Iterator[tuple[bytes, int]]:
        """Generate the leaders that received a request as well, and their positions of it.

        Leaders of which that is not certain are left out.
        """
        if own > self._begun:
            for leader, hearing in self._leaders.items():
                theirs = hearing.position_there(own)
                if theirs is not None:
                    yield leader, theirs

    def heard_until(self, leader: bytes, begun: int) -> int | None:
        """Return the position here of the last request a leader received before a subscription."""
        hearing = self._leaders.get(leader)
        return None if hearing is None else hearing.heard_until(begun)

    def gap(self, leader: bytes, begun: int) -> Gap | None:
        """Return the gap before one of a leader's subscriptions; None if not certain."""
        hearing = self._leaders.get(leader)
        return None if hearing is None else hearing.gap(begun)

    def is_settled(self, leader: bytes) -> bool:
        """Tell whether the positions of a leader are certain."""
        hearing = self._leaders.get(leader)
        return hearing is not None and hearing.is_settled

    def turn(self, now: float, count: int) -> None:
        """Forget old early reports; to be called several times a second."""
        if now > self._turn_at + EARLY_KEPT:
            self._earlier, self._early = self._early, Counter()
            self._earlier_count, self._turn_count = self._turn_count, count
            self._turn_at = now

    def note_early(self, handled: Handled) -> None:
        """Remember for some seconds that a request that has not arrived yet is handled.

        In a cluster, the leader's report may arrive before the request. A request that arrived
        some seconds ago and was dropped since does not count: a later one may be identical.
        """
        if handled.position > self._earlier_count:
            self._early[handled.digest] += 1

    def is_early(self, digest: bytes) -> bool:
        """Tell, once, whether a request that just arrived is known to be handled."""
        for known in (self._earlier, self._early):
            if known and known[digest] > 0:
                known[digest] -= 1
                return True
        return False


class FeedWriter:
    """Reports the requests that this replica has handled, in order."""

    def __init__(self, publish: Callable[[bytes], None], count: HeardCount, name: bytes) -> None:
        """`publish` sends a message; `name` is the `tag_of` this replica's id."""
        self.name = name
        self.count = count
        self._publish = publish
        self._waiting: list[tuple[bytes, int]] = []
        self._unheard: deque[tuple[int, bytes]] = deque(maxlen=MOST_UNHEARD)
        """Reports of this term that have not come back, with their numbers."""
        self.begun = 0
        """The count when the present subscription began."""
        self._begins = set[int]()
        """The same for all subscriptions."""
        self._hears = True
        self._echoes = 0
        """How many more messages to send, each as soon as the one before comes back."""
        self._timer: asyncio.TimerHandle | None = None
        self.begin_term()

    def begin_term(self) -> None:
        """Restart the count of messages: no listener knows earlier reports."""
        self.term = self.name + secrets.token_bytes(TERM - LEADER)
        self._number = self._told = 0
        self._unheard.clear()
        self._echoed = self._echoed_count = 0

    def begin_hearing(self) -> None:
        """Note that requests are received from now on; earlier ones may have been missed."""
        self.begun = self.count.value
        self._begins.add(self.begun)
        self._echoed = self._echoed_count = 0

    def is_handed_over(self, position: int) -> bool:
        """Tell whether a position is that of requests handed over by standbys."""
        return position in self._begins

    def end_hearing(self) -> None:
        """Note that no more requests are received: the count becomes meaningless to others."""
        self._hears = False

    def handled(self, digest: bytes, position: int) -> None:
        """Report that a request is handled."""
        self._waiting.append((digest, position))
        if self._timer is None:
            self._schedule()

    def heard(self) -> None:
        """Report the count, after a request was taken into memory."""
        if self._timer is None:
            self._schedule()

    def _schedule(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(GATHER, self._tell_count)

    def heard_back(self, payload: bytes) -> None:
        """Note that a message of this replica has come back."""
        number = number_of(payload)
        while self._unheard and self._unheard[0][0] <= number:
            self._unheard.popleft()
        if self._hears:
            self._echoed, self._echoed_count = number, self.count.value
            if self._echoes:
                self._echoes -= 1
                self.hello()

    def _tell_count(self) -> None:
        if not self._waiting:
            self.hello()
        self.flush()

    def flush(self) -> None:
        """Send waiting reports; without a connection they keep waiting."""
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
        """Send waiting reports over another connection, since the usual one is lost, or seems dead.

        Reports that have not come back go first, unchanged: replicas that have received them know
        them by their numbers. The others belong to a new term, so that unsent messages of the usual
        one are no gap, and have no count, since requests do not arrive over that connection.
        """
        with suppress(DisconnectedError):
            for _, report in self._unheard:
                publish(report)
        self.begin_term()
        usual, hears = self._publish, self._hears
        self._publish, self._hears = publish, False
        self.flush()
        self._publish, self._hears = usual, hears

    def hello(self, echoes: int = 0) -> None:
        """Report the present numbers, so that a replica that missed a message notices.

        `echoes` is how many times to repeat that, each time as soon as the message comes back.
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
        message = write_head(kind, self.term, number, self._told, place) + rest
        try:
            self._publish(message)
        except DisconnectedError:
            return False
        self._number = number
        if rest and kind == HANDLED:
            self._unheard.append((number, message))
        return True
