"""The grammar of `Gozo-When`: from text to the moments at which a schedule is due. Pure.

    1763871234                  an absolute time: Unix epoch seconds
    1763871234.5                the same, with decimals
    2026-12-24T18:00:00+01:00   the same, as RFC 3339 writes it
    @at 2026-12-24T17:00:00Z    the same, as the NATS server writes it (ADR-51)
    +10                         relative: seconds after the request was received
    +0.25                       the same, with decimals
    +1h30m                      the same, as a duration in w, d, h, m, s, ms, us and ns
    @every 90s                  recurring: an interval, as the NATS server writes it
    @daily                      recurring: one of the names of crontab(5) and of the server
    0 2 * * mon-fri             recurring: a cron expression, see `gozo.schedule.cron`

Only 0 to 9 are digits; numbers have no spaces, further signs or exponents. The last moment is
the end of the year 9999 (UTC).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache

from gozo.errors import Refusal, RequestError, invalid_value
from gozo.schedule.cron import Cron, parse_cron
from gozo.schedule.model import MICROSECONDS
from gozo.schedule.times import LAST

LAST_US = (LAST + 1) * MICROSECONDS - 1
"""The last microsecond of the year 9999."""

LONGEST = 256
"""Maximum length of an expression, in characters."""

SHORTEST_INTERVAL_US = 10_000
"""The shortest `@every`: with less, one schedule would keep a whole daemon busy."""

UNITS = {
    "w": 7 * 86_400 * 1_000_000_000,
    "d": 86_400 * 1_000_000_000,
    "h": 3_600 * 1_000_000_000,
    "m": 60 * 1_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "\u00b5s": 1_000,
    "\u03bcs": 1_000,
    "ns": 1,
}
"""The units of durations, in nanoseconds: those of Go's `time.ParseDuration`, days and weeks."""

RECENT_US = 10_000_000
"""A moment that passed no longer ago counts as now: a program may have read the clock before."""

_PRINTED = ("d", "h", "m", "s", "ms", "us")
"""The units used for printing; weeks are only read."""

NAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
"""The cron expressions of the names in crontab(5)."""

_NUMBER = re.compile(r"(\+?)([0-9]+)(?:\.([0-9]+))?", re.ASCII)
_UNSIGNED = re.compile(r"[0-9]+(?:\.[0-9]+)?", re.ASCII)
_PART = re.compile(
    r"(?=\.?[0-9])([0-9]*)(?:\.([0-9]*))?(ns|us|\u00b5s|\u03bcs|ms|[wdhms])", re.ASCII
)
_MILLISECONDS = re.compile(r"1[0-9]{12}", re.ASCII)
"""An epoch time in milliseconds, from 2001 to 2033."""
_BLANK = re.compile(r"[ \t]")
_DATE = re.compile(r"[0-9]{4}-", re.ASCII)
_RFC3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"(?:([Zz])|([+-])([0-9]{2}):([0-9]{2}))",
    re.ASCII,
)
_RFC3339_STEPS = re.compile(
    r"(?:[0-9]{4}(?:-(?:[0-9]{2}(?:-(?:[0-9]{2}(?:[Tt](?:[0-9]{2}(?::(?:[0-9]{2}(?::(?:[0-9]{2}"
    r"(?:\.[0-9]*)?(?:[+-](?:[0-9]{2}(?::(?:[0-9]{2})?)?)?)?)?)?)?)?)?)?)?)?)?)?)?",
    re.ASCII,
)
"""Matches the well-formed part of a moment, so that an error can name the position."""

_AT, _EVERY = "@at ", "@every "
_HEADER = "Gozo-When"
_EXPECTED = (
    "expected epoch seconds (1763871234.5), a moment (2026-12-24T18:00:00+01:00), a delay "
    "(+10, +1h30m), an interval (@every 90s), @daily, or cron's five or six fields"
)
_LEAP_SECOND = 60
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class At:
    """A moment, in microseconds since the Unix epoch."""

    us: int


@dataclass(frozen=True, slots=True)
class After:
    """A delay in microseconds, counted from when the request was received."""

    us: int


@dataclass(frozen=True, slots=True)
class Every:
    """An interval in microseconds, counted from one due time to the next."""

    us: int


Moment = At | After
Recurring = Every | Cron
When = Moment | Recurring


