"""Which days a cron expression names. Pure.

There are only fourteen kinds of years: each begins on one of seven weekdays, and is a leap year
or not. The days named in each kind are computed once, as a number with one bit for each day, so
that a search takes one step a year instead of one a day: two Mondays that are a 29th of February
may be forty years apart.

Days are counted from 1970-01-01, which is 0.
"""

from __future__ import annotations

from calendar import isleap
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache

LONGEST_GAP = 50
"""Years without a named day after which the search ends."""

EPOCH_YEAR, LAST_YEAR = 1970, 9_999
SUNDAY, SATURDAY = 0, 6

_EPOCH = date(1970, 1, 1).toordinal()
_LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_WEEK = 7
_WEEKS = sum(1 << _WEEK * week for week in range(5))


@dataclass(frozen=True, slots=True)
class Days:
    """The days that the three fields name together."""

    numbers: Collection[int]
    """The days of a month."""
    last: bool
    """Whether the last day of a month counts."""
    last_working: bool
    """Whether the last weekday from Monday to Friday does."""
    months: Collection[int]
    weekdays: Collection[int]
    """From 0, which is Sunday, to 6."""
    nth: Collection[tuple[int, int]]
    """Weekdays with their number in the month: the second Friday is (5, 2)."""
    last_weekdays: Collection[int]
    """Weekdays of which only the last in a month counts."""
    both: bool
    """Whether a day must match by number and by weekday; otherwise either is enough."""
    _years: dict[int, int] = field(default_factory=dict, init=False, compare=False)
    _months: dict[tuple[int, int], int] = field(default_factory=dict, init=False, compare=False)

    def first(self, day: int) -> int | None:
        """The first named day from one on; None if there is none."""
        year, start = _year_of(day)
        named = self._named(start, year) >> (day - start)
        if named:
            return day + lowest(named)
        for later in range(year + 1, min(year + LONGEST_GAP, LAST_YEAR) + 1):
            start += 365 + isleap(later - 1)
            if named := self._named(start, later):
                return start + lowest(named)
        return None

    def latest(self, day: int, count: int = 1) -> int | None:
        """The first of the latest `count` named days before one; None if 1970 begins first."""
        year, start = _year_of(day)
        named = self._named(start, year) & ((1 << day - start) - 1)
        while (there := named.bit_count()) < count:
            year -= 1
            if year < EPOCH_YEAR:
                return None
            count -= there
            start -= 365 + isleap(year)
            named = self._named(start, year)
        return start + place(named, there - count)

    def _named(self, start: int, year: int) -> int:
        """The named days of a year that starts on day `start`, as bits from the lowest on."""
        weekday, leap = (start + _EPOCH) % _WEEK, isleap(year)
        kind = weekday + _WEEK * leap
        named = self._years.get(kind)
        if named is None:
            named = self._years[kind] = self._name(weekday, leap=leap)
        return named

    def _name(self, weekday: int, *, leap: bool) -> int:
        named = begun = 0
        for month, length in enumerate(_LENGTHS, 1):
            days = length + (leap and length == 28)  # noqa: PLR2004  # February
            if month in self.months:
                kind = (weekday + begun) % _WEEK, days
                if kind not in self._months:
                    self._months[kind] = self._month(*kind)
                named |= self._months[kind] << begun
            begun += days
        return named

    def _month(self, weekday: int, length: int) -> int:
        """The named days of a month that begins on a weekday."""
        every = (1 << length) - 1
        by_number = sum(1 << number - 1 for number in self.numbers) & every
        if self.last:
            by_number |= 1 << length - 1
        if self.last_working:
            ends_on = (weekday + length - 1) % _WEEK
            over = {SATURDAY: 1, SUNDAY: 2}.get(ends_on, 0)
            by_number |= 1 << length - 1 - over
        by_weekday = 0
        for day in self.weekdays:
            by_weekday |= _WEEKS << (day - weekday) % _WEEK
        for day, number in self.nth:
            by_weekday |= 1 << (day - weekday) % _WEEK + _WEEK * (number - 1)
        for day in self.last_weekdays:
            by_weekday |= 1 << (_WEEKS << (day - weekday) % _WEEK & every).bit_length() - 1
        by_weekday &= every
        return by_number & by_weekday if self.both else by_number | by_weekday


@lru_cache(maxsize=1_024)
def _year_of(day: int) -> tuple[int, int]:
    """The year of a day, and the day on which it begins."""
    year = date.fromordinal(day + _EPOCH).year
    return year, date(year, 1, 1).toordinal() - _EPOCH


def lowest(bits: int) -> int:
    """The position of the lowest bit set."""
    return (bits & -bits).bit_length() - 1


def place(bits: int, number: int) -> int:
    """The position of the bit set that has `number` bits set below it."""
    low, high = 0, bits.bit_length()
    if number == bits.bit_count() - 1:
        return high - 1
    while high - low > 1:
        middle = (low + high) // 2
        if (bits & ((1 << middle) - 1)).bit_count() > number:
            high = middle
        else:
            low = middle
    return low
