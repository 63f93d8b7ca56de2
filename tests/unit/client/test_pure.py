"""The pure parts of gozo.client: what callers give, and what the bucket's headers tell."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gozo.client.arguments import (
    expression,
    header_lines,
    header_pairs,
    moment,
)
from gozo.client.daemon_answers import stored
from gozo.client.daemon_calls import _portions
from gozo.client.decoding import keys_of, matcher
from gozo.errors import RequestError, UnansweredError
from gozo.protocol.ids import escape_id
from gozo.protocol.receipts import stored_receipt, unknown_receipt
from gozo.schedule import expression as when
from gozo.schedule.model import MICROSECONDS, Entry

EAST = timezone(timedelta(hours=5, minutes=30))


@given(st.datetimes(timezones=st.just(EAST)).filter(lambda at: at.year > 1970))
def test_a_moment_stays_the_same(at: datetime) -> None:
    """A datetime becomes an expression that means the same microsecond."""
    meant = when.parse(expression(at))
    assert isinstance(meant, when.At)
    assert moment(meant.us) == at


@given(st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=366_000)))
@example(timedelta(microseconds=1))
@example(timedelta(0))
def test_a_delay_stays_the_same(delay: timedelta) -> None:
    """A timedelta becomes an expression that means the same microseconds from now."""
    meant = when.parse(expression(delay))
    assert isinstance(meant, when.After)
    assert timedelta(microseconds=meant.us) == delay


def test_the_past_is_now() -> None:
    """What lies before 1970, or behind, means now."""
    assert expression(timedelta(seconds=-5)) == "+0"
    assert expression(datetime(1955, 11, 5, tzinfo=UTC)) == "0"
    assert expression("@at 2030-01-01T00:00:00Z") == "@at 2030-01-01T00:00:00Z"


NAMES = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=":"), min_size=1
)
VALUES = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]))


@given(st.lists(st.tuples(NAMES.map(lambda name: f"X{name}"), VALUES)))
def test_headers_stay_the_same(pairs: list[tuple[str, str]]) -> None:
    """Headers become lines and headers again, but for blanks around values."""
    expected = tuple((name, value.strip(" \t")) for name, value in pairs)
    assert header_pairs(header_lines(pairs)) == expected


@given(st.text(max_size=12), st.text(max_size=12))
def test_no_header_acts_on_the_bucket(name: str, value: str) -> None:
    """Whatever a header holds, one line is made of it, that is not the server's, or none."""
    try:
        lines = header_lines({name: value})
    except RequestError:
        return
    assert lines.count(b"\r\n") == 1
    assert lines.endswith(b"\r\n")
    assert not lines.lower().startswith((b"gozo-", b"nats-")) or lines.lower().startswith(
        b"nats-msg-id:"
    )


@pytest.mark.parametrize(
    ("pattern", "subject", "matches"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.c", False),
        ("a.b", "aXb", False),
        ("a", "a.b", False),
        ("*", "a", True),
        ("*", "a.b", False),
        ("a.*.c", "a.b.c", True),
        (">", "a.b", True),
        ("a.>", "a", False),
        ("a.>", "a.b.c", True),
        ("a+", "aa", False),
        ("a", "a\n", False),
    ],
)
def test_patterns(pattern: str, subject: str, matches: bool) -> None:
    """A pattern matches by whole tokens, as in NATS; what else is in it stands for itself."""
    assert bool(matcher(pattern).match(subject)) is matches


@pytest.mark.parametrize("pattern", ["", "a..b", ".a", "a.", ">.a", "a b"])
def test_no_patterns(pattern: str) -> None:
    """What is no subject is refused, not taken for a pattern that matches nothing."""
    with pytest.raises(RequestError, match="invalid subject"):
        matcher(pattern)


def test_keys_of_ids() -> None:
    """An id is looked for under its key, and, where the original gozo had another, there too."""
    assert keys_of("plain.id") == ["plain.id"]
    assert keys_of("a=b") == ["a=3Db", "a=b"]
    for impossible in ("a b", ".a", "a..b", "a.", "ä"):
        assert keys_of(impossible) == [escape_id(impossible)]


@given(st.lists(st.text(min_size=1, max_size=100), max_size=3_000), st.integers(1_000, 100_000))
@example([], 1_000)
def test_portions(ids: list[str], largest: int) -> None:
    """Ids are split into calls of a thousand and of so many bytes; none is lost or doubled."""
    portions = list(_portions(ids, largest))
    assert [id_ for some in portions for id_ in some] == ids
    assert all(0 < len(some) <= 1_000 for some in portions)
    assert all(len(str(some)) <= largest or len(some) == 1 for some in portions)


def test_moments_are_exact() -> None:
    """A microsecond is not lost on the way to the year 9999."""
    assert moment(when.LAST_US) == datetime.max.replace(tzinfo=UTC)
    assert moment(MICROSECONDS + 1) == datetime(1970, 1, 1, 0, 0, 1, 1, tzinfo=UTC)


def test_the_last_moment_of_all() -> None:
    """A receipt has it as a float, which would be in the year 10000."""
    receipt = stored_receipt(Entry("tea", "kitchen", "+1", when.LAST_US, 0), replaced=False)
    assert stored(json.loads(json.dumps(receipt))).due == datetime.max.replace(tzinfo=UTC)


def test_a_refusal_that_may_be_none() -> None:
    """A program is told that it is not known whether a request was stored, not of a refusal."""
    with pytest.raises(UnansweredError, match="may or may not have been stored"):
        stored(unknown_receipt("tea", "stored"))
