"""What a leader takes over of what it missed: each request once, whoever offers it."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gozo.leadership.feed_messages import (
    LEADER,
    NONCE,
    Doubt,
    FeedMessage,
    Offer,
    Place,
    Question,
    read_offer,
    write_offer,
    write_question,
)
from gozo.leadership.handled_feed import FeedReader
from gozo.leadership.offsets import ENOUGH_SAMPLES
from gozo.protocol.heard import Verb, hear
from gozo.requests.backlog import Backlog
from gozo.requests.missed import EDGE, OFFER_DELAY, Claims, Offers
from tests.support.heard import ignore

TERM, STANDBY, OTHER = b"leadterm", b"stdb", b"oths"
BEGUN = 100
DIGESTS = [b"digest-%d" % number for number in range(3)]


def offer(position: int, standby: bytes = STANDBY, *, doubt: Doubt = Doubt.NONE) -> Offer:
    """Make an offer of something."""
    return Offer(standby, TERM, BEGUN, position, 0, doubt, b"reply", None, b"")


@given(st.lists(st.sampled_from(DIGESTS), max_size=20))
def test_each_is_taken_once(digests: list[bytes]) -> None:
    """Standbys offer the same, in orders that may differ, and some of it again."""
    claims = Claims()
    claims.begin_hearing(BEGUN)
    taken = Counter[bytes]()
    half = len(digests) // 2
    for standby, start, end in (
        (STANDBY, 0, half),
        (OTHER, 0, len(digests)),
        (STANDBY, 0, len(digests)),
    ):
        mine = digests if standby == STANDBY else sorted(digests)
        for number in range(start, end):
            taken[mine[number]] += claims.claims(offer(number, standby), mine[number])
    assert taken == Counter(digests)


@pytest.mark.parametrize("doubt", Doubt)
def test_what_is_doubtful_is_not_taken_if_it_was_heard(doubt: Doubt) -> None:
    """The leader heard it just before its link was lost, or just after, or longer ago."""
    claims = Claims()
    for number in range(4 * EDGE):
        claims.hear(b"before-%d" % number)
    claims.begin_hearing(BEGUN)
    claims.hear_first(b"after")
    taken = [b"other"]
    if doubt is not Doubt.BEFORE:
        taken.append(b"before-0")
    if doubt is Doubt.NONE:
        taken += [b"before-%d" % (4 * EDGE - 1), b"after"]
    for number, heard in enumerate(
        (b"before-0", b"before-%d" % (4 * EDGE - 1), b"after", b"other")
    ):
        assert claims.claims(offer(number, doubt=doubt), heard) == (heard in taken)


def test_what_was_missed_earlier_is_not_known() -> None:
    """Nothing is taken for an older gap once a term begins, but what came before the last."""
    claims = Claims()
    claims.begin_hearing(BEGUN)
    claims.begin_hearing(BEGUN + 1)
    claims.begin_term()
    assert not claims.claims(offer(1), DIGESTS[0])
    assert claims.claims(offer(2)._replace(begun=BEGUN + 1), DIGESTS[0])
    claims.begin_term()
    assert not claims.claims(offer(2)._replace(begun=BEGUN + 1), DIGESTS[0])


def test_the_format() -> None:
    """What is written is read, and nothing else."""
    for headers in (None, b"NATS/1.0\r\nGozo-When: +1\r\n\r\n"):
        one = offer(7)._replace(headers=headers, payload=b"payload", age_us=5)
        assert read_offer(write_offer(one)) == one
        assert read_offer(write_offer(one)[:45]) is None
    assert read_offer(write_question(Question(bytes(NONCE), STANDBY, 1))) is None


class Standby:
    """One that hears everything, and a leader that has just heard nothing for a while."""

    def __init__(self) -> None:
        self.feed_reader = FeedReader(ignore)
        self.held = (Backlog(), Backlog())
        self.held[1].index(True)
        self.sent: list[Offer] = []
        self.count = 0
        self.leader_count = 0
        self.number = 0
        self.offers = Offers(STANDBY, self._publish, self.feed_reader, self.held, lambda _: True)

    def _publish(self, message: bytes) -> None:
        read = read_offer(message)
        assert read is not None
        self.sent.append(read)

    def request(self, payload: bytes, *, missed: bool = False) -> None:
        """Hear one, as the leader does unless it has missed it."""
        self.count += 1
        self.leader_count += not missed
        heard = hear(Verb.REQUEST, self.count, 0, b"gozo", b"reply", None, payload)
        self.held[1].add(heard)

    def tell(
        self, begun: int, now: float, times: int = ENOUGH_SAMPLES + 1, term: bytes = TERM
    ) -> None:
        """Hear messages of the leader that say its count."""
        for first in (True, *[False] * (times - 1)):
            self.number += 1
            echoed = (0, 0) if first else (self.number - 1, self.leader_count)
            told = FeedMessage(term, self.number, Place(begun, self.leader_count, *echoed))
            self.feed_reader.hear(told, self.count)
            self.offers.note(told, now)

    def know(self) -> None:
        """Hear the leader for the first time, and offer nothing: there is nothing yet."""
        self.tell(0, -OFFER_DELAY)
        assert self.payloads(0) == []

    def lose(self) -> None:
        """Let the leader's link be lost."""
        self.leader_count += 1

    def digest(self, payload: bytes) -> bytes:
        """Return the digest of a request."""
        return hear(Verb.REQUEST, 1, 0, b"gozo", b"reply", None, payload).digest

    def payloads(self, now: float) -> list[bytes]:
        """Return what is offered at a moment."""
        self.sent.clear()
        self.offers.make(now, 0)
        return [one.payload for one in self.sent]


