"""How far one count is ahead of another: whatever the order in which things come."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gozo.leadership.feed_messages import FeedMessage, Place
from gozo.leadership.offsets import ENOUGH_SAMPLES, SAMPLES, Hearing, Offset

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
    assert hearing.position(1) is None
    for begun, ahead in ((0, 100), (50, 107)):
        for number in range(1, ENOUGH_SAMPLES + 2):
            term = TERM[:4] + begun.to_bytes(4)
            echoed = (number - 1, begun + 10) if number > 1 else (0, 0)
            place = Place(begun, begun + 10, *echoed)
            hearing.note(FeedMessage(term, number), place, begun + 10 + ahead)
    assert hearing.position(50) == 150
    assert hearing.position(51) == 158
