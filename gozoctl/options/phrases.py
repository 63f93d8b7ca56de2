"""Times in words, for `--at` and `--in`: `noon`, `tomorrow 9am`, `next friday`. Pure.

    noon, midnight, teatime, 9am, 9:30 pm       the next time that the clock shows it
    today 17:30, tomorrow noon, 9am tomorrow    on that day
    friday 17:30, next friday 17:30             on the first Friday after today
    2026-12-24 9am                              on that date
    tomorrow, next friday                       on that day, at the current time of day
    5min, +3d, in 2 hours, now + 1 day          from now on; a day is 24 hours

The words are those of at(1). gozo has its own grammar because the libraries guess: dateparser,
parsedatetime and recurrent take 50 to 300 ms to start, and read mistyped times as other ones
(`tomorrow 25pm`, `tomorow 9am`, `2026-02-30 10:00`); dateutil does not know the words. Phrases
that are not in this table are refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, time, timedelta

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_SHORT = {name[:3]: number for number, name in enumerate(_WEEKDAYS)}
_NUMBERS = {name: number for number, name in enumerate(_WEEKDAYS)} | _SHORT
_DAYS = {"today": 0, "tomorrow": 1}
_CLOCKS = {"noon": time(12), "midnight": time(0), "teatime": time(16)}
_UNITS = {
    "s": ("s", "sec", "secs", "second", "seconds"),
    "m": ("m", "min", "mins", "minute", "minutes"),
    "h": ("h", "hr", "hrs", "hour", "hours"),
    "d": ("d", "day", "days"),
    "w": ("w", "week", "weeks"),
}
_UNIT = {name: unit for unit, names in _UNITS.items() for name in names}
_PART = re.compile(rf"([0-9]+(?:\.[0-9]+)?) ?({'|'.join(sorted(_UNIT, key=len)[::-1])})(?![a-z]) ?")
_FROM_NOW = re.compile(r"(?:in |(?:now ?)?\+ ?)")
_HALVES = re.compile(r"(?<=[0-9]) (?=[ap]m\b)")
_CLOCK = re.compile(r"([0-9]{1,2})(?::([0-9]{2})(?::([0-9]{2}))?)?([ap]m)?")
_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_HALF_DAY = 12  # hours
_WEEK = 7  # days

_NO_LENGTH = re.compile(r"[0-9] ?(?:mo|months?|y|yrs?|years?)\b")
_HOUR_ALONE = re.compile(r"(?<!\S)[0-9]{1,2}(?!\S)(?! [a-z])")
_OTHER_DATE = re.compile(r"[0-9]{1,2}[/.][0-9]{1,2}[/.][0-9]{2,4}|[0-9]{4}/[0-9]{1,2}/[0-9]{1,2}")


@dataclass(frozen=True, slots=True)
class Delay:
    """A length of time from now on."""

    text: str
    """In the units of `Gozo-When`: `1h30m`."""


@dataclass(frozen=True, slots=True)
class Point:
    """A day, a time of day, or both."""

    clock: time | None
    """None: the current one."""
    ahead: int | None = None
    """Days after today."""
    weekday: int | None = None
    """The first such day after today; Monday is 0."""
    on: date | None = None

    def day(self, today: date) -> date | None:
        """The day, counted from another; None if the phrase names none.

        Raises:
            OverflowError: it is after the year 9999.
        """
        if self.weekday is not None:
            return today + timedelta((self.weekday - today.weekday() - 1) % _WEEK + 1)
        return self.on if self.ahead is None else today + timedelta(self.ahead)


def read(text: str) -> Delay | Point | None:
    """Read a phrase; None: it is not one."""
    words = _HALVES.sub("", " ".join(text.lower().split()))
    return _delay(words) or _point([word for word in words.split(" ") if word != "at"])


def read_delay(text: str) -> Delay | None:
    """Read a phrase that is a delay; None: it is not one."""
    return _delay(" ".join(text.lower().split()))


def hint(text: str) -> str:
    """Say what may be wrong with a text that is not a phrase; empty if unknown."""
    words = " ".join(text.lower().split())
    if _NO_LENGTH.search(words):
        return "months and years vary in length: give days, or a date"
    if _OTHER_DATE.search(words):
        return "write dates as 2026-12-24"
    if _DATE.fullmatch(words):
        return f"add a time of day: {words} 09:00"
    if found := _HOUR_ALONE.search(words):
        hour = int(found[0])
        if 1 <= hour <= _HALF_DAY:
            return f"{found[0]} is ambiguous: give {hour}am, {hour}pm or {hour}:00"
    return ""


def _delay(words: str) -> Delay | None:
    if words == "now":
        return Delay("0s")
    start = _FROM_NOW.match(words)
    position = start.end() if start else 0
    parts = ""
    while position < len(words):
        part = _PART.match(words, position)
        if part is None:
            return None
        parts += part[1] + _UNIT[part[2]]
        position = part.end()
    return Delay(parts) if parts else None


def _point(words: list[str]) -> Point | None:
    if words[:1] == ["next"] and (words[1:2] or [""])[0] in _NUMBERS:
        words = words[1:]
    elif words[1:2] == ["next"] and (words[2:3] or [""])[0] in _NUMBERS:
        words = [words[0], *words[2:]]
    match words:
        case [one] if (clock := _clock(one)) is not None:
            return Point(clock)
        case [day] if day in _DAYS or day in _NUMBERS:
            return Point(None, _DAYS.get(day), _NUMBERS.get(day))
        case [first, second]:
            for day, one in ((first, second), (second, first)):
                clock = _clock(one)
                if clock is not None and (day in _DAYS or day in _NUMBERS):
                    return Point(clock, _DAYS.get(day), _NUMBERS.get(day))
                if clock is not None and (found := _DATE.fullmatch(day)):
                    return _dated(clock, *map(int, found.groups()))
    return None


def _dated(clock: time, year: int, month: int, day: int) -> Point | None:
    try:
        return Point(clock, on=date(year, month, day))
    except ValueError:
        return None


def _clock(word: str) -> time | None:
    """Read a time of day; a bare number is not one."""
    found = _CLOCK.fullmatch(word)
    if found is None:
        return _CLOCKS.get(word)
    hour, minute, second = (int(part or 0) for part in found.groups()[:3])
    half = found[4]
    if half is None and found[2] is None:
        return None
    if half is not None:
        if not 1 <= hour <= _HALF_DAY:
            return None
        hour = hour % _HALF_DAY + _HALF_DAY * (half == "pm")
    try:
        return time(hour, minute, second)
    except ValueError:
        return None