def parse(text: str) -> When:
    """Read an expression. Fractions of a microsecond round up: never early.

    Raises:
        RequestError: `invalid_when`, with the value and the reason.
    """
    if not text:
        raise _refusal(text)
    if len(text) > LONGEST:
        raise _refusal(text[:80], f"it has {len(text)} characters, more than {LONGEST}")
    match = _NUMBER.match(text)
    if match is not None and match.end() == len(text):
        sign, whole, decimals = match.groups()
        us = int(whole) * MICROSECONDS + _fraction(decimals or "", MICROSECONDS)
        if us > LAST_US:
            raise _beyond(text)
        return After(us) if sign else At(us)
    if text.startswith("+"):
        return After(_duration(text, 1))
    if text == "@reboot":
        problem = "it is not a time but the start of a machine; send a request due at +0 then"
        raise RequestError(Refusal.INVALID_WHEN, invalid_value(_HEADER, text, problem))
    if text.startswith("@"):
        return _named(text)
    if _DATE.match(text):
        return At(_moment(text, 0))
    if _BLANK.search(text.strip(" \t")):
        return _cron(text)
    raise _unreadable(text, match.end() if match else 0)


def print_when(when: When) -> str:
    """Write an expression; `parse` reads the same from it."""
    match when:
        case At(us):
            return _print_seconds(us)
        case After(us):
            return f"+{_print_seconds(us)}"
        case Every(us):
            return f"{_EVERY}{print_span(us)}"
        case Cron():
            return str(when)


def plain_due(text: bytes, received_us: int) -> int:
    """The due time of a schedule received at `received_us` whose `Gozo-When` is a number.

    The number has at most six decimals, and a sign if it is a delay.
    """
    whole, _, decimals = text.partition(b".")
    us = int(whole + decimals.ljust(6, b"0"))
    return received_us + us if text.startswith(b"+") else max(us, received_us)


def first_due(when: Moment, received_us: int) -> int:
    """The due time of a schedule received at `received_us`; the past means now.

    Raises:
        RequestError: `invalid_when`, if the moment is after the year 9999.
    """
    match when:
        case At(us):
            return max(us, received_us)
        case After(us):
            due_us = received_us + us
            if due_us > LAST_US:
                raise _beyond(print_when(when))
            return due_us


def passed_us(when: When, now_us: int) -> int:
    """How long ago a moment was, in microseconds; 0 if it is recent or lies ahead."""
    since = now_us - when.us if isinstance(when, At) else 0
    return since if since > RECENT_US else 0


def next_due(when: Recurring, after_us: int, phase_us: int, zone: tzinfo = UTC) -> int | None:
    """The first due time after a moment; None if there is none.

    `phase_us` is one of the due times of an interval; `zone` is the time zone of a cron
    expression.
    """
    if isinstance(when, Cron):
        return when.next_us(after_us, zone)
    due_us = after_us + when.us - (after_us - phase_us) % when.us
    return due_us if due_us <= LAST_US else None


def due_times(when: Recurring, after_us: int, phase_us: int, zone: tzinfo = UTC) -> Iterator[int]:
    """All due times after a moment; see `next_due`."""
    due_us = next_due(when, after_us, phase_us, zone)
    while due_us is not None:
        yield due_us
        due_us = next_due(when, due_us, phase_us, zone)


def parse_span(text: str, header: str) -> int:
    """Read the duration in a header, in microseconds: `30s`, `1h30m`, or seconds.

    Raises:
        RequestError: `invalid_when`.
    """
    try:
        when = parse(f"+{text}")
    except RequestError:
        when = None
    if not isinstance(when, After):
        raise RequestError(
            Refusal.INVALID_WHEN,
            invalid_value(header, text[:80], "expected seconds (10) or a duration (1h30m)"),
        )
    return when.us


def print_span(us: int) -> str:
    """Write a duration; `parse_span` reads the same."""
    return f"{_print_seconds(us)}s"


def print_duration(us: int) -> str:
    """Write a duration in units, for people: `30d`, `1h30m`; `parse_span` reads the same."""
    ns, parts = us * 1_000, ""
    for unit in _PRINTED:
        count, ns = divmod(ns, UNITS[unit])
        if count:
            parts += f"{count}{unit}"
    return parts or "0s"


def print_rfc3339(us: int) -> str:
    """Write a moment as in RFC 3339, in UTC, rounded down to the millisecond."""
    second, part = divmod(us, MICROSECONDS)
    return f"{_print_second(second)}.{part // 1000:03d}Z"


@lru_cache(maxsize=256)
def _print_second(second: int) -> str:
    """Write a second, which many moments share, without its fraction."""
    return f"{_EPOCH + timedelta(seconds=second):%Y-%m-%dT%H:%M:%S}"


