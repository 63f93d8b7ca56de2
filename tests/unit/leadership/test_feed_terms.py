"""What a reader of reports forgets, and how a writer counts them across terms and connections."""

from __future__ import annotations

import asyncio

import pytest

from gozo.errors import DisconnectedError
from gozo.leadership.feed_messages import (
    ACCOUNT,
    ENTRY,
    LEADER,
    TERM,
    UNKNOWN,
    Answer,
    FeedMessage,
    Place,
    read_feed_message,
)
from gozo.leadership.handled_feed import (
    EARLY_KEPT,
    GATHER,
    MOST_DIGESTS,
    MOST_TERMS,
    MOST_UNHEARD,
    MOST_UNPLACED,
    FeedReader,
    FeedWriter,
    Handled,
)
from gozo.leadership.offsets import ENOUGH_SAMPLES, Gap
from gozo.protocol.heard import HeardCount
from tests.support.heard import ignore

ONE, OTHER = b"digest-1", b"digest-2"
NAME = b"lead"
LEADTERM = b"leadterm"


def message(
    number: int,
    place: Place | None = None,
    *,
    positions: tuple[int, ...] = (),
    before: int | None = 0,
    term: bytes = LEADTERM,
) -> FeedMessage:
    """Make a message that reports requests, all with one digest."""
    digests = [ONE] * len(positions)
    return FeedMessage(term, number, place or Place(), digests, list(positions), before)


def settled(reader: FeedReader, begun: int = 0, ahead: int = 0, first: int = 1) -> None:
    """Let a reader hear a leader until it knows the difference between their counts."""
    for number in range(first, first + ENOUGH_SAMPLES + 1):
        echoed = number - 1 if number > first else 0
        place = Place(begun, begun + 10, echoed, begun + 10)
        reader.hear(message(number, place), begun + 10 + ahead)


def reader_from(count: int = 0) -> FeedReader:
    """Return a reader that begins at a count of its own."""
    reader = FeedReader(ignore)
    reader.begin(0.0, count)
    return reader


def test_a_reader_that_begins_again_knows_nothing() -> None:
    """It forgets leaders, their numbers, early reports and reports that wait."""
    reader = reader_from()
    settled(reader)
    reader.note_early(Handled(ONE, 9, 9))
    reader.begin(100.0, 7)
    assert (reader.kept_from, reader.is_settled(NAME)) == (7, False)
    assert not reader.is_early(ONE)
    assert not reader.hear(message(50), 7), "the first of all misses none"


def test_what_is_kept_from_now_on() -> None:
    """Leaders stay known; reports about earlier requests have no effect."""
    reader = reader_from()
    settled(reader)
    reader.note_early(Handled(ONE, 9, 9))
    reader.keep_from(100.0, 7)
    assert reader.is_settled(NAME)
    assert not reader.is_early(ONE)
    assert reader.handled(message(5, positions=(7, 8))) == [Handled(ONE, 8, 8)]
    reader.note_early(Handled(ONE, 7, 7))
    assert not reader.is_early(ONE)
    reader.note_early(Handled(ONE, 8, 8))
    reader.turn(100.0 + EARLY_KEPT, 9)
    reader.turn(100.0 + EARLY_KEPT, 9)
    assert reader.is_early(ONE), "it is not older than it may be"


def test_what_waits_is_dropped_with_the_rest() -> None:
    """Reports about requests from before anything was kept are dropped."""
    reader = reader_from()
    reader.hear(message(1, Place(0, 10)), 10)
    assert reader.handled(message(1, positions=(5,))) == []
    reader.keep_from(0.0, 2)
    assert reader.settle() == []


def test_not_everything_waits() -> None:
    """If very many reports wait, the bound on their positions is used."""
    reader = reader_from()
    reader.hear(message(1, Place(0, 10)), 10)
    assert reader.handled(message(1, positions=(5,) * (MOST_UNPLACED - 1))) == []
    found = reader.handled(message(2, positions=(6,)))
    assert (len(found), found[-1]) == (MOST_UNPLACED, Handled(ONE, 6, 6))
    assert reader.settle() == []


