"""Requests that the leader missed while its link for requests was lost, or not yet made.

A standby that received them finds out which they are: the leader says when its subscription began,
and the difference of the counts before and after shows the gap between (see
`gozo.leadership.offsets`). The gap of a leader that was not known before includes everything
before its subscription; if it had an earlier one, it may have received some of these requests, and
skips those that it remembers. The standby offers the leader those requests of the gap that it
still holds and that have no id. Requests with an id stay lost: by then, the leader has processed
later ones for the same id.

Several standbys offer the same requests, and one of them may offer them again, so the leader
counts those that it takes by digest, for each of its gaps. If servers deliver the requests of
several clients to two replicas in different orders, the ends of a gap may be wrong by a few
requests. So requests near an end, on either side of it, are offered as doubtful, and the leader
skips those that it received itself when its link was lost or made.

A link may be lost again before a gap is offered, and the leader's reports with it. Then a standby
forgets which requests the leader has received, and sets aside those still to be offered.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator
from itertools import chain
from typing import NamedTuple

from gozo.errors import DisconnectedError
from gozo.leadership.feed_messages import LEADER, Doubt, FeedMessage, Offer, write_offer
from gozo.leadership.handled_feed import FeedReader
from gozo.leadership.offsets import Gap
from gozo.protocol.heard import Heard
from gozo.requests.backlog import Backlog
from gozo.runtime.logs import get_logger

OFFER_DELAY = 1.0  # seconds to wait for the leader's reports, and to compare the counts
OFFER_ARRIVES = 5.0  # seconds without another gap after which an offer counts as arrived
EDGE = 8  # requests near either end of a gap that are doubtful, unless identical ones exist
MOST_GAPS = 20  # gaps remembered
LATEST = 20_000  # digests that a leader remembers: some seconds, two megabytes at most
PORTION = 1024 * 1024  # bytes offered at a time

log = get_logger("gozo.intake")


class Missed(NamedTuple):
    """A gap in the requests received by a leader."""

    begun: int
    """The leader's count when the subscription after it began."""
    at: float
    """When the gap was noticed, or offered."""


class Offers:
    """Offers the leader requests that it has missed and this standby holds."""

    def __init__(
        self,
        name: bytes,
        publish: Callable[[bytes], None],
        feed_reader: FeedReader,
        held: tuple[Backlog, Backlog],
        is_wanted: Callable[[Heard], bool],
    ) -> None:
        """Requests in `held` are offered if `is_wanted` is true for them."""
        self._name = name
        self._publish = publish
        self._feed_reader = feed_reader
        self._held = held
        self._is_wanted = is_wanted
        self._term = b""
        self._begun = -1
        self._noted: dict[tuple[bytes, int], None] = {}
        """Subscriptions of leaders whose gaps need no more offers."""
        self._missed: list[Missed] = []
        self._offered: list[Missed] = []
        self._left: Iterator[bytes] = iter(())
        self._aside: dict[int, Backlog] = {}
        """Requests set aside, by the leader's count when the subscription after the gap began. The
        leader reports that count as the position of requests that were handed over."""

    def forget(self) -> None:
        """Cancel all offers: this replica has missed requests itself, or leads."""
        self._term = b""
        self._clear()

    def _clear(self) -> None:
        self._missed, self._offered, self._left = [], [], iter(())
        self._aside.clear()

    def set_aside(self, until: int, now: float) -> None:
        """Set aside requests that the leader may lack, before all up to a position are forgotten.

        Recent offers may have been lost with the leader's link.
        """
        recent = [one for one in self._offered if now < one.at + OFFER_DELAY]
        for begun in {one.begun for one in (*self._missed, *recent)} - set(self._aside):
            gap = self._feed_reader.gap(self._term[:LEADER], begun)
            if gap is not None:
                aside = self._aside[begun] = Backlog()
                aside.index(True)
                for heard in self._between(gap.after, min(gap.last, until)):
                    aside.add(heard)

    def has_offered(self, leader: bytes, position: int) -> bool:
        """Tell whether a leader's position is that of requests handed over by this standby."""
        return (leader, position) in self._noted

    def strike(self, leader: bytes, digest: bytes, begun: int) -> None:
        """Strike out a request that was set aside and offered, and is handled now."""
        aside = self._aside.get(begun)
        if aside is not None and leader == self._term[:LEADER]:
            aside.strike(digest, begun)

    @property
    def aside(self) -> list[Heard]:
        """The requests set aside, in order."""
        aside = chain.from_iterable(some.requests for some in self._aside.values())
        return sorted(aside, key=lambda heard: heard.position)

    def _between(self, after: int, last: int) -> list[Heard]:
        """Return the requests to be offered with positions greater than `after`, up to `last`."""
        found = chain.from_iterable(held.between(after, last) for held in self._held)
        return sorted(filter(self._is_wanted, found), key=lambda heard: heard.position)

    def note(self, message: FeedMessage, now: float) -> bool:
        """Process a message of the leader; True if it shows that the leader has missed requests."""
        if message.place is None:
            return False
        begun, known = message.place.begun, message.term == self._term
        if known and begun == self._begun:
            return False
        if not known:
            self._clear()
        # The leader's link was lost again: recent offers may have been lost with it.
        begins = {one.begun for one in self._offered if now < one.at + OFFER_ARRIVES}
        if (message.leader, begun) not in self._noted:
            begins.add(begun)
        self._missed += [Missed(one, now) for one in begins]
        self._missed.sort()
        self._offered, self._left = [], iter(())
        self._term, self._begun = message.term, begun
        return known

    def make(self, now: float, now_us: int) -> None:
        """Offer some of the requests that the leader has missed; to be called periodically."""
        size = 0
        while size < PORTION:
            message = next(self._left, None)
            if message is None:
                if not self._missed or now < self._missed[0].at + OFFER_DELAY:
                    return
                missed = self._missed[0]
                gap = self._feed_reader.gap(self._term[:LEADER], missed.begun)
                if gap is None and missed.begun == self._begun:
                    return  # the leader's messages are not sufficient yet
                self._missed.pop(0)
                if gap is None:
                    continue
                messages = self._messages(missed.begun, gap, now_us)
                if messages:
                    self._offered = [*self._offered[-MOST_GAPS:], Missed(missed.begun, now)]
                self._noted[self._term[:LEADER], missed.begun] = None
                if len(self._noted) > MOST_GAPS:
                    del self._noted[next(iter(self._noted))]
                self._left = iter(messages)
                continue
            try:
                self._publish(message)
            except DisconnectedError:
                self.forget()
                return
            size += len(message)

    def _messages(self, begun: int, gap: Gap, now_us: int) -> list[bytes]:
        """Return the offers of the requests missed in a gap."""
        aside = self._aside.get(begun)
        missed = list(aside.requests) if aside is not None else []
        missed += self._between(gap.after - EDGE, gap.last + EDGE)
        offers = [
            write_offer(
                Offer(
                    self._name,
                    self._term,
                    begun,
                    heard.position,
                    max(0, now_us - heard.received_us),
                    doubt,
                    heard.reply,
                    heard.headers,
                    heard.payload,
                )
            )
            for heard in missed
            if (doubt := self._doubt(heard, gap)) is not None
        ]
        if offers:
            log.info("standby.requests_offered", requests=len(offers))
        return offers

    def _doubt(self, heard: Heard, gap: Gap) -> Doubt | None:
        """Return whether the leader may have received a request; None: do not offer it."""
        start, end = heard.position - 1 - gap.after, gap.last - heard.position
        is_unsure = start < gap.after_spread or end < gap.last_spread
        if max(gap.after_spread, gap.last_spread) > EDGE:  # the leader does not remember so many
            return None if is_unsure else Doubt.NONE
        held = (*self._held, *self._aside.values())
        if sum(some.copies(heard.digest) for some in held) <= 1:
            if not gap.is_known:
                return Doubt.BEFORE
            return Doubt.NEAR if min(start, end) < EDGE else Doubt.NONE
        # Of several identical requests, the leader cannot know which it received.
        if min(start, end) < 0:
            return None
        return Doubt.NEAR if is_unsure else Doubt.NONE


