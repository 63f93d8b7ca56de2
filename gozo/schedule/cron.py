"""Cron expressions: from text to the moments that they name in a time zone. Pure.

    0 2 * * mon-fri       minute, hour, day of month, month, weekday, as in crontab(5)
    30 0 2 * * mon-fri    the same with seconds first, as in the NATS server (ADR-51)

A field is a list of values, ranges and steps: `0,30`, `mon-fri`, `*/15`, `10-50/20`, and `5/15`
from 5 on. `?` is `*`, Sunday is 0 or 7. A day of month can be `L`, the last day, or `LW`, the
last weekday from Monday to Friday; a weekday can be `fri#2`, the second Friday of the month, or
`friL`, the last.

If both day fields are restricted, a day matches if either does. A field is unrestricted, with
five fields, if it begins with `*`, as in cron(8); with six, only if it is `*` itself, as in the
NATS server.

Daylight saving time follows the rule of Debian's cron(8) in both forms. If minute and hour are
fixed, a time skipped by the clocks means the moment at which they go forward, and a repeated
time means the first. If one of them begins with `*`, the expression follows the clocks: a
skipped time does not occur, and a repeated time occurs twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, tzinfo
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from gozo.errors import Refusal, RequestError, invalid_value
from gozo.schedule.days import SATURDAY, Days
from gozo.schedule.model import MICROSECONDS
from gozo.schedule.times import LAST, Times

_BLANKS = re.compile(r"[ \t]+")
_ZONED = re.compile(r"[ \t]*(?:CRON_)?TZ=", re.IGNORECASE)
_RANDOM = re.compile(r".*~|h(?![a-z])")
"""Matches a value chosen for each job: `15~45` of cronie and OpenBSD, `H` of Jenkins."""
_DIGITS = re.compile(r"\+?[0-9]+\Z", re.ASCII)
_STARS = ("*", "?")
_LAST_DAY, _LAST_WORKING = 32, 33
"""The numbers of `L` and `LW` among the days of a month."""
_LAST_WEEKDAY = 6
"""The number of `L` in `friL`, where `fri#2` has a 2."""


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    """The largest number allowed."""
    last: int
    """The largest number included in `*`."""
    names: tuple[str, ...] = ()

    @property
    def span(self) -> str:
        """The values allowed."""
        named = f" or {self.names[0]}-{self.names[-1]}" if self.names else ""
        return f"{self.low}-{self.high}{named}"


_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_SECOND = _Field("second", 0, 59, 59)
_FIELDS = (
    _SECOND,
    _Field("minute", 0, 59, 59),
    _Field("hour", 0, 23, 23),
    _Field("day of month", 1, 31, 31),
    _Field("month", 1, 12, 12, _MONTHS),
    _Field("weekday", 0, 7, 6, _WEEKDAYS),
)


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression: its five or six fields, in lower case."""

    fields: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(self.fields)

    @property
    def shortest_us(self) -> int:
        """Minimum microseconds between two occurrences."""
        return _times(self).shortest * MICROSECONDS

    @property
    def closest_us(self) -> int | None:
        """Minimum microseconds between two occurrences on one day; None if a day has only one."""
        closest = _times(self).closest
        return None if closest is None else closest * MICROSECONDS

    def next_us(self, after_us: int, zone: tzinfo = UTC) -> int | None:
        """The first moment after a given one; None if there is none within fifty years or by 9999.

        Moments are microseconds since the Unix epoch.
        """
        try:
            found = _times(self).after(after_us // MICROSECONDS, zone)
        except (OverflowError, ValueError):  # after the year 9999
            return None
        return None if found is None or found > LAST else found * MICROSECONDS

    def latest_us(self, end_us: int, count: int, zone: tzinfo = UTC) -> int | None:
        """The first of the latest `count` moments up to a given one; None if there are fewer."""
        found = _times(self).latest(end_us // MICROSECONDS, count, zone)
        return None if found is None else found * MICROSECONDS


def parse_cron(text: str) -> Cron:
    """Read a cron expression.

    Raises:
        RequestError: `invalid_when`, naming the field and what is wrong with its value.
    """
    if _ZONED.match(text):  # robfig's form, of Kubernetes and others
        raise _refusal("it begins with a time zone", "give the zone in Gozo-Time-Zone, without TZ=")
    cron = Cron(tuple(_BLANKS.split(text.strip(" \t").lower())))
    if len(cron.fields) not in (5, 6):
        raise _refusal(
            f"it has {len(cron.fields)} fields",
            "give five (minute, hour, day of month, month, weekday), or six with seconds first",
        )
    if _times(cron).days.first(0) is None:
        raise _refusal("it names a day that does not exist", "fix its days or months")
    return cron


ZONE_NAME = "expected UTC or a name of the IANA database, such as Europe/Malta (case-sensitive)"
"""What the name of a time zone must be, in messages."""


def read_zone(name: str) -> tzinfo:
    """Return the time zone with this name in the IANA database.

    Raises:
        RequestError: `invalid_when`, if there is no such zone.
    """
    try:
        return _zone(name)
    except (OSError, ValueError, LookupError):
        raise RequestError(
            Refusal.INVALID_WHEN,
            invalid_value("Gozo-Time-Zone", name[:80], ZONE_NAME),
        ) from None


@lru_cache(maxsize=1_024)  # existing zones only: errors are not cached
def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC  # many times faster than ZoneInfo("UTC")
    # Some zone directories have these: the machine's own zone, or zones with leap seconds.
    if name == "localtime" or name.startswith("right/"):
        raise LookupError(name)
    return ZoneInfo(name)


@lru_cache(maxsize=4_096)
def _times(cron: Cron) -> Times:
    has_seconds = len(cron.fields) > 5  # noqa: PLR2004
    texts = cron.fields if has_seconds else ("0", *cron.fields)
    seconds, minutes, hours, days, months, weekdays = (
        _read(text, field) for text, field in zip(texts, _FIELDS, strict=True)
    )
    _, minute, hour, day, _, weekday = texts
    is_any = _any_day if has_seconds else _begins_with_star
    numbered = {(value % 7, value // 7) for value in weekdays if value > SATURDAY}
    in_an_hour = sum(1 << minute for minute in minutes)
    return Times(
        Days(
            numbers=days - {_LAST_DAY, _LAST_WORKING},
            last=_LAST_DAY in days,
            last_working=_LAST_WORKING in days,
            months=months,
            weekdays={value for value in weekdays if value <= SATURDAY},
            nth={(weekday, number) for weekday, number in numbered if number != _LAST_WEEKDAY},
            last_weekdays={weekday for weekday, number in numbered if number == _LAST_WEEKDAY},
            both=is_any(day) or is_any(weekday),
        ),
        minutes=sum(in_an_hour << 60 * hour for hour in hours),
        seconds=tuple(sorted(seconds)),
        is_fixed=not minute.startswith(_STARS) and not hour.startswith(_STARS),
    )


# Fields


def _begins_with_star(text: str) -> bool:
    return text.startswith(_STARS)


def _any_day(text: str) -> bool:
    return any(term in ("*", "?", "*/1", "?/1") for term in text.split(","))


def _read(text: str, field: _Field) -> set[int]:
    """Read a field: a list, whose terms may be empty as in the NATS server."""
    terms = dict.fromkeys(term for term in text.split(",") if term)
    if not terms:
        raise _refusal(f"{field.name} {text!r} is empty", f"give {field.span}, or *")
    return {value for term in terms for value in _term(term, field)}


def _term(text: str, field: _Field) -> Iterable[int]:
    if field.name == "day of month" and text in ("l", "lw"):
        return {_LAST_DAY if text == "l" else _LAST_WORKING}
    if _RANDOM.match(text):
        raise _refusal(
            f"{field.name} {text!r} is a random value, which gozo does not support",
            "give a fixed value, and Gozo-Jitter for a random delay",
        )
    if field.names is _WEEKDAYS and (numbered := _numbered_weekday(text, field)):
        return {numbered}
    head, slash, step = text.partition("/")
    if slash and not (_DIGITS.match(step) and int(step)):
        raise _refusal(f"{field.name} {text!r} has an invalid step", "give 1 or more after the /")
    first, dash, last = head.partition("-")
    if head in _STARS:
        low, high = field.low, field.last
    else:
        low = _value(first, field)
        high = _value(last, field) if dash else max(low, field.last) if slash else low
    if high < low:
        raise _refusal(f"{field.name} {head!r} runs backwards", "give the smaller value first")
    values = range(low, high + 1, int(step) if slash else 1)
    # Sunday has two numbers.
    return {value % 7 for value in values} if field.names is _WEEKDAYS else values


def _numbered_weekday(text: str, field: _Field) -> int:
    """Read `fri#2` or `friL`, as the weekday and seven times its number; 0 if it is neither."""
    day, mark, number = text.partition("#")
    if mark:
        if number not in ("1", "2", "3", "4", "5"):
            raise _refusal(f"{field.name} {text!r} is not within #1-#5", "give one such as fri#2")
        return _value(day, field) % 7 + 7 * int(number)
    if text.endswith("l") and len(text) > 1:
        return _value(text[:-1], field) % 7 + 7 * _LAST_WEEKDAY
    return 0


def _value(text: str, field: _Field) -> int:
    if text in field.names:
        return field.names.index(text) + field.low
    if not _DIGITS.match(text) or not field.low <= int(text) <= field.high:
        raise _refusal(f"{field.name} {text!r} is not within {field.span}", "give one that is")
    return int(text)


def _refusal(problem: str, cure: str) -> RequestError:
    return RequestError(Refusal.INVALID_WHEN, f"{problem}; {cure}")
