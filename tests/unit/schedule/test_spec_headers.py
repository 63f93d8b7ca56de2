"""The headers of a schedule's spec, read and written."""

from __future__ import annotations

import re

import pytest

from gozo.errors import Refusal, RequestError
from gozo.schedule.expression import parse
from gozo.schedule.model import MICROSECONDS, NEVER, Misfire, ScheduleSpec
from gozo.schedule.spec_headers import (
    MOST_OCCURRED,
    MOST_OCCURRENCES,
    check_recurs,
    has_spec,
    read_spec,
    spec_lines,
)

NOW_US = 1_763_871_234_000_000
CRON, EVERY, ONCE = "0 2 * * *", "@every 90s", "+5"


def read(when: str, **said: str) -> ScheduleSpec | None:
    """Read a spec; `start="+1"` stands for `Gozo-Start: +1`."""
    given = {f"gozo-{name.replace('_', '-')}".encode(): said[name].encode() for name in said}
    return read_spec(given, parse(when), NOW_US)


@pytest.mark.parametrize(
    ("when", "said", "expected"),
    [
        (ONCE, {}, None),
        (ONCE, {"id": "a"}, None),
        (EVERY, {}, ScheduleSpec(recurs=True)),
        (ONCE, {"misfire": "Skip"}, ScheduleSpec(misfire=Misfire.SKIP)),
        (ONCE, {"misfire": "once"}, ScheduleSpec()),
        (
            ONCE,
            {"misfire": "skip", "misfire_grace": "0"},
            ScheduleSpec(misfire=Misfire.SKIP, grace_us=0),
        ),
        (CRON, {"misfire": "ALL"}, ScheduleSpec(recurs=True, misfire=Misfire.ALL)),
        (CRON, {"misfire_grace": "5s"}, ScheduleSpec(recurs=True, grace_us=5_000_000)),
        (CRON, {"time_zone": "Europe/Malta"}, ScheduleSpec(recurs=True, zone="Europe/Malta")),
        (
            EVERY,
            {"start": "+10", "until": "+10"},
            ScheduleSpec(
                recurs=True,
                start_us=NOW_US + 10 * MICROSECONDS,
                until_us=NOW_US + 10 * MICROSECONDS,
            ),
        ),
        (EVERY, {"start": "0", "jitter": "1m"}, ScheduleSpec(True, "", 0, jitter_us=60_000_000)),
        (EVERY, {"until": "0"}, ScheduleSpec(recurs=True, until_us=0)),
        (EVERY, {"count": "1"}, ScheduleSpec(recurs=True, count=1)),
        (EVERY, {"count": f"{MOST_OCCURRENCES}"}, ScheduleSpec(True, count=MOST_OCCURRENCES)),
        (EVERY, {"count": "2", "occurred": "1"}, ScheduleSpec(True, count=2, occurred=1)),
        (EVERY, {"occurred": f"{MOST_OCCURRED}"}, ScheduleSpec(True, occurred=MOST_OCCURRED)),
        (EVERY, {"occurred": "0"}, ScheduleSpec(recurs=True)),
        (
            EVERY,
            {"last": "1.5", "reckoned": "2"},
            ScheduleSpec(recurs=True, last_us=1_500_000, reckoned_us=2_000_000),
        ),
        (
            EVERY,
            {"last": "+1", "reckoned": "+2"},
            ScheduleSpec(
                recurs=True, last_us=NOW_US + MICROSECONDS, reckoned_us=NOW_US + 2 * MICROSECONDS
            ),
        ),
    ],
)
def test_read(when: str, said: dict[str, str], expected: ScheduleSpec | None) -> None:
    """Each header sets its field; the others keep their defaults."""
    assert read(when, **said) == expected