def test_what_came_in_between_is_offered() -> None:
    """Once, some time after the link is back; again where that is lost as well."""
    standby = Standby()
    standby.know()
    for payload in (b"1", b"2", b"2"):
        standby.request(payload)
    standby.lose()
    begun = standby.leader_count
    missed = [b"3", b"2", *(b"many-%d" % number for number in range(2 * EDGE)), b"4"]
    for payload in missed:
        standby.request(payload, missed=True)
    standby.tell(begun, 1.0)
    standby.request(b"5")
    standby.request(b"2")
    assert standby.payloads(1.0) == []
    # The leader leaves out what it has heard, which it cannot tell of several that are the same.
    offered = [b"1", *missed, b"5"]
    assert standby.payloads(1.0 + OFFER_DELAY) == offered
    certain = [one.payload for one in standby.sent if not one.doubt]
    assert certain == [b"2", *missed[EDGE : len(missed) - EDGE]]
    assert standby.payloads(2.0 + OFFER_DELAY) == []

    standby.lose()
    standby.tell(standby.leader_count, 3.0)
    assert standby.payloads(3.0 + OFFER_DELAY)[: len(offered)] == offered


def test_the_ends_of_an_unsure_gap_are_left_alone() -> None:
    """Where the order differs too much, the leader could not leave out what it has heard."""
    standby = Standby()
    standby.know()
    standby.request(b"0")
    standby.lose()
    begun = standby.leader_count
    for number in range(4 * EDGE):
        standby.request(b"%d" % number, missed=True)
    standby.tell(begun, 1.0)
    standby.count += EDGE + 1
    standby.tell(begun, 1.0, times=1)
    standby.tell(begun, 1.0)
    standby.payloads(1.0 + OFFER_DELAY)
    assert 0 < len(standby.sent) < 4 * EDGE
    assert not any(one.doubt for one in standby.sent)


def test_an_unsure_gap_is_left_alone() -> None:
    """Nothing is offered before it is known how far the counts differ."""
    standby = Standby()
    standby.know()
    standby.lose()
    standby.request(b"1", missed=True)
    standby.tell(standby.leader_count, 0.0, times=1)
    assert standby.payloads(OFFER_DELAY) == []


def test_what_is_still_to_be_offered_is_set_aside() -> None:
    """The link is lost again too soon, and the rest forgotten: the leader has heard that."""
    standby = Standby()
    standby.know()
    standby.request(b"heard")
    standby.lose()
    begun = standby.leader_count
    for payload in (b"1", b"2", b"2"):
        standby.request(payload, missed=True)
    standby.tell(begun, 1.0)
    standby.request(b"2")
    standby.lose()
    standby.request(b"3", missed=True)
    standby.tell(standby.leader_count, 1.5)
    until = standby.feed_reader.heard_until(TERM[:LEADER], standby.leader_count)
    assert until is not None
    standby.offers.set_aside(until, 1.5)
    standby.held[1].forget(until)
    assert standby.payloads(1.0 + OFFER_DELAY) == [b"1", b"2", b"2", b"3"]
    assert standby.payloads(1.5 + OFFER_DELAY) == [b"3"]

    standby.offers.strike(TERM[:LEADER], standby.digest(b"1"), begun)
    standby.offers.strike(TERM[:LEADER], standby.digest(b"2"), 1)  # that was heard by both
    standby.offers.strike(b"else", standby.digest(b"2"), begun)
    assert [heard.payload for heard in standby.offers.aside] == [b"2", b"2"]
    standby.offers.forget()
    assert standby.offers.aside == []


def test_a_leader_that_was_not_heard_before() -> None:
    """All that came before its subscription is offered, once, though it leads anew later."""
    standby = Standby()
    standby.count = 100
    missed = [b"%d" % number for number in range(2 * EDGE)]
    for payload in missed:
        standby.request(payload, missed=True)
    standby.tell(0, 0)
    standby.request(b"heard")
    assert standby.payloads(OFFER_DELAY) == [*missed, b"heard"]
    assert [one.payload for one in standby.sent if not one.doubt] == missed[:EDGE]
    standby.tell(0, 1.0, term=TERM[:LEADER] + b"next")
    assert standby.payloads(1.0 + OFFER_DELAY) == []


def test_a_leader_that_had_heard_requests_before_it_was_heard() -> None:
    """Its reports were lost with its link: it may have what came meanwhile, and leaves it out."""
    standby, claims = Standby(), Claims()
    standby.count, standby.leader_count = 100, 1_000
    for number in range(3 * EDGE):
        standby.request(b"heard-%d" % number)
        claims.hear(standby.digest(b"heard-%d" % number))
    standby.lose()
    begun = standby.leader_count
    claims.begin_hearing(begun)
    missed = [b"missed-%d" % number for number in range(3 * EDGE)]
    for payload in missed:
        standby.request(payload, missed=True)
    standby.tell(begun, 0)
    standby.payloads(OFFER_DELAY)
    taken = [one.payload for one in standby.sent if claims.claims(one, standby.digest(one.payload))]
    assert taken == missed
