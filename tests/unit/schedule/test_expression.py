"""The grammar of times."""

from __future__ import annotations

import contextlib
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gozo.errors import Refusal, RequestError
from gozo.schedule.cron import Cron
from gozo.schedule.expression import (
    LAST_US,
    RECENT_US,
    SHORTEST_INTERVAL_US,
    After,
    At,
    Every,
    When,
    due_times,
    first_due,
    next_due,
    parse,
    parse_span,
    passed_us,
    plain_due,
    print_duration,
    print_rfc3339,
    print_span,
    print_when,
)
from gozo.schedule.model import MICROSECONDS

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
        ("+.5h", After(1_800_000_000)),
        ("+1500ns", After(2)),
        ("@every 90s", Every(90_000_000)),
        ("@every 1h30m", Every(5_400_000_000)),
        ("@every 250ms", Every(250_000)),
        ("@every 2000000\u00b5s", Every(2_000_000)),
        ("@every +1.5s", Every(1_500_000)),
        ("@every 1.h", Every(3_600_000_000)),
        ("@every 1w", Every(604_800_000_000)),
        ("@every 90", Every(90_000_000)),
        ("@hourly", Cron(("0", "*", "*", "*", "*"))),
        ("@daily", Cron(("0", "0", "*", "*", "*"))),
        ("@midnight", Cron(("0", "0", "*", "*", "*"))),
        ("@weekly", Cron(("0", "0", "*", "*", "0"))),
        ("@monthly", Cron(("0", "0", "1", "*", "*"))),
        ("@yearly", Cron(("0", "0", "1", "1", "*"))),
        ("@annually", Cron(("0", "0", "1", "1", "*"))),
        ("0 2 * * mon-FRI", Cron(("0", "2", "*", "*", "mon-fri"))),
        (" 30  0 2 \t* * ? ", Cron(("30", "0", "2", "*", "*", "?"))),
    ],
)
def test_reads(text: str, expected: At | After | Every | Cron) -> None:
    """Moments, delays, intervals and cron expressions mean what they say."""
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
        *("@every", "@every ", "@every 0", "@every 9ms", "@every -5s", "@every 1h 30m", "@every +"),
        *("@every ++5s", "@every . s", "@every 99999999h", "@reboot", "@Daily", "@daily 5"),
        *("1\x0b2", "\n0 0 * * *", "@REBOOT"),
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
        ("+1h+2m", 4),
        ("@every ++5s", 9),
        ("2025-11-23 04:00:00Z", 11),
        ("2025-11-23T04:00:00", 20),
        ("@at tomorrow", 5),
        ("tomorrow", 1),
    ]:
        with pytest.raises(RequestError, match=rf": error at position {position};"):
            parse(text)


def test_the_past_means_now() -> None:
    """A time before the request came is the time when it came."""
    assert first_due(At(0), NOW_US) == NOW_US
    assert first_due(At(NOW_US + 1), NOW_US) == NOW_US + 1


def test_no_delay_leads_beyond_9999() -> None:
    """A delay that is fine by itself is refused where it ends after the year 9999."""
    with pytest.raises(RequestError, match="beyond the year 9999"):
        first_due(After(LAST_US), NOW_US)


@given(us=st.integers(0, LAST_US))
def test_every_microsecond_can_be_said(us: int) -> None:
    """Each microsecond up to 9999 is read back exactly."""
    assert parse(f"{us // 1_000_000}.{us % 1_000_000:06d}") == At(us)


