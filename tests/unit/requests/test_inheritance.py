"""What the next leader has of what was another's: counted, not only looked up."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from gozo.leadership.feed_messages import read_feed_message, read_question
from gozo.leadership.handled_feed import FeedReader, FeedWriter
from gozo.protocol.heard import HeardCount
from gozo.requests.inheritance import FIRST_WAIT, Account, Inheritance, Inquiry
from tests.support.heard import ignore


class Held(NamedTuple):
    """A request that the former leader has."""

    digest: bytes
    position: int


@given(
    st.lists(st.sampled_from([b"a", b"b"]), max_size=30),
    st.integers(0, 30),
    st.integers(0, 30),
    st.integers(-5, 5),
)
def test_the_later_ones_are_left_to_the_leader(
    digests: list[bytes], joined: int, led_at: int, offset: int
) -> None:
    """It heard all since it joined, and those before that are handed over, and no others."""
    held = [Held(digest, number + 1) for number, digest in enumerate(digests)]
    account = Account(led_at, 0, len(digests))
    for request in held[joined:led_at]:
        account.note(request.digest, request.position, in_gap=False)
    lacking = account.lacking(held)
    mine = held[:joined] if joined < led_at else [h for h in held if h.position <= led_at]
    assert lacking == mine


def test_of_an_earlier_subscription() -> None:
    """What the leader heard while this replica heard nothing is no reason to leave one out."""
    account = Account(since=0, begun=4, until=9)
    account.note(b"a", None, in_gap=False)
    for _ in range(3):
        account.note(b"a", None, in_gap=True)
    held = [Held(b"a", 1), Held(b"a", 2), Held(b"a", 5)]
    assert account.lacking(held) == [Held(b"a", 1)]


def test_heard_by_both_before_the_subscription_was_made_anew() -> None:
    """What came after the leader's term began is the leader's, before the gap as well."""
    held = [Held(b"%d" % number, number) for number in (3, 4, 5)]
    unknown = Account(since=7, begun=6, until=6)
    assert unknown.lacking(held) == held
    known = Account(since=7, begun=6, until=6, since_before=3)
    assert known.lacking(held) == held[:1]


def test_each_subscription_counts_for_itself() -> None:
    """The lead changed after the link had come back: both sides of the gap are held."""
    account = Account(since=6, begun=4, until=9)
    account.note(b"a", 6, in_gap=True)
    account.note(b"a", -3, in_gap=False)
    held = [Held(b"a", number) for number in (2, 3, 5, 6, 7)]
    assert account.lacking(held) == [Held(b"a", 2), Held(b"a", 5)]


def test_what_was_handed_over_is_the_other_ones_as_well() -> None:
    """It came while this replica heard nothing, and the one that had heard it leads now."""
    account = Account(since=6, begun=4, until=9)
    account.note(b"a", None, in_gap=True)
    held = [Held(b"a", number) for number in (3, 4, 5)]
    assert account.lacking(held) == [Held(b"a", 3), Held(b"a", 5)]


def test_the_leader_cannot_say_what_came_in_the_gap() -> None:
    """What was handed over is not told from what was heard in an earlier subscription."""
    account = Account(since=0, begun=4, until=9, is_gap_known=False)
    for number in range(2):
        account.note(b"a", None, in_gap=False)
        account.note_pending(b"a", number, None, in_gap=False)
    held = [Held(b"a", 1), Held(b"a", 4), Held(b"a", 4)]
    assert account.pending(held) == Counter({(b"a", 0): 1, (b"a", 1): 1})
    assert account.lacking(held) == [Held(b"a", 1)]


def test_what_comes_after_the_change_counts_for_nothing() -> None:
    """A leader that thaws hears it as a standby, and the next one had it when its term began."""
    account = Account(since=9, begun=0, until=3)
    for position in range(2, 10):
        account.note(b"a", position, in_gap=False)
    held = [Held(b"a", number) for number in (1, 2, 3)]
    assert account.lacking(held) == [Held(b"a", 1)]


def test_what_the_leader_has_not_handled() -> None:
    """What came after the change is not counted; of what came in the gap, only what was handed."""
    account = Account(since=6, begun=4, until=9)
    account.note_pending(b"a", 1, -3, in_gap=False)
    account.note_pending(b"a", 2, 3, in_gap=True)
    account.note_pending(b"b", 2, 3, in_gap=True)
    account.note_pending(b"a", 3, 9, in_gap=True)
    account.note_pending(b"a", 4, 10, in_gap=True)
    account.note_pending(b"a", 5, 5, in_gap=True)
    account.note_handled(b"a", 5)
    held = [Held(b"a", 2), Held(b"b", 4)]
    assert account.pending(held) == Counter([(b"a", 1), (b"a", 3), (b"b", 2)])


async def test_an_answer_that_takes_longer_than_a_question() -> None:
    """However long the way to the leader and back: it is asked less often, until it answers."""
    feed_reader = FeedReader(ignore)
    questions = 0

    def hear(message: bytes) -> None:
        """Hear what the leader says, at the far end of a long way."""
        told = read_feed_message(message)
        assert told is not None
        feed_reader.hear(told, 0)
        asyncio.get_running_loop().call_later(2.5 * FIRST_WAIT, inquiry.hear, told)

    def ask(message: bytes) -> None:
        nonlocal questions
        questions += 1
        question = read_question(message)
        assert question is not None
        inherited.tell(question, feed_reader, leader, [])

    leader = FeedWriter(hear, HeardCount(1), b"lead")
    inherited = Inheritance([Held(b"12345678", 1)], 1)
    inquiry = Inquiry(b"mine", ask, feed_reader, HeardCount())
    async with asyncio.timeout(10):
        account = await inquiry.find_out(lambda: 0, lambda: True)
    assert account is not None
    assert account.leader == b"lead"
    assert questions == 3