def _cron(text: str) -> Cron:
    try:
        return parse_cron(text)
    except RequestError as error:
        raise RequestError(error.code, invalid_value(_HEADER, text[:80], error)) from error


def _named(text: str) -> When:
    """Read an expression that begins with `@`."""
    if text.startswith(_AT):
        return At(_moment(text, len(_AT)))
    if text.startswith(_EVERY):
        start = len(_EVERY)
        if text.startswith("+", start):
            start += 1
        number = _NUMBER.fullmatch(text, start)
        if number and not number[1]:
            us = int(number[2]) * MICROSECONDS + _fraction(number[3] or "", MICROSECONDS)
        else:
            us = _duration(text, start)
        if not SHORTEST_INTERVAL_US <= us <= LAST_US:
            raise _refusal(text, "an interval is from 10ms to 9999 years")
        return Every(us)
    if text not in NAMES:
        raise _unreadable(text, 0)
    return parse_cron(NAMES[text])


def _print_seconds(us: int) -> str:
    whole, us = divmod(us, MICROSECONDS)
    return f"{whole}.{us:06d}".rstrip("0").rstrip(".")


def _duration(text: str, start: int) -> int:
    """Read the rest of `text` as numbers with units: `1h30m`, `1.5h`, `250ms`."""
    ns, position = 0, start
    while position < len(text):
        part = _PART.match(text, position)
        if part is None:
            raise _unreadable(text, _UNSIGNED.match(text, position) or position)
        whole, decimals, unit = part.groups()
        ns += int(whole or 0) * UNITS[unit] + _fraction(decimals or "", UNITS[unit])
        position = part.end()
    if position == start:
        raise _unreadable(text, start)
    us = -(-ns // 1_000)
    if us > LAST_US:
        raise _beyond(text)
    return us


def _moment(text: str, start: int) -> int:
    """Read the rest of `text` as a moment of RFC 3339 (section 5.6), with its offset."""
    match = _RFC3339.match(text, start)
    if match is None or match.end() != len(text):
        steps = match or _RFC3339_STEPS.match(text, start)
        raise _unreadable(text, steps or start)
    year, month, day, hour, minute, second = (int(match[number]) for number in range(1, 7))
    decimals, zulu, sign, hours, minutes = match.groups()[6:]
    offset = timedelta(0)
    if not zulu:
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        if int(hours) > 23 or int(minutes) > 59:  # noqa: PLR2004  # of a day, of an hour
            raise _refusal(text, "an offset is between -23:59 and +23:59")
    zone = timezone(-offset if sign == "-" else offset)
    leap = second == _LEAP_SECOND
    try:
        moment = datetime(year, month, day, hour, minute, second - leap, tzinfo=zone)
        since = moment - _EPOCH
    except (ValueError, OverflowError) as error:
        raise _refusal(text, f"there is no such moment ({error})") from error
    us = (since.days * 86_400 + since.seconds) * MICROSECONDS
    if leap:
        if us // MICROSECONDS % 86_400 != 86_399:  # noqa: PLR2004  # the last second of a day
            raise _refusal(text, "a leap second is at 23:59:60 UTC")
        us += MICROSECONDS
    else:
        us += _fraction(decimals or "", MICROSECONDS)
    if us > LAST_US:
        raise _beyond(text)
    return max(us, 0)


def _fraction(decimals: str, unit: int) -> int:
    """The value of decimals of a unit, rounded up."""
    if not decimals.strip("0"):
        return 0
    scale: int = 10 ** len(decimals)
    return -(-int(decimals) * unit // scale)


def _unreadable(text: str, at: int | re.Match[str]) -> RequestError:
    position = at if isinstance(at, int) else at.end()
    return _refusal(text, f"error at position {position + 1}")


def _beyond(text: str) -> RequestError:
    if _MILLISECONDS.fullmatch(text):
        problem = (
            "it lies beyond the year 9999, and may be milliseconds; expected seconds, "
            f"{text[:-3]}.{text[-3:]}"
        )
        return RequestError(Refusal.INVALID_WHEN, invalid_value(_HEADER, text, problem))
    return _refusal(text, "it lies beyond the year 9999")


def _refusal(text: str, reason: str = "") -> RequestError:
    problem = f"{reason}; {_EXPECTED}" if reason else _EXPECTED
    return RequestError(Refusal.INVALID_WHEN, invalid_value(_HEADER, text, problem))