@given(text=st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text makes it fail in another way."""
    with contextlib.suppress(RequestError):
        when = parse(text)
        if isinstance(when, At | After):
            assert first_due(when, NOW_US) >= NOW_US
        else:
            assert (next_due(when, NOW_US, NOW_US) or LAST_US) > NOW_US


@given(
    when=st.builds(At, st.integers(0, LAST_US))
    | st.builds(After, st.integers(0, LAST_US))
    | st.builds(Every, st.integers(SHORTEST_INTERVAL_US, LAST_US))
)
def test_what_is_printed_is_read_back(when: At | After | Every) -> None:
    """An expression that was printed says the same."""
    assert parse(print_when(when)) == when


@given(us=st.integers(0, LAST_US))
def test_spans_there_and_back(us: int) -> None:
    """A length of time that was printed is read back exactly."""
    assert parse_span(print_span(us), "Gozo-Jitter") == us
    assert parse_span(print_duration(us), "--history") == us


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (0, "0s"),
        (1_500, "1ms500us"),
        (90_000_000, "1m30s"),
        (5_400_000_000, "1h30m"),
        (30 * 86_400_000_000, "30d"),
    ],
)
def test_durations_for_people(us: int, text: str) -> None:
    """A length of time is told in the units in which people give one."""
    assert print_duration(us) == text


@pytest.mark.parametrize("text", ["", "+5s", "-5s", "1h 30m", "daily", "* * * * *"])
def test_no_spans(text: str) -> None:
    """What is not a duration is refused, with the header's name."""
    with pytest.raises(RequestError, match=r"invalid Gozo-Jitter .*: expected seconds"):
        parse_span(text, "Gozo-Jitter")


@given(
    interval_us=st.integers(SHORTEST_INTERVAL_US, 10**12),
    phase_us=st.integers(0, NOW_US),
    late_us=st.integers(0, 10**13),
)
def test_intervals_keep_their_phase(interval_us: int, phase_us: int, late_us: int) -> None:
    """However late one looks, the next time is a whole number of intervals from the first."""
    due_us = next_due(Every(interval_us), phase_us + late_us, phase_us)
    assert due_us is not None
    assert 0 < due_us - (phase_us + late_us) <= interval_us
    assert (due_us - phase_us) % interval_us == 0


def test_times_end_with_the_calendar() -> None:
    """After the year 9999 there is nothing."""
    assert list(due_times(Every(10**6), LAST_US - 2_500_000, LAST_US)) == [
        LAST_US - 2_000_000,
        LAST_US - 1_000_000,
        LAST_US,
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "invalid Gozo-When '': expected epoch seconds"),
        ("1" * 257, f"invalid Gozo-When '{'1' * 80}': it has 257 characters, more than 256; exp"),
        ("253402300800", "Gozo-When '253402300800': it lies beyond the year 9999; expected epoch"),
        ("1763871234005", "and may be milliseconds; expected seconds, 1763871234.005"),
        ("+1763871234005", "Gozo-When '+1763871234005': it lies beyond the year 9999; expected"),
        ("+9999999w", "Gozo-When '+9999999w': it lies beyond the year 9999; expected epoch"),
        ("9999-12-31T23:59:60Z", "it lies beyond the year 9999; expected epoch"),
        ("9999-12-31T23:59:59.9999991Z", "it lies beyond the year 9999; expected epoch"),
        ("@reboot", "'@reboot': it is not a time but the start of a machine; send a request due"),
        ("@every 9ms", "'@every 9ms': an interval is from 10ms to 9999 years; expected epoch"),
        ("@every 253402300800", "an interval is from 10ms to 9999 years"),
        ("2025-01-01T00:00:00+24:00", "an offset is between -23:59 and +23:59; expected epoch"),
        ("2025-01-01T00:00:00-00:60", "an offset is between -23:59 and +23:59"),
        ("2025-02-30T00:00:00Z", "there is no such moment (day is out of range for month); expec"),
        ("2016-12-31T23:58:60Z", "a leap second is at 23:59:60 UTC; expected epoch"),
        ("@at 2025-01-01T00:00:00Zx", "error at position 25; expected epoch"),
        ("@at 2025-1", "Gozo-When '@at 2025-1': error at position 10"),
        ("@every 1h2x", "error at position 11"),
        ("@every +", "error at position 9"),
        ("@every x", "error at position 8"),
        ("@fortnightly", "Gozo-When '@fortnightly': error at position 1"),
        ("+", "error at position 2"),
        ("+5x", "error at position 3"),
        ("1.5.5", "Gozo-When '1.5.5': error at position 4"),
    ],
)
def test_each_problem_is_named(text: str, words: str) -> None:
    """The message has the value, what is wrong with it, and what to give instead."""
    with pytest.raises(RequestError) as refused:
        parse(text)
    assert words in str(refused.value)
    assert refused.value.code is Refusal.INVALID_WHEN


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0" * 256, At(0)),
        ("253402300799", At(LAST_US - 999_999)),
        ("+253402300799.999999", After(LAST_US)),
        ("+253402300799.999999s", After(LAST_US)),
        ("@every 10ms", Every(SHORTEST_INTERVAL_US)),
        ("@every 0.01", Every(SHORTEST_INTERVAL_US)),
        ("@every 253402300799.999999s", Every(LAST_US)),
        ("2025-11-24T04:12:54+23:59", At(NOW_US)),
        ("2025-11-22T04:14:54-23:59", At(NOW_US)),
        ("1970-01-01T00:00:00.5+00:01", At(0)),
        ("2016-12-31T22:59:60.75-01:00", At(1_483_228_800_000_000)),
        ("@at 2016-12-31T23:59:60Z", At(1_483_228_800_000_000)),
        ("+1.2h", After(4_320_000_000)),
        ("+1\u03bcs1ns", After(2)),
        ("+3d2.5m", After(259_350_000_000)),
    ],
)
def test_the_bounds_are_included(text: str, expected: At | After | Every) -> None:
    """Values at a bound are valid."""
    assert parse(text) == expected