def test_what_was_handed_over_came_in_a_gap() -> None:
    """A request handed over at a subscription's beginning may have come anywhere in the gap."""
    reader = reader_from()
    settled(reader, 0, 100)
    settled(reader, 50, 107, first=10)
    assert reader.handled(message(20, positions=(49, 50, 51))) == [
        Handled(ONE, 149, 149),
        Handled(ONE, 150, 157),
        Handled(ONE, 158, 158),
    ]
    assert reader.gap(NAME, 50) == Gap(149, 157, 0, 0)
    assert (reader.heard_until(NAME, 50), reader.position(NAME, 51)) == (149, 158)
    assert reader.gap(b"none", 50) is None
    assert reader.heard_until(b"none", 50) is None
    assert reader.handled(message(21, positions=(UNKNOWN,))) == []


@pytest.mark.parametrize(
    ("number", "before", "missed"),
    [(3, 1, False), (4, 3, False), (5, 3, False), (4, 2, True), (4, 4, True), (4, None, True)],
)
def test_whether_a_report_was_missed(number: int, before: int | None, missed: bool) -> None:
    """A message says how many requests were reported before it: after these two, three."""
    reader = reader_from()
    reader.hear(message(1, positions=(1,)), 9)
    reader.hear(message(2, positions=(2, 3), before=1), 9)
    assert reader.hear(message(number, before=before), 9) is missed


def test_what_was_missed_before_is_not_missed_again() -> None:
    """The count in a message replaces that of the reader, in a known term and in a new one."""
    reader = reader_from()
    reader.hear(message(1, positions=(1,)), 9)
    assert reader.hear(message(3, before=2), 9)
    assert not reader.hear(message(5, before=2), 9)
    assert not reader.hear(message(2, before=0, term=b"leadnext"), 9)
    assert reader.hear(message(2, before=1, term=b"leadlast"), 9)


def test_the_terms_that_are_remembered_have_a_limit() -> None:
    """Clients that can publish there cannot fill the memory."""
    reader = reader_from()
    for number in range(3 * MOST_TERMS):
        name = number.to_bytes(LEADER)
        reader.hear(message(1, term=name + bytes(TERM - LEADER)), 9)
        old = FeedMessage(name + b"oldt", 1, None, [ONE], [5], is_taken=True)
        reader.hear(old, 9)
        for known in (reader._numbers, reader._leaders, reader._first_taken):
            assert len(known) <= MOST_TERMS
    assert len(reader._leaders) == MOST_TERMS
    settled(reader)
    assert reader.is_settled(NAME)


def test_early_reports_are_kept_for_two_turns() -> None:
    """A turn begins when the one before is over, and no earlier."""
    for turns, early in (([2.0, 2.1], True), ([2.1, 4.1], True), ([2.1, 4.2], False)):
        reader = reader_from()
        reader.note_early(Handled(ONE, 1, 1))
        for now in turns:
            reader.turn(now * EARLY_KEPT / 2, 0)
        assert reader.is_early(ONE) is early
        assert not reader.is_early(OTHER)


class Line:
    """Where a writer publishes."""

    def __init__(self) -> None:
        self.up = True
        self.sent: list[bytes] = []
        self.published = asyncio.Event()

    def publish(self, payload: bytes) -> None:
        """Take a message, if there is a connection."""
        if not self.up:
            raise DisconnectedError("there is none")
        self.sent.append(payload)
        self.published.set()

    @property
    def all(self) -> list[FeedMessage]:
        """What was sent."""
        read = [read_feed_message(payload) for payload in self.sent]
        return [one for one in read if one is not None]


def writer() -> tuple[FeedWriter, Line, HeardCount]:
    """Return a writer, its line, and its count, which is 7."""
    line, count = Line(), HeardCount(7)
    return FeedWriter(line.publish, count, NAME), line, count


async def test_a_term_has_a_count_of_its_own() -> None:
    """Messages, reported requests and echoes are counted anew in each term."""
    feed, line, _ = writer()
    feed.handled(ONE, 1)
    feed.flush()
    feed.heard_back(line.sent[-1])
    feed.handled(OTHER, 2)
    feed.flush()
    feed.begin_term()
    feed.hello()
    assert [(it.number, it.before, it.place) for it in line.all] == [
        (1, 0, Place(0, 7)),
        (2, 1, Place(0, 7, 1, 7)),
        (1, 0, Place(0, 7)),
    ]
    assert len(line.all[0].term) == TERM
    assert feed.term == line.all[-1].term != line.all[0].term


