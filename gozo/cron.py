"""Cron expressions: from text to the moments that they name, in a time zone. Pure.

    0 2 * * mon-fri       minute, hour, day of month, month, weekday, as in crontab(5)
    30 0 2 * * mon-fri    the same with seconds first, as the NATS server has it (ADR-51)

A field is a list of values, ranges and steps: `0,30`, `mon-fri`, `*/15`, `10-50/20`, and `5/15`
from 5 on. `?` is `*`, Sunday is 0 or 7. A day of month can be `L`, the last one, or `LW`, the
last from Monday to Friday; a weekday can be `fri#2`, the second one, or `friL`, the last one.

Where both days are restricted, either will do. What counts as no restriction is each form's
own rule: with five fields whatever begins with `*`, as in cron(8); with six `*` itself, as in
the NATS server.

One rule for summer time, that of Debian's cron(8), for both forms. Where minute and hour are
fixed, a time that clocks leave out is the moment at which they are put forward, and one that
comes twice is the first. Where one of them begins with `*`, what counts is what clocks show: a
time that is left out does not come, and one that comes twice comes twice.
"""

from __future__ import annotations

import re
from bisect import bisect
from copy import copy
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from gozo.errors import Refusal, RequestError
from gozo.schedule import MICROSECONDS

DAY, MINUTE = 86_400, 60
"""Seconds."""

LAST = 253_402_300_799
"""The last second of the year 9999 (UTC), since the Unix epoch."""

REMEMBERED = 16
"""Days of an expression of which it is remembered which one matches next."""

_BLANKS = re.compile(r"[ \t]+")
_DIGITS = re.compile(r"\+?[0-9]+\Z", re.ASCII)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  # what a clock shows, in whichever zone
_STARS = ("*", "?")


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    """The largest number that may be written."""
    last: int
    """The largest that `*` means."""
    names: tuple[str, ...] = ()

    @property
    def span(self) -> str:
        """What may stand there."""
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
        """Microseconds between two occurrences, at least."""
        return _times(self).shortest * MICROSECONDS

    def next_us(self, after_us: int, zone: tzinfo = UTC) -> int | None:
        """The first moment after a given one; None if there is none within fifty years or by 9999.

        Moments are microseconds since the Unix epoch.
        """
        try:
            found = _times(self).after(after_us // MICROSECONDS, zone)
        except (OverflowError, ValueError):  # after the year 9999
            return None
        return None if found is None or found > LAST else found * MICROSECONDS


def parse_cron(text: str) -> Cron:
    """Read a cron expression.

    Raises:
        RequestError: `invalid_when`, naming the field and what is wrong with its value.
    """
    cron = Cron(tuple(_BLANKS.split(text.strip(" \t").lower())))
    if len(cron.fields) not in (5, 6):
        raise _refusal(
            f"{str(cron)[:80]!r} has {len(cron.fields)} fields",
            "cron has five (minute, hour, day of month, month, weekday), or six, seconds first",
        )
    if _times(cron).match(datetime(2000, 1, 1)) is None:  # noqa: DTZ001  # in any zone
        raise _refusal(f"{str(cron)!r} names a day that never comes", "mend its days or its months")
    return cron


def read_zone(name: str) -> tzinfo:
    """Return the time zone that has this name in the IANA database.

    Raises:
        RequestError: `invalid_when`, if there is none.
    """
    zone = _zone(name)
    if zone is None:
        raise RequestError(
            Refusal.INVALID_WHEN,
            f"Gozo-Time-Zone {name[:80]!r} is no time zone: give a name of the IANA database "
            "such as Europe/Malta, with its capitals, or UTC",
        )
    return zone


@lru_cache(maxsize=1_024)
def _zone(name: str) -> tzinfo | None:
    if name == "UTC":
        return UTC  # many times as fast as the zone of that name
    # These are in some directories, and mean each machine's own, or count leap seconds.
    if name == "localtime" or name.startswith("right/"):
        return None
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError):
        return None