@pytest.mark.parametrize(
    ("ago_us", "passed"), [(0, 0), (RECENT_US, 0), (RECENT_US + 1, RECENT_US + 1), (-1, 0)]
)
def test_how_long_ago_a_moment_was(ago_us: int, passed: int) -> None:
    """The very recent past counts as now; delays and intervals are never in the past."""
    assert passed_us(At(NOW_US - ago_us), NOW_US) == passed
    assert passed_us(After(0), NOW_US) == 0


def test_the_last_microsecond() -> None:
    """A delay or an interval may end in it, and no later."""
    assert first_due(After(LAST_US - NOW_US), NOW_US) == LAST_US
    with pytest.raises(
        RequestError, match=r"Gozo-When '\+1': it lies beyond the year 9999"
    ) as refused:
        first_due(After(MICROSECONDS), LAST_US)
    assert refused.value.code is Refusal.INVALID_WHEN
    assert next_due(Every(10), LAST_US - 10, LAST_US) == LAST_US
    assert next_due(Every(10), LAST_US - 9, LAST_US) == LAST_US
    assert next_due(Every(10), LAST_US, LAST_US) is None


@pytest.mark.parametrize(
    ("text", "due_us"),
    [
        (b"1763871235", NOW_US + 1_000_000),
        (b"1763871234.5", NOW_US + 500_000),
        (b"1763871234.000001", NOW_US + 1),
        (b"1763871233.9", NOW_US),
        (b"+0", NOW_US),
        (b"+1.25", NOW_US + 1_250_000),
    ],
)
def test_numbers_are_read_in_a_quicker_way(text: bytes, due_us: int) -> None:
    """The quick way returns the same times as the other."""
    assert plain_due(text, NOW_US) == due_us
    when = parse(text.decode())
    assert isinstance(when, At | After)
    assert first_due(when, NOW_US) == due_us


@pytest.mark.parametrize(
    ("when", "text"),
    [
        (At(1_500_000), "1.5"),
        (After(10_000_000), "+10"),
        (Every(90_000_000), "@every 90s"),
        (Every(10_000), "@every 0.01s"),
        (Cron(("0", "0", "*", "*", "?")), "0 0 * * ?"),
    ],
)
def test_printed(when: When, text: str) -> None:
    """The text is as short as possible."""
    assert print_when(when) == text


def test_times_of_an_expression_in_its_zone() -> None:
    """They come in order, by the clocks of the zone."""
    zone = ZoneInfo("Europe/Malta")
    found = due_times(Cron(("0", "9", "*", "*", "*")), NOW_US, 0, zone)
    assert [print_rfc3339(us) for us in islice(found, 2)] == [
        "2025-11-23T08:00:00.000Z",
        "2025-11-24T08:00:00.000Z",
    ]
    assert print_rfc3339(9_999) == "1970-01-01T00:00:00.009Z"
    assert print_rfc3339(500_000) == "1970-01-01T00:00:00.500Z"
    assert print_rfc3339(LAST_US) == "9999-12-31T23:59:59.999Z"


def test_no_span_is_refused_with_its_beginning() -> None:
    """The code is that of an invalid time."""
    words = f"invalid Gozo-Jitter '{'x' * 80}': expected seconds"
    with pytest.raises(RequestError, match=words) as refused:
        parse_span("x" * 100, "Gozo-Jitter")
    assert refused.value.code is Refusal.INVALID_WHEN
