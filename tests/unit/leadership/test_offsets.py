"""How far one count is ahead of another: whatever the order in which things come."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gozo.leadership.feed_messages import FeedMessage, Place
from gozo.leadership.offsets import ENOUGH_SAMPLES, RECENT, SAMPLES, Gap, Hearing, Offset

TERM = b"leadterm"


class Server:
    """Hands requests, and the leader's messages, to a leader and to a standby that joins later.

    What each has not read yet waits in a queue of its own; both read when they like.
    """

    def __init__(self, chance: random.Random, before: int, ahead: int) -> None:
        self.chance = chance
        self.hearing = Hearing()
        self.to_leader: list[int] = []
        self.to_standby: list[FeedMessage | None] = []
        self.counts = [before, ahead]
        self.number = 0
        self.echoed = (0, 0)

    def request(self) -> None:
        """Take a request of a client."""
        self.to_leader.append(0)
        self.to_standby.append(None)

    def message(self) -> None:
        """Let the leader say what it has heard by now."""
        self.number += 1
        place = Place(0, self.counts[0], *self.echoed)
        self.to_leader.append(self.number)
        self.to_standby.append(FeedMessage(TERM, self.number, place))

    def read(self, leader: int, standby: int) -> None:
        """Let the leader and the standby read so much."""
        for number in self.to_leader[:leader]:
            if number:
                self.echoed = (number, self.counts[0])
            else:
                self.counts[0] += 1
        for told in self.to_standby[:standby]:
            if told is None:
                self.counts[1] += 1
            else:
                assert told.place is not None
                self.hearing.note(told, told.place, self.counts[1])
        del self.to_leader[:leader], self.to_standby[:standby]


@given(
    st.randoms(use_true_random=False),
    st.integers(1, 1000),
    st.integers(0, 1000),
    st.integers(0, 20),
)
def test_it_is_exact_however_far_either_lags_behind(
    chance: random.Random, before: int, ahead: int, rate: int
) -> None:
    """Requests come all the time, and neither reads at once what is sent to it."""
    server = Server(chance, before, ahead)
    for _ in range(60):
        for _ in range(chance.randint(0, rate)):
            server.request()
        server.message()
        server.read(chance.randint(0, 2 * rate + 2), chance.randint(0, 2 * rate + 2))
    for _ in range(ENOUGH_SAMPLES + 1):
        server.read(10_000, 10_000)
        server.message()
    server.read(10_000, 10_000)
    assert server.hearing.is_settled
    assert server.hearing.position(before + 5) == ahead + 5
    assert server.hearing.position_there(ahead + 5) == before + 5


@given(st.randoms(use_true_random=False))
def test_messages_that_cross_do_not_change_it(chance: random.Random) -> None:
    """Two clients' messages may come in another order to the one than to the other."""
    server = Server(chance, 500, 0)
    for step in range(4 * SAMPLES):
        server.request()
        server.message()
        if step % 8 == 7:  # the request and the message change places, for one of the two
            if chance.random() < 0.5:
                server.to_leader[-2:] = server.to_leader[:-3:-1]
            else:
                server.to_standby[-2:] = server.to_standby[:-3:-1]
        server.read(10, 10)
    assert server.hearing.position(500) == 0


def test_a_first_message_gives_a_bound() -> None:
    """It comes behind all that the leader had counted, so it is not lower than that."""
    offset = Offset()
    offset.note(FeedMessage(TERM, 1), Place(0, 10), 3)
    assert (offset.value, offset.is_settled) == (-7, False)
    offset.note(FeedMessage(TERM, 2), Place(0, 12), 4)
    offset.note(FeedMessage(TERM, 3), Place(0, 13), 9)
    assert offset.value == -8


@pytest.mark.parametrize("place", [Place(0), Place(0, 0, 9, 9)], ids=["silent", "not heard"])
def test_what_says_nothing_is_not_taken_for_a_sample(place: Place) -> None:
    """A leader that ends hears no more; an echo of a message that came before this one heard."""
    offset = Offset()
    offset.note(FeedMessage(TERM, 20), place, 5)
    assert offset.value is None


