"""What a leader tells, and what a standby makes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gozo.errors import DisconnectedError
from gozo.succession import (
    EARLY,
    HANDLED,
    MOST,
    SETTLED,
    TAKEN,
    Progress,
    Teller,
    Told,
    read_told,
)

ONE, OTHER = b"digest-1", b"digest-2"


def told(term: bytes, number: int) -> Told:
    """Make a message without digests."""
    return Told(HANDLED, term, number, [], [])


class Wire:
    """Where a teller publishes."""

    def __init__(self) -> None:
        self.up = True
        self.all: list[Told] = []

    def publish(self, payload: bytes) -> None:
        """Take a message, if there is a connection."""
        if not self.up:
            raise DisconnectedError("there is none")
        message = read_told(payload)
        assert message is not None
        self.all.append(message)


async def test_digests_are_gathered_and_numbered() -> None:
    """What was taken and what was handled go out in messages of their own, in this order."""
    wire = Wire()
    teller = Teller(wire.publish, b"lead")
    teller.handled(OTHER)
    teller.handled(ONE, teller.taken(ONE))
    teller.flush()
    teller.hello()
    assert wire.all == [
        Told(TAKEN, teller.term, 1, [ONE], [1]),
        Told(HANDLED, teller.term, 2, [OTHER, ONE], [0, 1]),
        Told(HANDLED, teller.term, 3, [], []),
    ]


async def test_what_cannot_be_told_is_told_later() -> None:
    """Without a gap in the numbers, since nobody missed anything."""
    wire = Wire()
    wire.up = False
    teller = Teller(wire.publish, b"lead")
    teller.handled(ONE)
    teller.flush()
    wire.up = True
    teller.handled(OTHER)
    teller.flush()
    assert wire.all == [Told(HANDLED, teller.term, 1, [ONE, OTHER], [0, 0])]


async def test_many_digests_go_into_several_messages() -> None:
    """Each is small enough for any server."""
    wire = Wire()
    teller = Teller(wire.publish, b"lead")
    for number in range(MOST + 1):
        teller.handled(number.to_bytes(8))
    teller.flush()
    assert [len(message.digests) for message in wire.all] == [MOST, 1]


async def test_a_new_term_has_a_name_of_its_own() -> None:
    """Its numbers begin anew."""
    wire = Wire()
    teller = Teller(wire.publish, b"lead")
    teller.hello()
    teller.begin_term()
    teller.hello()
    first, second = wire.all
    assert first.term != second.term
    assert first.number == second.number == 1


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(payload: bytes) -> None:
    """Whoever may publish there cannot stop a standby."""
    message = read_told(payload)
    assert message is None or all(len(digest) == 8 for digest in message.digests)


@pytest.mark.parametrize(
    ("heard", "missed"),
    [
        ([(b"a", 7), (b"a", 8), (b"a", 9)], [False, False, False]),
        ([(b"a", 7), (b"a", 9)], [False, True]),
        ([(b"a", 7), (b"b", 1), (b"b", 2)], [False, False, False]),
        ([(b"a", 7), (b"b", 2)], [False, True]),
        ([(b"a", 7), (b"b", 1), (b"a", 8)], [False, False, False]),
        ([(b"a", 7), (b"b", 1), (b"a", 9)], [False, False, True]),
    ],
    ids=["all", "a gap", "a new term", "a term's beginning", "two terms", "two terms, a gap"],
)
def test_a_gap_in_the_numbers_is_noticed(
    heard: list[tuple[bytes, int]], missed: list[bool]
) -> None:
    """Whatever came before this one began to hear; a leader that was deposed may still tell."""
    progress = Progress()
    progress.begin(0.0)
    assert [progress.missed(told(term, number)) for term, number in heard] == missed


async def test_what_was_taken_before_this_is_heard_strikes_out_nothing() -> None:
    """A later request may be the same byte for byte; a new term of the leader has its numbers."""
    wire = Wire()
    teller = Teller(wire.publish, b"lead")
    before = teller.taken(ONE)
    teller.flush()
    wire.all.clear()
    after = teller.taken(ONE)
    teller.flush()
    teller.begin_term()
    teller.handled(ONE, before)
    teller.handled(OTHER)
    teller.handled(ONE, after)
    teller.flush()
    progress = Progress()
    progress.begin(0.0)
    assert not any(progress.missed(message) for message in wire.all)
    assert progress.handled(wire.all[-1]) == [OTHER, ONE]
    gap = wire.all[-1]._replace(number=9)
    assert progress.missed(gap)
    assert progress.handled(gap) == [OTHER]


def test_an_early_digest_strikes_one_request() -> None:
    """Once, and not for ever."""
    progress = Progress()
    progress.begin(0.0)
    now = SETTLED
    progress.note_early(ONE, now)
    assert progress.is_early(ONE)
    assert not progress.is_early(ONE)
    progress.note_early(ONE, now)
    for turn in range(1, 3):
        progress.note_early(OTHER, now + turn * (EARLY + 0.1))
    assert not progress.is_early(ONE)


def test_what_is_told_at_the_beginning_is_of_requests_that_were_not_heard() -> None:
    """It must not strike out a later one that is the same byte for byte."""
    progress = Progress()
    progress.begin(0.0)
    progress.note_early(ONE, SETTLED / 2)
    assert not progress.is_early(ONE)
