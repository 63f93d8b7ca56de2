"""What replicas tell each other about requests, byte for byte: other versions read it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gozo.leadership.feed_messages import (
    ACCOUNT,
    DONE,
    HANDLED,
    LATER,
    LEADER,
    NONCE,
    TERM,
    Answer,
    Doubt,
    FeedMessage,
    Offer,
    Place,
    Question,
    feed_subject,
    number_of,
    read_entries,
    read_feed_message,
    read_offer,
    read_question,
    term_of,
    write_answer,
    write_entries,
    write_head,
    write_offer,
    write_question,
)

NAME = b"leadterm"
ENTRIES = [(b"digest-1", 5), (b"digest-2", DONE | 6)]
DIGESTS, POSITIONS = [b"digest-1", b"digest-2"], [5, DONE | 6]
PLACE = Place(1, 2, 3, 4)
HEAD = NAME + b"".join(number.to_bytes(8) for number in (7, 8, 1, 2, 3, 4))
WRITTEN = b"digest-1" + (5).to_bytes(8) + b"digest-2" + (2**63 + 6).to_bytes(8)
ANSWER = b"n" * 8 + (9).to_bytes(8) + (-3).to_bytes(8, signed=True) + (2).to_bytes(4)
OFFER = Offer(b"stby", NAME, 1, 2, 3, Doubt.NEAR, b"to", b"h: h", b"payload")
OFFERED = (
    b"ostby"
    + NAME
    + b"".join(number.to_bytes(8) for number in (1, 2, 3))
    + b"\1\0\2\0\0\0\4toh: hpayload"
)
QUESTION = Question(b"n" * NONCE, b"lead", 9)


def test_what_was_handled() -> None:
    """The message is a head, and an entry for each request."""
    payload = write_head(HANDLED, NAME, 7, 8, PLACE) + write_entries(ENTRIES)
    assert payload == b"h" + HEAD + WRITTEN
    assert read_feed_message(payload) == FeedMessage(NAME, 7, PLACE, DIGESTS, POSITIONS, before=8)
    assert read_feed_message(b"h" + HEAD) == FeedMessage(NAME, 7, PLACE, before=8)
    assert (term_of(payload), number_of(payload)) == (NAME, 7)
    assert read_entries(WRITTEN) == (DIGESTS, POSITIONS)


def test_an_answer() -> None:
    """Its own head comes between the usual head and the entries."""
    answer = Answer(b"n" * 8, 9, -3, 2, DIGESTS, POSITIONS)
    payload = write_head(ACCOUNT, NAME, 7, 8, PLACE) + write_answer(answer) + WRITTEN
    assert payload == b"a" + HEAD + ANSWER + WRITTEN
    assert read_feed_message(payload) == FeedMessage(NAME, 7, PLACE, before=8, answer=answer)


@pytest.mark.parametrize(("kind", "taken"), [(b"H", False), (b"T", True)])
def test_messages_of_an_older_version(kind: bytes, taken: bool) -> None:
    """They consist of a term, a number and entries."""
    payload = kind + HEAD[:16] + WRITTEN
    expected = FeedMessage(NAME, 7, None, DIGESTS, POSITIONS, is_taken=taken)
    assert read_feed_message(payload) == expected
    assert read_feed_message(kind + HEAD[:16]) == FeedMessage(NAME, 7, is_taken=taken)


def test_a_question() -> None:
    """It names the former leader that is asked."""
    payload = b"?" + b"n" * 8 + b"lead" + (9).to_bytes(8)
    assert write_question(QUESTION) == payload
    assert read_question(payload) == QUESTION


@pytest.mark.parametrize(
    ("offer", "payload"),
    [
        (OFFER, OFFERED),
        (
            OFFER._replace(headers=None, payload=b""),
            OFFERED.replace(b"\4toh: hpayload", b"\0to"),
        ),
        (OFFER._replace(reply=b"", headers=None, payload=b""), OFFERED[:38] + bytes(6)),
        (OFFER._replace(doubt=Doubt.BEFORE), OFFERED.replace(b"\1\0\2\0", b"\2\0\2\0")),
    ],
)
def test_an_offer(offer: Offer, payload: bytes) -> None:
    """It hands over a whole request, with or without headers."""
    assert write_offer(offer) == payload
    assert read_offer(payload) == offer


@pytest.mark.parametrize(
    ("read", "payload"),
    [
        (read_feed_message, b"x" + HEAD),
        (read_feed_message, b"h" + HEAD[:-1]),
        (read_feed_message, b"h" + HEAD + WRITTEN[:-1]),
        (read_feed_message, b"a" + HEAD + ANSWER[:-1]),
        (read_feed_message, b"a" + HEAD + ANSWER + WRITTEN[:1]),
        (read_feed_message, b"H" + HEAD[:15]),
        (read_feed_message, b"T" + HEAD[:16] + WRITTEN[:-1]),
        (read_question, b"?" + bytes(19)),
        (read_question, b"?" + bytes(21)),
        (read_question, b"x" + bytes(20)),
        (read_offer, b"x" + OFFERED[1:]),
        (read_offer, OFFERED[:43]),
        (read_offer, OFFERED[:49]),
        (read_offer, OFFERED.replace(b"\1\0\2\0", b"\3\0\2\0")),
    ],
)
def test_other_messages_are_ignored(read: Callable[[bytes], object], payload: bytes) -> None:
    """Messages of another kind, too short or too long, are not read."""
    assert read(payload) is None


def test_an_offer_may_end_with_its_headers() -> None:
    """A request may have no payload."""
    assert read_offer(OFFERED[:50]) == OFFER._replace(payload=b"")


def test_names_and_flags() -> None:
    """A term begins with the name of its leader; no position has the bits of the flags."""
    assert FeedMessage(NAME, 1).leader == b"lead"
    assert (LEADER, TERM, LATER, DONE) == (4, 8, 2**62, 2**63)
    assert feed_subject("gozo") == "gozo.admin.told"