def test_each_subscription_of_a_leader_has_its_own() -> None:
    """It missed requests in between, so what it numbers later stands further on here."""
    hearing = Hearing()
    assert (hearing.position(1), hearing.is_settled) == (None, False)
    for begun, ahead in ((0, 100), (50, 107)):
        for number in range(1, ENOUGH_SAMPLES + 2):
            term = TERM[:4] + begun.to_bytes(4)
            echoed = (number - 1, begun + 10) if number > 1 else (0, 0)
            place = Place(begun, begun + 10, *echoed)
            hearing.note(FeedMessage(term, number), place, begun + 10 + ahead)
    assert hearing.position(50) == 150
    assert hearing.position(51) == 158
    assert hearing.position_there(158) == 51
    assert hearing.position_there(157) is None, "it was missed, or came before"


def test_a_position_there_is_certain_or_not_given() -> None:
    """It needs enough samples, and all of them equal."""
    hearing = Hearing()
    assert hearing.position_there(9) is None
    for number, count in ((1, 5), (2, 5), (3, 5), (4, 6), (5, 7), (6, 7)):
        hearing.note(FeedMessage(TERM, number), Place(0, 3, number - 1, 3), count)
        found = hearing.position_there(9)
        assert (found is None) == (number < ENOUGH_SAMPLES + 1 or number > 5), number
        assert found in (None, 7)


def sampled(*samples: int, offset: Offset | None = None, term: bytes = TERM) -> Offset:
    """Return an offset that has these samples, of the messages 1, 2, ..."""
    offset = Offset() if offset is None else offset
    for number, sample in enumerate(samples, 1):
        offset.note(FeedMessage(term, number), Place(), 100 + sample)
        offset.note(FeedMessage(term, 1_000), Place(0, 200, number, 100), 0)
    return offset


@pytest.mark.parametrize(
    ("samples", "value", "spread"),
    [
        ((), None, 0),
        ((7,), 7, 0),
        ((7, 3), 3, 4),
        ((7, 3, 5), 3, 4),
        ((7, 3, 5, 9), 5, 2),
        ((7, 3, 5, 9, 4, 6, 8), 4, 4),
        ((7, 3, 5, 9, 4, 6, 8, 1), 4, 5),
        ((0, *range(100, 100 + SAMPLES)), 104, SAMPLES - 3),
    ],
)
def test_a_low_one_of_the_latest_samples(
    samples: tuple[int, ...], value: int | None, spread: int
) -> None:
    """A quarter of them are lower; from four on it is neither the greatest nor the smallest."""
    offset = sampled(*samples)
    assert (offset.value, offset.spread) == (value, spread)
    assert offset.is_settled is (len(samples) >= 2)


def test_each_echo_is_one_sample() -> None:
    """A repeated or older one does not count; a new term has numbers of its own."""
    offset = sampled(5, 9)
    for echoed in (2, 1, 0):
        offset.note(FeedMessage(TERM, 1_000), Place(0, 200, echoed, 100), 0)
    assert (offset.value, offset.spread) == (5, 4)
    offset.note(FeedMessage(b"leadnext", 3), Place(0, 200, 1, 0), 0)
    assert offset.spread == 4, "the message 1 of the new term was not heard"
    sampled(6, offset=offset, term=b"leadnext")
    assert offset.value == 5
    assert sorted(offset._samples) == [5, 6, 9]


def test_only_the_latest_messages_are_remembered() -> None:
    """The echo of an older one is ignored."""
    for number, value in ((1, None), (2, 0)):
        offset = Offset()
        for message in range(1, RECENT + 2):
            offset.note(FeedMessage(TERM, message), Place(), 50)
        offset.note(FeedMessage(TERM, RECENT + 1), Place(0, 0, number, 50), 50)
        assert offset.value == value


