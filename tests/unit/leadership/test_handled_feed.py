"""What a leader tells, and what a standby makes of it."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gozo.errors import DisconnectedError
from gozo.leadership.feed_messages import (
    ACCOUNT,
    NONCE,
    Answer,
    FeedMessage,
    Place,
    Question,
    read_feed_message,
    read_question,
    write_question,
)
from gozo.leadership.handled_feed import EARLY_KEPT, MOST_DIGESTS, FeedReader, FeedWriter, Handled
from gozo.leadership.offsets import ENOUGH_SAMPLES
from gozo.protocol.heard import HeardCount, Verb, hear
from gozo.requests.backlog import Backlog
from tests.support.heard import ignore

ONE, OTHER = b"digest-1", b"digest-2"
LEADER = b"lead"
TERM = b"leadterm"


def at(digest: bytes, position: int) -> Handled:
    """Return what a leader has handled that it heard itself."""
    return Handled(digest, position, position)


def told(term: bytes, number: int) -> FeedMessage:
    """Make a message without digests."""
    return FeedMessage(term, number, Place())


class Wire:
    """Where a teller publishes, which it hears too; the requests that it has heard."""

    def __init__(self) -> None:
        self.up = True
        self.published = asyncio.Event()
        self.count = HeardCount()
        self.all: list[FeedMessage] = []
        self.sent: list[bytes] = []
        self.feed_writer = FeedWriter(self.publish, self.count, LEADER)

    def publish(self, payload: bytes) -> None:
        """Take a message, if there is a connection."""
        if not self.up:
            raise DisconnectedError("there is none")
        message = read_feed_message(payload)
        assert message is not None
        self.sent.append(payload)
        self.all.append(message)
        self.published.set()

    def echo(self) -> None:
        """Let the teller hear its last message."""
        self.feed_writer.heard_back(self.sent[-1])

    @property
    def handled(self) -> list[tuple[int, list[bytes], list[int]]]:
        """What was told, by the numbers of the messages."""
        return [(it.number, it.digests, it.positions) for it in self.all]


def settled(wire: Wire, count: int) -> FeedReader:
    """Return what a standby knows that has heard some of a leader, at an own count."""
    feed_reader = FeedReader(ignore)
    feed_reader.begin(0.0, count)
    for _ in range(ENOUGH_SAMPLES + 1):
        wire.feed_writer.hello()
        wire.echo()
        feed_reader.hear(wire.all[-1], count)
    return feed_reader


async def test_digests_are_gathered_and_numbered() -> None:
    """Many go out in one message, with the count at that time."""
    wire = Wire()
    wire.count.value = 7
    wire.feed_writer.handled(OTHER, 3)
    wire.feed_writer.handled(ONE, 5)
    wire.feed_writer.flush()
    wire.echo()
    wire.count.value = 9
    wire.feed_writer.hello()
    assert wire.handled == [(1, [OTHER, ONE], [3, 5]), (2, [], [])]
    assert [it.place for it in wire.all] == [Place(0, 7), Place(0, 9, 1, 7)]


async def test_a_connection_that_carries_nothing() -> None:
    """Reports that were lost with it are repeated over another one, and count once."""
    wire, other = Wire(), Wire()
    reader = settled(wire, 0)
    wire.count.value = 5
    for position, digest in enumerate((ONE, OTHER, ONE), 1):
        wire.feed_writer.handled(digest, position)
        wire.feed_writer.flush()
        if position == 1:
            wire.echo()  # the others are never echoed
    came = [message for message in wire.all if message.digests][:2]
    struck = []
    for message in came:
        reader.hear(message, 5)
        struck += reader.handled(message)
    wire.feed_writer.handled(OTHER, 4)
    wire.feed_writer.flush_by(other.publish)
    repeated = [message for message in other.all if not reader.is_repeated(message)]
    assert [message.digests for message in other.all] == [[OTHER], [ONE], [OTHER]]
    assert [message.digests for message in repeated] == [[ONE], [OTHER]], "one had arrived"
    assert not any(reader.hear(message, 5) for message in repeated[:1]), "none was missed"


@pytest.mark.parametrize("handled", [True, False])
async def test_it_reports_by_itself(handled: bool) -> None:
    """What was handled, or only the count, a moment later and once."""
    wire = Wire()
    for position in range(1, 4):
        wire.count.value = position
        if handled:
            wire.feed_writer.handled(ONE, position)
        else:
            wire.feed_writer.heard()
    assert wire.sent == []
    async with asyncio.timeout(10):
        await wire.published.wait()
    assert wire.handled == [(1, [ONE] * 3 * handled, [1, 2, 3] if handled else [])]
    assert wire.all[0].place == Place(0, 3)


async def test_what_cannot_be_told_is_told_later() -> None:
    """Without a gap in the numbers, since nobody missed anything."""
    wire = Wire()
    wire.up = False
    wire.feed_writer.handled(ONE, 1)
    wire.feed_writer.flush()
    wire.up = True
    wire.feed_writer.handled(OTHER, 2)
    wire.feed_writer.flush()
    assert wire.handled == [(1, [ONE, OTHER], [1, 2])]


async def test_many_digests_go_into_several_messages() -> None:
    """Each is small enough for any server."""
    wire = Wire()
    for number in range(MOST_DIGESTS + 1):
        wire.feed_writer.handled(number.to_bytes(8), number)
    wire.feed_writer.flush()
    assert [len(message.digests) for message in wire.all] == [MOST_DIGESTS, 1]


async def test_a_new_term_has_a_name_of_its_own() -> None:
    """Its numbers begin anew."""
    wire = Wire()
    wire.feed_writer.hello()
    wire.feed_writer.begin_term()
    wire.feed_writer.hello()
    first, second = wire.all
    assert first.term != second.term
    assert first.leader == second.leader
    assert first.number == second.number == 1


async def test_a_greeting_is_answered_by_counts_that_suffice() -> None:
    """Each is sent as the one before it comes back, and then no more."""
    wire = Wire()
    wire.count.value = 5
    wire.feed_writer.hello(echoes=ENOUGH_SAMPLES)
    while len(wire.sent) <= ENOUGH_SAMPLES:
        wire.echo()
    wire.echo()
    assert len(wire.sent) == ENOUGH_SAMPLES + 1
    feed_reader = FeedReader(ignore)
    feed_reader.begin(0.0, 2)
    for message in wire.all:
        feed_reader.hear(message, 2)
    assert feed_reader.is_settled(LEADER)
    assert feed_reader.position(LEADER, 5) == 2


async def test_who_hears_no_more_says_no_count() -> None:
    """A standby goes on hearing requests, and would take the difference for greater."""
    wire = Wire()
    wire.count.value = 5
    wire.feed_writer.end_hearing()
    wire.feed_writer.hello()
    wire.echo()
    wire.feed_writer.handled(ONE, 4)
    wire.feed_writer.flush()
    assert {it.place for it in wire.all} == {Place(0)}


@given(st.sampled_from([b"", b"h", b"a", b"H", b"T", b"?"]), st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(kind: bytes, rest: bytes) -> None:
    """Whoever may publish there cannot stop a standby."""
    message = read_feed_message(kind + rest)
    assert message is None or all(len(digest) == 8 for digest in message.digests)
    question = read_question(kind + rest)
    assert question is None or write_question(question) == kind + rest


async def test_an_answer_in_parts() -> None:
    """It is read as it was written, and so is the question."""
    question = Question(b"n" * NONCE, b"four", 9)
    assert read_question(write_question(question)) == question
    wire = Wire()
    entries = b"".join(n.to_bytes(8) + (n + 1).to_bytes(8) for n in range(MOST_DIGESTS + 1))
    wire.feed_writer.answer(Answer(question.nonce, 5, -7, 0), entries, 1)
    first, second = [it.answer for it in wire.all]
    assert first is not None
    assert second is not None
    assert (first[:4], second[:4]) == ((question.nonce, 5, -7, 1), (question.nonce, 5, -7, 0))
    assert second.digests == [MOST_DIGESTS.to_bytes(8)]
    assert second.positions == [MOST_DIGESTS + 1]
    assert wire.sent[0][:1] == ACCOUNT


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
    feed_reader = FeedReader(ignore)
    feed_reader.begin(0.0, 0)
    assert [feed_reader.hear(told(term, number), 0) for term, number in heard] == missed


async def test_what_the_leader_heard_before_this_one_did_strikes_out_nothing() -> None:
    """A later request may be the same byte for byte."""
    wire = Wire()
    wire.count.value = 10
    feed_reader = settled(wire, 0)
    wire.feed_writer.handled(ONE, 10)
    wire.count.value = 12
    wire.feed_writer.handled(OTHER, 11)
    wire.feed_writer.begin_term()
    wire.feed_writer.handled(ONE, 12)
    wire.feed_writer.flush()
    feed_reader.hear(wire.all[-1], 2)
    assert feed_reader.handled(wire.all[-1]) == [at(OTHER, 1), at(ONE, 2)]


async def test_what_came_before_anything_was_kept_is_passed_on() -> None:
    """With the leader, the digest, and the leader's own position."""
    earlier: list[tuple[bytes, bytes, int]] = []
    wire = Wire()
    wire.count.value = 10
    feed_reader = FeedReader(lambda *one: earlier.append(one))
    feed_reader.begin(0.0, 3)
    for _ in range(ENOUGH_SAMPLES + 1):
        wire.feed_writer.hello()
        wire.echo()
        feed_reader.hear(wire.all[-1], 3)
    wire.feed_writer.handled(ONE, 9)
    wire.count.value = 11
    wire.feed_writer.handled(OTHER, 11)
    wire.feed_writer.flush()
    feed_reader.hear(wire.all[-1], 4)
    assert feed_reader.handled(wire.all[-1]) == [at(OTHER, 4)]
    assert earlier == [(LEADER, ONE, 9)]