@pytest.mark.parametrize(
    ("when", "said", "code", "words"),
    [
        (EVERY, {"time_zone": "UTC"}, "request", "Gozo-Time-Zone is for cron expressions only"),
        (CRON, {"time_zone": ""}, "when", "invalid Gozo-Time-Zone '': expected UTC or a name"),
        (ONCE, {"start": "+1"}, "request", "Gozo-Start is for recurring schedules only: omit"),
        (ONCE, {"until": "+1"}, "request", "Gozo-Until is for recurring schedules only: omit"),
        (ONCE, {"count": "1"}, "request", "Gozo-Count is for recurring schedules only: omit"),
        (ONCE, {"jitter": "1"}, "request", "Gozo-Jitter is for recurring schedules only: omit"),
        (ONCE, {"misfire": "all"}, "request", "'Gozo-Misfire: all' is for recurring schedules"),
        (ONCE, {"misfire_grace": "5"}, "request", "needs 'Gozo-Misfire: skip' with a single"),
        (
            ONCE,
            {"misfire": "once", "misfire_grace": "5"},
            "request",
            "Gozo-Misfire-Grace needs 'Gozo-Misfire: skip'",
        ),
        (
            CRON,
            {"misfire": "x" * 50},
            "request",
            f"Gozo-Misfire '{'x' * 40}': expected once, all or skip",
        ),
        (CRON, {"misfire_grace": "x"}, "when", "invalid Gozo-Misfire-Grace 'x': expected seconds"),
        (CRON, {"jitter": "x"}, "when", "invalid Gozo-Jitter 'x': expected seconds"),
        (CRON, {"start": "@daily"}, "when", "invalid Gozo-Start '@daily': expected epoch seconds"),
        (CRON, {"until": "x" * 90}, "when", f"Gozo-Until '{'x' * 80}': expected epoch"),
        (CRON, {"last": "x"}, "when", "invalid Gozo-Last 'x': expected epoch"),
        (CRON, {"reckoned": "x"}, "when", "invalid Gozo-Reckoned 'x': expected epoch"),
        (
            CRON,
            {"start": "+9", "until": "+8.999999"},
            "request",
            "Gozo-Until is before Gozo-Start: give a later end",
        ),
        (CRON, {"count": "0"}, "request", "invalid Gozo-Count '0': expected a whole number from"),
        (CRON, {"count": "+1"}, "request", "invalid Gozo-Count '+1': expected a whole number"),
        (CRON, {"count": "1\n"}, "request", "expected a whole number from 1 to 999999999"),
        (CRON, {"count": f"{MOST_OCCURRENCES + 1}"}, "request", "from 1 to 999999999"),
        (CRON, {"count": "x" * 50}, "request", f"Gozo-Count '{'x' * 40}': expected a whole number"),
        (
            CRON,
            {"occurred": "-1"},
            "request",
            "invalid Gozo-Occurred '-1': expected a whole number",
        ),
        (CRON, {"occurred": f"{MOST_OCCURRED + 1}"}, "request", f"from 0 to {MOST_OCCURRED}"),
        (
            CRON,
            {"count": "1", "occurred": "1"},
            "request",
            "Gozo-Occurred 1 has reached Gozo-Count: give a larger count",
        ),
    ],
)
def test_refused(when: str, said: dict[str, str], code: str, words: str) -> None:
    """The message names the header and the beginning of its value."""
    with pytest.raises(RequestError, match=re.escape(words)) as refused:
        read(when, **said)
    assert refused.value.code == Refusal(f"invalid_{code}")


def test_invalid_utf8_is_shown_as_well_as_it_can_be() -> None:
    """A value may have any bytes."""
    with pytest.raises(RequestError, match="invalid Gozo-Start '\ufffd': expected"):
        read_spec({b"gozo-start": b"\xff"}, parse(CRON), NOW_US)


FULL = ScheduleSpec(
    recurs=True,
    zone="UTC",
    start_us=1_000_000,
    until_us=2_000_000,
    count=9,
    jitter_us=1_500_000,
    misfire=Misfire.SKIP,
    grace_us=2_000_000,
    occurred=3,
    last_us=4_000_000,
    reckoned_us=5_000_000,
)
WRITTEN = (
    "Time-Zone: UTC|Start: 1|Until: 2|Count: 9|Jitter: 1.5s|Misfire: skip|Misfire-Grace: 2s|"
    "Occurred: 3|Last: 4|Reckoned: 5"
)


@pytest.mark.parametrize(
    ("spec", "lines"),
    [
        (ScheduleSpec(), ""),
        (ScheduleSpec(recurs=True), ""),
        (ScheduleSpec(start_us=0, until_us=0, grace_us=0), "Start: 0|Until: 0|Misfire-Grace: 0s"),
        (FULL, WRITTEN),
    ],
)
def test_written(spec: ScheduleSpec, lines: str) -> None:
    """There is a line for each field that differs from its default."""
    expected = "".join(f"Gozo-{line}\r\n" for line in lines.split("|") if line)
    assert spec_lines(spec) == expected.encode()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, False),
        ({b"gozo-when": b"+5"}, False),
        ({b"gozo-when": b"1763871234.5"}, False),
        ({b"gozo-when": b"5@"}, False),
        ({b"gozo-when": b"@daily"}, True),
        ({b"gozo-when": b"0 2 * * *"}, True),
        ({b"gozo-when": b"0\t2\t*\t*\t*"}, True),
        ({b"gozo-when": b"+5", b"gozo-misfire": b"skip"}, True),
    ],
)
def test_whether_there_may_be_a_spec(given: dict[bytes, bytes], expected: bool) -> None:
    """The expression is not read."""
    assert has_spec(given) is expected


def test_what_recurs_needs_an_id() -> None:
    """Without one it could not be cancelled."""
    with pytest.raises(RequestError, match="needs Gozo-Id, or nobody could cancel it") as refused:
        check_recurs(ScheduleSpec(recurs=True), None)
    assert refused.value.code is Refusal.INVALID_REQUEST
    for spec, id_ in ((None, None), (ScheduleSpec(), None), (ScheduleSpec(recurs=True), "a")):
        check_recurs(spec, id_)


def test_the_latest_end_is_none() -> None:
    """A schedule without an end has no header for it."""
    assert b"Gozo-Until" not in spec_lines(ScheduleSpec(until_us=NEVER))
