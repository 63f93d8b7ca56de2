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
        ("+1h30m", After(5_400_000_000)),
        ("+1.5h", After(5_400_000_000)),
        ("+250ms", After(250_000)),
        ("+2d", After(172_800_000_000)),
        ("+1w1d1h1m1s1ms1us", After(694_861_001_001)),
        ("+0.0000001s", After(1)),
        ("2025-11-23T04:13:54Z", At(NOW_US)),
        ("2025-11-23t04:13:54z", At(NOW_US)),
        ("2025-11-23T05:13:54+01:00", At(NOW_US)),
        ("2025-11-22T16:28:54.25-11:45", At(NOW_US + 250_000)),
        ("2025-11-23T04:13:54.0000001-00:00", At(NOW_US + 1)),
        ("@at 2025-11-23T04:13:54Z", At(NOW_US)),
        ("2016-12-31T23:59:60Z", At(1_483_228_800_000_000)),
        ("0001-01-01T00:00:00Z", At(0)),
        ("9999-12-31T23:59:59.999999Z", At(LAST_US)),
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
        *(" 1", "1 ", "1 0", "1.", ".5", "+.5", "1.5.5", "1,5", "\u0661\u0662", "\u00b2", "+10x"),
        *("+1h 30m", "+h", "+1h30", "+-1h", "+1m\u0661s", "1h30m", "@at", "@at +10", "@tomorrow"),
        *("2025-11-23", "2025-11-23T04:13:54", "2025-11-23 04:13:54Z", "2025-02-30T04:13:54Z"),
        *("2025-11-23T24:00:00Z", "2025-11-23T04:13:60Z", "2025-11-23T04:13:54+24:00"),
        *("2025-11-23T04:13:54.Z", "9999-12-31T23:59:59-00:01", "+999999w", "+99999999999h"),
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
    for text, position in [
        ("12x4", 3),
        ("+1h 2m", 4),
        ("+1h2x", 5),
        ("2025-11-23 04:00:00Z", 11),
        ("2025-11-23T04:00:00", 20),
        ("@at tomorrow", 5),
        ("tomorrow", 1),
    ]:
        with pytest.raises(RequestError, match=rf"cannot be read at position {position}:"):
            parse(text)


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