def test_of_a_leader_that_was_never_heard_nothing_is_known() -> None:
    """Neither what it missed, nor what it took before."""
    feed_reader = FeedReader(ignore)
    feed_reader.begin(0.0, 0)
    assert feed_reader.gap(LEADER, 5) is None
    assert feed_reader.position(LEADER, 5) is None
    assert not feed_reader.is_settled(LEADER)
    assert feed_reader.handled(older(b"H", 1, (ONE, 7))) == []


async def test_what_is_handled_waits_until_positions_are_known() -> None:
    """Between them come requests, so that a first message alone says too little."""
    wire = Wire()
    wire.count.value = 10
    wire.feed_writer.handled(ONE, 10)
    wire.feed_writer.flush()
    wire.echo()
    feed_reader = FeedReader(ignore)
    feed_reader.begin(0.0, 0)
    feed_reader.hear(wire.all[-1], 3)  # three were heard before it comes
    assert feed_reader.handled(wire.all[-1]) == []
    assert feed_reader.settle() == [at(ONE, 3)]
    feed_reader.handled(wire.all[-1])
    for count in (3, 4):
        wire.count.value = 7 + count
        wire.feed_writer.hello()
        wire.echo()
        feed_reader.hear(wire.all[-1], count)
    wire.feed_writer.hello()
    feed_reader.hear(wire.all[-1], 4)
    assert feed_reader.handled(wire.all[-1]) == [at(ONE, 3)]