class _Times:
    """What an expression says, taken apart: the matching minutes, and the seconds in them."""

    def __init__(self, cron: Cron) -> None:
        texts = cron.fields if len(cron.fields) > 5 else ("0", *cron.fields)  # noqa: PLR2004
        read = [_read(text, field) for text, field in zip(texts, _FIELDS, strict=True)]
        self.seconds = sorted(int(second) for second in read[0])
        self._hours, self._minutes = sorted(map(int, read[2])), sorted(map(int, read[1]))
        minute, hour, day, _, weekday = texts[1:]
        self._is_fixed = not minute.startswith(_STARS) and not hour.startswith(_STARS)
        self._sim: CronSim | None = None
        self._days: dict[date, date | None] = {}
        try:
            days = [",".join(sorted(values, key=_order)) for values in read[3:]]
            self._sim = CronSim(" ".join(["0 0", *days]), _EPOCH)
        except CronSimError:
            pass  # all that it finds wrong with such fields: the 31st of a shorter month
        else:
            any_day = _any_day if len(cron.fields) > 5 else _begins_with_star  # noqa: PLR2004
            self._sim.day_and = any_day(day) or any_day(weekday)
        if len(self.seconds) > 1:
            self.shortest = 1
        else:
            self.shortest = MINUTE if len(self._minutes) > 1 else 60 * MINUTE

    def match(self, wall: datetime) -> datetime | None:
        """The first matching minute that clocks show after `wall`."""
        today = wall.date()
        day = self._day(today)
        hour, minute = self._hours[0], self._minutes[0]
        if day == today:
            now = bisect(self._minutes, wall.minute)
            if wall.hour in self._hours and now < len(self._minutes):
                hour, minute = wall.hour, self._minutes[now]
            elif wall.hour < self._hours[-1]:
                hour = self._hours[bisect(self._hours, wall.hour)]
            else:
                day = self._day(today + timedelta(days=1))
        if day is None:
            return None
        return datetime(day.year, day.month, day.day, hour, minute)  # noqa: DTZ001

    def _day(self, day: date) -> date | None:
        """The first matching day from one on, the latest asked for from memory."""
        if self._sim is None:
            return None
        if day not in self._days:
            sim = copy(self._sim)
            sim.dt = datetime(day.year, day.month, day.day) - timedelta(minutes=1)  # noqa: DTZ001
            found = next(sim, None)
            if len(self._days) >= REMEMBERED:
                self._days.clear()
            self._days[day] = found and found.date()
        return self._days[day]

    def after(self, after: int, zone: tzinfo) -> int | None:
        """The first moment after a given one, in seconds since the Unix epoch."""
        if len(self.seconds) == 1:
            minute = self._minute(after - self.seconds[0], zone)
            return None if minute is None else minute + self.seconds[0]
        minute = self._minute(after // MINUTE * MINUTE - 1, zone)
        if minute is not None and minute <= after:
            for second in self.seconds:
                if minute + second > after:
                    return minute + second
            minute = self._minute(minute, zone)
        return None if minute is None else minute + self.seconds[0]

    def _minute(self, after: int, zone: tzinfo) -> int | None:
        if zone is UTC:
            wall = self.match(_wall(after))
            return None if wall is None else _seconds(wall)
        return self._fixed(after, zone) if self._is_fixed else self._running(after, zone)

    def _fixed(self, after: int, zone: tzinfo) -> int | None:
        wall: datetime | None = _wall(after + _offset(after, zone))
        while wall is not None and (wall := self.match(wall)) is not None:
            first, second = (
                _seconds(wall) - _span(wall.replace(tzinfo=zone, fold=fold).utcoffset())
                for fold in (0, 1)
            )
            # In a gap each side takes the other's offset, so that the order is reversed.
            found = first if first <= second else _change(second, first, zone)
            if found is not None and found > after:
                return found
        return None

    def _running(self, after: int, zone: tzinfo) -> int | None:
        wall = after + _offset(after, zone)
        while (match := self.match(_wall(wall))) is not None:
            found = _seconds(match) - _offset(after, zone)
            change = _change(after, found, zone)
            if change is None:
                return found
            # Clocks are set before that: look again from what they show then.
            after, wall = change, change + _offset(change, zone) - 1
        return None


@lru_cache(maxsize=4_096)
def _times(cron: Cron) -> _Times:
    return _Times(cron)


# Fields


def _begins_with_star(text: str) -> bool:
    return text.startswith(_STARS)


def _any_day(text: str) -> bool:
    return any(term in ("*", "?", "*/1", "?/1") for term in text.split(","))


def _order(value: str) -> int:
    return int(value) if value.isdigit() else 0


def _read(text: str, field: _Field) -> set[str]:
    """Read a field: a list, in which the server lets terms be empty."""
    terms = [term for term in text.split(",") if term]
    if not terms:
        raise _refusal(f"{field.name} {text!r} is empty", f"give {field.span}, or *")
    return set().union(*(_term(term, field) for term in terms))


def _term(text: str, field: _Field) -> set[str]:
    if field.name == "day of month" and text in ("l", "lw"):
        return {text}
    if field.names is _WEEKDAYS and (special := _nth_weekday(text, field)):
        return {special}
    head, slash, step = text.partition("/")
    if slash and not (_DIGITS.match(step) and int(step)):
        raise _refusal(f"{field.name} {text!r} has no step of 1 or more", "mend what follows the /")
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
    return {str(value % 7 if field.names is _WEEKDAYS else value) for value in values}


def _nth_weekday(text: str, field: _Field) -> str:
    """Read `fri#2` or `friL`; "" is neither."""
    day, mark, number = text.partition("#")
    if mark:
        if number not in ("1", "2", "3", "4", "5"):
            raise _refusal(f"{field.name} {text!r} is not within #1-#5", "give fri#2, say")
        return f"{_value(day, field)}#{number}"
    if text.endswith("l") and len(text) > 1:
        return f"{_value(text[:-1], field)}l"
    return ""


def _value(text: str, field: _Field) -> int:
    if text in field.names:
        return field.names.index(text) + field.low
    if not _DIGITS.match(text) or not field.low <= int(text) <= field.high:
        raise _refusal(f"{field.name} {text!r} is not within {field.span}", "give one that is")
    return int(text)


def _refusal(problem: str, cure: str) -> RequestError:
    return RequestError(Refusal.INVALID_WHEN, f"{problem}: {cure}")


# Clocks


def _wall(seconds: int) -> datetime:
    return _EPOCH + timedelta(seconds=seconds)


def _seconds(wall: datetime) -> int:
    return _span(wall - _EPOCH)


def _span(span: timedelta | None) -> int:
    assert span is not None
    return span.days * DAY + span.seconds


def _offset(at: int, zone: tzinfo) -> int:
    """Seconds that clocks are ahead of UTC at a moment."""
    return _span(datetime.fromtimestamp(at, zone).utcoffset())


def _change(start: int, end: int, zone: tzinfo) -> int | None:
    """The first moment in (start, end] at which clocks have been set; None if they are not.

    Clocks are not set twice within a day.
    """
    offset = _offset(start, zone)
    while start < end:
        stop = min(start + DAY, end)
        if _offset(stop, zone) != offset:
            while stop - start > 1:
                middle = (start + stop) // 2
                if _offset(middle, zone) == offset:
                    start = middle
                else:
                    stop = middle
            return stop
        start = stop
    return None
