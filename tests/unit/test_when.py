"""The grammar of times."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gozo.errors import Refusal, RequestError
from gozo.when import LAST_US, After, At, first_due, parse

NOW_US = 1_763_871_234_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", At(0)),
        ("1763871234", At(1_763_871_234_000_000)),
        ("1763871234.5", At(1_763_871_234_500_000)),
        ("253402300799.999999", At(LAST_US)),
        ("+0", After(0)),
        ("+10", After(10_000_000)),
        ("+0.25", After(250_000)),
        ("+0.000001", After(1)),
        ("007", At(7_000_000)),
    ],
)
def test_reads(text: str, expected: At | After) -> None:
    """Whole and decimal seconds, absolute and relative, mean what they say."""
    assert parse(text) == expected


def test_beyond_the_microsecond_rounds_up() -> None:
    """A moment between two microseconds is the later one: nothing is early."""
    assert parse("1.0000001") == At(1_000_001)
    assert parse("1.0000000") == At(1_000_000)
    assert parse("0.9999999") == At(1_000_000)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "+", "-1", "+-1", "++1", "1e9", "1_000", "0x10", "nan", "NaN", "inf", "-inf"),
        *(" 1", "1 ", "1 0", "1.", ".5", "+.5", "1.5.5", "1,5", "\u0661\u0662", "\u00b2", "+10s"),
        *("253402300800", "+9e99", "9" * 40, "9" * 5000, "tomorrow", "1\n", "1\x00"),
    ],
)
def test_refuses(text: str) -> None:
    """Whatever is not in the grammar, or lies beyond the year 9999, is refused."""
    with pytest.raises(RequestError) as refused:
        parse(text)
    assert refused.value.code is Refusal.INVALID_WHEN


def test_names_value_and_position() -> None:
    """The sentence names what was read, and where it stopped making sense."""
    with pytest.raises(RequestError, match=r"'12x4' cannot be read at position 3"):
        parse("12x4")


def test_the_past_means_now() -> None:
    """A time before the request came is the time when it came."""
    assert first_due(At(0), NOW_US) == NOW_US
    assert first_due(At(NOW_US + 1), NOW_US) == NOW_US + 1


def test_no_delay_leads_beyond_9999() -> None:
    """A delay that is fine by itself is refused where it ends after the year 9999."""
    with pytest.raises(RequestError, match="after 9999"):
        first_due(After(LAST_US), NOW_US)


@given(us=st.integers(0, LAST_US))
def test_every_microsecond_can_be_said(us: int) -> None:
    """Each microsecond up to 9999 is read back exactly."""
    assert parse(f"{us // 1_000_000}.{us % 1_000_000:06d}") == At(us)


@given(text=st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text makes it fail in another way."""
    with contextlib.suppress(RequestError):
        assert first_due(parse(text), NOW_US) >= NOW_US