def older(kind: bytes, number: int, *entries: tuple[bytes, int]) -> FeedMessage:
    """Make a message of an older version, with the number under which each was taken."""
    written = b"".join(digest + taking.to_bytes(8) for digest, taking in entries)
    message = read_feed_message(kind + TERM + number.to_bytes(8) + written)
    assert message is not None
    return message


def test_an_older_version_is_followed_by_digests() -> None:
    """As it would be by its like: what it handles is struck out, from the first request on."""
    feed_reader, backlog = FeedReader(ignore), Backlog()
    feed_reader.begin(0.0, 0)
    backlog.index(True)
    for position, number in enumerate((1, 2), start=1):
        backlog.add(hear(Verb.REQUEST, position, 0, b"gozo", b"%d" % number, None, b""))
    first, second = (heard.digest for heard in backlog.requests)
    messages = [
        older(b"T", 1, (first, 7)),
        older(b"H", 2, (first, 7)),
        older(b"H", 3, (second, 0), (ONE, 0)),
    ]
    for message in messages:
        assert not feed_reader.hear(message, 2)
    handled = [one for message in messages for one in feed_reader.handled(message)]
    assert [backlog.strike(one.digest, one.until) for one in handled] == [True, True, False]
    feed_reader.note_early(handled[-1])
    assert not feed_reader.is_early(ONE)