def test_a_bound_counts_no_more_once_there_is_a_sample() -> None:
    """A sample is exact, however low the bound was."""
    offset = sampled(5)
    offset.note(FeedMessage(TERM, 9), Place(0, 200), 0)
    assert offset.value == 5


def settle(hearing: Hearing, begun: int, ahead: int, *, echoes: int = ENOUGH_SAMPLES) -> None:
    """Hear a leader in one of its subscriptions, with this many echoes."""
    term = TERM[:4] + begun.to_bytes(4)
    for number in range(1, echoes + 2):
        echoed = (number - 1, begun + 10) if number > 1 else (0, 0)
        place = Place(begun, begun + 10, *echoed)
        hearing.note(FeedMessage(term, number), place, begun + 10 + ahead)


def test_gaps() -> None:
    """A leader missed what came between its subscriptions; how much before the first is unknown."""
    hearing = Hearing()
    settle(hearing, 20, 100)
    settle(hearing, 50, 107)
    assert hearing.gap(20) == Gap(0, 120, 0, 0, is_known=False)
    assert hearing.gap(50) == Gap(149, 157, 0, 0)
    assert (hearing.gap(49), hearing.gap(51)) == (None, None)
    assert (hearing.heard_until(20), hearing.heard_until(50)) == (None, 149)
    assert (hearing.end_of_gap(20), hearing.end_of_gap(50)) == (120, 157)
    assert hearing.end_of_gap(49) is None
    for begun, is_known in ((0, True), (1, True), (2, False)):
        first = Hearing()
        settle(first, begun, 5)
        assert first.gap(begun) == Gap(0, begun + 5, 0, 0, is_known=is_known)


def test_gaps_that_are_not_certain_yet() -> None:
    """Both ends need enough samples; until then there is only a bound."""
    for old, new in ((1, 2), (2, 1), (0, 2)):
        hearing = Hearing()
        settle(hearing, 20, 100, echoes=old)
        settle(hearing, 50, 107, echoes=new)
        assert hearing.gap(50) is None
        assert hearing.is_settled is (new == 2)
        assert hearing.heard_until(50) == 149
    hearing = Hearing()
    hearing.note(FeedMessage(TERM, 1), Place(20), 120)
    settle(hearing, 50, 107)
    assert hearing.gap(50) is None
    assert hearing.end_of_gap(20) is None
    assert hearing.heard_until(50) is None, "its position is not known either"


def test_how_far_the_ends_of_a_gap_may_be_wrong() -> None:
    """As far as the samples of each subscription differ."""
    hearing = Hearing()
    for begun, spread in ((20, 3), (50, 5)):
        term = TERM[:4] + begun.to_bytes(4)
        for number, count in enumerate((100, 100 + spread), 1):
            hearing.note(FeedMessage(term, number), Place(begun), count)
            hearing.note(FeedMessage(term, 100 + number), Place(begun, 0, number, 60), 0)
    assert hearing.gap(50) == Gap(49 + 40, 50 + 40, 3, 5)


def test_old_subscriptions_are_forgotten() -> None:
    """Requests of one count as received in the oldest one that is known."""
    hearing = Hearing()
    for begun in range(Hearing.MOST_SUBSCRIPTIONS + 1):
        settle(hearing, 100 * begun, begun)
    assert hearing.end_of_gap(0) is None
    assert hearing.end_of_gap(100) == 101
    assert hearing.position(5) == 6
    assert hearing.position(100) == 101
    assert hearing.position(201) == 203


def test_a_position_is_of_the_subscription_before_it() -> None:
    """That subscription may be unknown."""
    hearing = Hearing()
    settle(hearing, 20, 100)
    hearing.note(FeedMessage(b"leadmore", 1), Place(50), 200)
    assert (hearing.position(50), hearing.position(51)) == (150, None)
    assert not hearing.is_settled
