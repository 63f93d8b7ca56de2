"""What a former leader keeps of what the next one has: nothing that is over, and no copy more."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gozo.leadership.feed_messages import (
    DONE,
    GREETING,
    LATER,
    LEADER,
    FeedMessage,
    Question,
    read_feed_message,
)
from gozo.leadership.handled_feed import FeedReader, FeedWriter
from gozo.protocol.heard import Heard, HeardCount
from gozo.requests.entrusted import Entrusted
from gozo.requests.inheritance import Inheritance
from tests.support.heard import heard, ignore

NEXT, THIRD = b"next", b"more"
AHEAD = 1_000  # by how much the next leader's positions are greater


def pending(requests: list[Heard]) -> Counter[tuple[bytes, int]]:
    """What the next leader has not handled of some requests."""
    return Counter((one.digest, one.position + AHEAD) for one in requests)


def handled(requests: list[Heard], leader: bytes = NEXT) -> FeedMessage:
    """What a leader tells when it has handled some."""
    digests = [one.digest for one in requests]
    return FeedMessage(
        leader + b"term", 1, None, digests, [one.position + AHEAD for one in requests]
    )


@given(
    st.lists(st.sampled_from([b"a", b"b", b"c"]), max_size=20),
    st.integers(0, 20),
    st.integers(0, 20),
)
def test_what_is_left(payloads: list[bytes], done: int, more: int) -> None:
    """Exactly what the leader has not handled, before it answered and since, is kept."""
    requests = [heard(payload, number) for number, payload in enumerate(payloads, 1)]
    entrusted = Entrusted()
    entrusted.begin(NEXT, pending(requests[done:]))
    entrusted.keep(requests)
    entrusted.handled(handled(requests[:done]))  # which comes late
    entrusted.handled(handled(requests[done : done + more]))
    left = Counter(one.payload for one in requests[done + more :])
    assert Counter(one.payload for one in entrusted.requests) == left


def test_the_latest_of_identical_ones() -> None:
    """The leader handles them in their order, so it has the latest."""
    requests = [heard(b"same", number) for number in (1, 2, 3)]
    entrusted = Entrusted()
    entrusted.begin(NEXT, pending(requests[1:]))
    entrusted.keep(requests)
    assert list(entrusted.requests) == requests[1:]


def test_identical_ones_that_only_the_leader_has() -> None:
    """It handles those first which the former leader delivered: these strike out no others."""
    requests = [heard(b"same", number) for number in (1, 2, 3, 4)]
    entrusted = Entrusted()
    entrusted.begin(NEXT, pending(requests))
    entrusted.keep(requests[2:])
    entrusted.handled(handled(requests[:2]))
    assert list(entrusted.requests) == requests[2:]
    entrusted.handled(handled(requests[2:3]))
    assert list(entrusted.requests) == requests[3:]


def test_dropped_ones_strike_out_no_others() -> None:
    """The first are dropped where there is no room, and the leader handles them first."""
    requests = [heard(b"same", number) for number in (1, 2, 3)]
    entrusted = Entrusted()
    entrusted.begin(NEXT, pending(requests))
    entrusted.keep(requests)
    assert entrusted.shrink(requests[0].size) == 2
    entrusted.handled(handled(requests[:2]))
    assert list(entrusted.requests) == requests[2:]


def test_in_the_order_in_which_they_came() -> None:
    """What is just being sent is given up last, and came first."""
    requests = [heard(b"same", number) for number in (1, 2, 3)]
    entrusted = Entrusted()
    entrusted.begin(NEXT, pending(requests))
    entrusted.keep(requests[1:])
    entrusted.keep(requests[:1])
    assert list(entrusted.requests) == requests


def test_handled_before_it_is_kept() -> None:
    """What is just being sent is given up later than the rest."""
    requests = [heard(b"one", 1), heard(b"two", 2)]
    entrusted = Entrusted()
    entrusted.begin(NEXT, pending(requests))
    entrusted.keep(requests[:1])
    entrusted.handled(handled(requests))
    entrusted.keep(requests[1:])
    assert not entrusted


def test_another_leader() -> None:
    """Its positions are others: it strikes out by digest alone."""
    requests = [heard(b"one", 1), heard(b"two", 2)]
    entrusted = Entrusted()
    entrusted.begin(NEXT, pending(requests))
    entrusted.keep(requests)
    entrusted.handled(handled(requests, THIRD))
    assert len(entrusted) == 2
    entrusted.strike(requests[0].digest)
    assert list(entrusted.requests) == requests[1:]


def test_old_ones_with_an_id_are_forgotten() -> None:
    """Nothing says when those are stored that the leader does not mention; the others stay."""
    requests = [heard(b"one", 1, received_us=5, id_=True), heard(b"two", 2, received_us=4)]
    entrusted = Entrusted()
    entrusted.begin(NEXT, pending(requests))
    entrusted.keep(requests)
    entrusted.forget_old(5, lambda one: one.headers is None)
    assert len(entrusted) == 2
    entrusted.forget_old(6, lambda one: one.headers is None)
    assert list(entrusted.requests) == requests[1:]


def test_what_the_leader_answers() -> None:
    """It says which of what it had are done, and what came since and is not."""
    wire: list[bytes] = []
    feed_writer = FeedWriter(wire.append, HeardCount(9), NEXT)
    had = [heard(b"one", 1), heard(b"two", 2)]
    left = [had[1], heard(b"three", 7)]
    question = Question(GREETING, THIRD[:LEADER], 1)
    Inheritance(had, 5).tell(question, FeedReader(ignore), feed_writer, left)
    told = read_feed_message(wire[-1])
    assert told is not None
    assert told.answer is not None
    assert (told.answer.led_at, told.answer.left) == (5, 0)
    assert list(zip(told.answer.digests, told.answer.positions, strict=True)) == [
        (had[0].digest, 1 | DONE),
        (had[1].digest, 2),
        (left[1].digest, 7 | LATER),
    ]