@pytest.mark.parametrize(
    ("heard", "first"), [(0, 9), (1, 8), (2, 7), (30, 7)], ids=["none", "one", "two", "all"]
)
def test_what_an_older_version_took_before_this_one_heard_strikes_out_nothing(
    heard: int, first: int
) -> None:
    """Of those that it takes first, some may have come before: a later one may be the same."""
    feed_reader = FeedReader(ignore)
    feed_reader.begin(0.0, 10)
    feed_reader.hear(older(b"T", 5, (ONE, 7), (ONE, 8)), 10 + heard)
    feed_reader.hear(older(b"T", 6, (ONE, 9)), 50)
    handled = feed_reader.handled(older(b"H", 7, *((ONE, taking) for taking in range(1, 10))))
    assert len(handled) == 10 - first


def test_an_early_digest_strikes_one_request() -> None:
    """Once, and not for ever."""
    feed_reader = FeedReader(ignore)
    feed_reader.begin(0.0, 0)
    feed_reader.note_early(at(ONE, 1))
    assert feed_reader.is_early(ONE)
    assert not feed_reader.is_early(ONE)
    feed_reader.note_early(at(ONE, 1))
    for turn in range(1, 3):
        feed_reader.turn(turn * (EARLY_KEPT + 0.1), 0)
    assert not feed_reader.is_early(ONE)


def test_identical_ones_are_early_each() -> None:
    """As many as were handled, and for some seconds at least."""
    feed_reader = FeedReader(ignore)
    feed_reader.begin(0.0, 0)
    for position in range(1, 4):
        feed_reader.note_early(at(ONE, position))
    for turn in range(1, 5):
        feed_reader.turn(turn * EARLY_KEPT / 4, 0)
    assert [feed_reader.is_early(ONE) for _ in range(4)] == [True, True, True, False]


def test_what_was_heard_some_seconds_ago_is_not_early() -> None:
    """It was dropped here, and a later one may be the same byte for byte."""
    feed_reader = FeedReader(ignore)
    feed_reader.begin(0.0, 0)
    for turn in range(1, 3):
        feed_reader.turn(turn * (EARLY_KEPT + 0.1), 10 * turn)
    feed_reader.note_early(at(ONE, 10))
    assert not feed_reader.is_early(ONE)
    feed_reader.note_early(at(ONE, 11))
    assert feed_reader.is_early(ONE)


@pytest.mark.parametrize(("handled", "missed"), [(0, False), (1, True)])
async def test_only_reports_of_handled_requests_are_missed(handled: int, missed: bool) -> None:
    """A count that was lost with the link says nothing that the next one does not say."""
    wire = Wire()
    feed_reader = settled(wire, 0)
    for _ in range(handled):
        wire.feed_writer.handled(ONE, 1)
    wire.feed_writer.flush()
    wire.feed_writer.hello()
    wire.feed_writer.hello()
    assert feed_reader.hear(wire.all[-1], 2) is missed