class Claims:
    """The missed requests that this leader has taken over from standbys in its term."""

    def __init__(self) -> None:
        self._latest = deque[bytes](maxlen=LATEST)
        """The digests of the latest requests."""
        self.hear = self._latest.append
        """Note the digest of a received request; called for each."""
        self.noting_until = 0
        """The position up to which requests count as the first ones of a subscription."""
        self._gaps: dict[int, _Taken] = {}
        """Gaps, by this leader's count when the subscription after each began."""
        self._highest: dict[bytes, int] = {}
        """The highest position that each standby has offered."""

    def begin_term(self) -> None:
        """Forget all gaps except the one before the present subscription."""
        for begun in list(self._gaps)[:-1]:
            del self._gaps[begun]
        self._latest.clear()

    def begin_hearing(self, begun: int) -> None:
        """Start a new subscription, at this leader's count."""
        if len(self._gaps) >= MOST_GAPS:
            del self._gaps[next(iter(self._gaps))]
        for gap in self._gaps.values():
            gap.before = frozenset()
        latest = list(self._latest)
        self._gaps[begun] = _Taken(set(latest[-2 * EDGE :]), frozenset(latest))
        self._latest.clear()
        self.noting_until = begun + 2 * EDGE

    def hear_first(self, digest: bytes) -> None:
        """Note the digest of one of the first requests of the present subscription."""
        self._gaps[next(reversed(self._gaps))].near.add(digest)

    def claims(self, offer: Offer, digest: bytes) -> bool:
        """Tell whether to take over a request that a standby offers."""
        gap = self._gaps.get(offer.begun)
        if gap is None or offer.position <= self._highest.get(offer.standby, -1):
            return False
        self._highest[offer.standby] = offer.position
        if offer.doubt and digest in gap.near:
            return False
        if offer.doubt is Doubt.BEFORE and digest in gap.before:
            return False
        # With few requests between two gaps, one near an end may belong to the other gap.
        others = (other for begun, other in self._gaps.items() if begun != offer.begun)
        if any(digest in (other.taken if offer.doubt else other.unsure) for other in others):
            return False
        offered = gap.offered.setdefault(offer.standby, Counter())
        offered[digest] += 1
        if offered[digest] <= gap.taken[digest]:
            return False  # another standby has offered it
        gap.taken[digest] += 1
        if offer.doubt:
            gap.unsure.add(digest)
        return True


class _Taken:
    """The requests taken over of one gap."""

    def __init__(self, near: set[bytes], before: frozenset[bytes]) -> None:
        self.near = near
        """The digests of requests received just before and after the gap."""
        self.before = before
        """The digests of requests received in the seconds before the gap; empty after another."""
        self.taken = Counter[bytes]()
        self.unsure = set[bytes]()
        """The digests of doubtful requests taken over, each the only one with its digest."""
        self.offered: dict[bytes, Counter[bytes]] = {}
        """The digests that each standby has offered, and how often."""