async def test_a_subscription_has_a_beginning() -> None:
    """Echoes from before it are ignored."""
    feed, line, count = writer()
    feed.hello()
    feed.heard_back(line.sent[-1])
    count.value = 9
    feed.begin_hearing()
    feed.hello()
    assert [it.place for it in line.all] == [Place(0, 7), Place(9, 9)]
    feed.end_hearing()
    feed.hello(5)
    feed.heard_back(line.sent[-1])
    assert [it.place for it in line.all[2:]] == [Place(9)]


async def test_echoes_do_not_add_up() -> None:
    """The greatest number that was asked for counts."""
    feed, line, _ = writer()
    feed.hello(3)
    feed.hello(2)
    for _ in range(9):
        feed.heard_back(line.sent[-1])
    assert len(line.sent) == 2 + 3


async def test_it_waits_for_others_once() -> None:
    """Reports sent at once are not sent again later; those that follow are."""
    feed, line, _ = writer()
    feed.handled(ONE, 1)
    feed.flush()
    feed.flush()
    await asyncio.sleep(3 * GATHER)
    assert [it.digests for it in line.all] == [[ONE]]
    line.published.clear()
    feed.heard()
    async with asyncio.timeout(10):
        await line.published.wait()
    assert [it.digests for it in line.all] == [[ONE], []]


async def test_without_a_connection_nothing_is_counted() -> None:
    """Neither messages that were not sent count, nor the requests in them."""
    feed, line, _ = writer()
    line.up = False
    for number in range(MOST_DIGESTS + 1):
        feed.handled(number.to_bytes(8), number)
    feed.flush()
    feed.hello()
    line.up = True
    feed.flush()
    feed.hello()
    assert [(it.number, it.before) for it in line.all] == [
        (1, 0),
        (2, MOST_DIGESTS),
        (3, MOST_DIGESTS + 1),
    ]


async def test_another_connection_reports_in_a_term_of_its_own() -> None:
    """Its messages have no count; afterwards they do again."""
    feed, line, _ = writer()
    other = Line()
    feed.hello()
    feed.handled(ONE, 1)
    feed.flush_by(other.publish)
    assert [(it.number, it.place, it.digests) for it in other.all] == [(1, Place(0), [ONE])]
    assert other.all[0].term != line.all[0].term
    feed.hello()
    assert [it.place for it in line.all] == [Place(0, 7), Place(0, 7)]
    assert line.all[1].term == other.all[0].term


async def test_a_dead_connection_leaves_reports_waiting() -> None:
    """They go over the usual connection once it is back."""
    feed, line, _ = writer()
    feed.handled(ONE, 1)
    feed.flush()
    feed.handled(OTHER, 2)
    dead = Line()
    dead.up = False
    feed.flush_by(dead.publish)
    feed.flush()
    assert [it.digests for it in line.all] == [[ONE], [OTHER]]


async def test_the_reports_that_can_be_repeated_have_a_limit() -> None:
    """If none comes back, the latest are repeated."""
    feed, line, _ = writer()
    for number in range(MOST_UNHEARD + 2):
        feed.handled(ONE, number)
        feed.flush()
    other = Line()
    feed.flush_by(other.publish)
    assert other.sent == line.sent[2:]


@pytest.mark.parametrize(
    ("entries", "sizes"),
    [(0, [0]), (1, [1]), (MOST_DIGESTS, [MOST_DIGESTS]), (MOST_DIGESTS + 1, [MOST_DIGESTS, 1])],
)
async def test_an_answer_has_parts(entries: int, sizes: list[int]) -> None:
    """There is at least one; waiting reports come first, and echoes follow."""
    feed, line, _ = writer()
    feed.handled(OTHER, 1)
    feed.answer(Answer(b"n" * 8, 5, 6, 9), bytes(ENTRY * entries), 2)
    assert line.all[0].digests == [OTHER]
    answers = [it.answer for it in line.all[1:]]
    assert [payload[:1] for payload in line.sent[1:]] == [ACCOUNT] * len(sizes)
    assert [len(it.digests) for it in answers if it] == sizes
    assert [it.left for it in answers if it] == [*range(len(sizes))][::-1]
    before = len(line.sent)
    for _ in range(5):
        feed.heard_back(line.sent[-1])
    assert len(line.sent) == before + 2
