"""The moments that a cron expression names, with daylight saving time. Pure.

A search goes from one named day to the next (see `gozo.schedule.days`) and consults the time zone
only around these, so that a time in forty years takes no longer to find than one tomorrow.

Moments are seconds since the Unix epoch. Local times are counted in the same way, as if they were
UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from gozo.schedule.days import Days, lowest, place

DAY, MINUTE = 86_400, 60
"""Seconds."""

LAST = 253_402_300_799
"""The last second of the year 9999 (UTC)."""

FARTHEST = 50 * 366
"""Days (fifty years) within which an expression must name a time."""

APART = 15 * 3_600
"""The largest offset from UTC, in seconds."""

LOOKED_INTO = 45
"""Named days whose clock changes are considered when counting the latest times."""

STEPS = (60 * MINUTE, 15 * MINUTE, 1)
"""Seconds: most clock changes are at a multiple of the first, most of the others at one of the
second."""


class _Setting(NamedTuple):
    """The clock change around a day, if any."""

    before: int
    """Seconds ahead of UTC."""
    after: int
    change: int | None
    """The moment of the clock change, if there is one."""


_SETTING_OF_UTC = _Setting(0, 0, None)


@dataclass(frozen=True, slots=True)
class Times:
    """The times of day that an expression names, on the days that it names."""

    days: Days
    minutes: int
    """One bit for each minute of the day, from the lowest on."""
    seconds: tuple[int, ...]
    """The seconds of each such minute, in order."""
    is_fixed: bool
    """Whether a skipped time means the moment of the clock change, and a repeated time occurs
    once."""

    @property
    def shortest(self) -> int:
        """The shortest time between two of them, in seconds."""
        if len(self.seconds) > 1:
            return 1
        in_an_hour = self.minutes >> lowest(self.minutes) & ((1 << 60) - 1)
        return MINUTE if in_an_hour > 1 else 60 * MINUTE

    @property
    def closest(self) -> int | None:
        """The shortest time between two on one day, in seconds; None if a day has only one."""
        seconds = self.seconds
        gaps = [two - one for one, two in pairwise(seconds)]
        minutes = [minute for minute in range(DAY // MINUTE) if self.minutes >> minute & 1]
        if len(minutes) > 1:
            nearest = min(two - one for one, two in pairwise(minutes))
            gaps.append(nearest * MINUTE - seconds[-1] + seconds[0])
        return min(gaps, default=None)

    def after(self, after: int, zone: tzinfo) -> int | None:
        """The first moment after a given one; None if there is none within fifty years."""
        shown = (after + _offset(after, zone)) // DAY
        # Clocks that go back may show the previous day again.
        day = self.days.first(shown - (_setting_of(zone, shown).change is not None))
        while day is not None and day <= shown + FARTHEST:
            found = self._first_of(day, after, zone)
            if found is not None:
                if _setting_of(zone, day).change is None or self.days.first(day + 1) != day + 1:
                    return found
                next_day = self._first_of(day + 1, after, zone)
                return found if next_day is None else min(found, next_day)
            day = self.days.first(day + 1)
        return None

    def latest(self, end: int, count: int, zone: tzinfo) -> int | None:
        """The first of the latest `count` moments up to a given one; None if 1970 begins first.

        If these span many days, the result is an estimate: clock changes farther back are
        ignored.
        """
        day, left = (end + APART) // DAY + 1, count
        for _ in range(LOOKED_INTO):
            named = self.days.latest(day)
            if named is None:
                return None
            day = named
            for start, minutes in reversed(self._parts(day, zone)):
                there = self._count(minutes, end - start)
                if there >= left:
                    return self._nth(start, minutes, there - left)
                left -= there
        a_day = self.minutes.bit_count() * len(self.seconds)
        days = -(-left // a_day)
        named = self.days.latest(day, days)
        if named is None:
            return None
        start = named * DAY - _setting_of(zone, named).before
        return self._nth(start, self.minutes, days * a_day - left)

    def _nth(self, start: int, minutes: int, number: int) -> int:
        minute, second = divmod(number, len(self.seconds))
        return start + MINUTE * place(minutes, minute) + self.seconds[second]

    def _first_of(self, day: int, after: int, zone: tzinfo) -> int | None:
        """The first moment of a day that is after a given one."""
        for start, minutes in self._parts(day, zone):
            minute, second = divmod(after - start, MINUTE)
            if minute >= 0 and minutes >> minute & 1 and second < self.seconds[-1]:
                later = next(one for one in self.seconds if one > second)
                return start + MINUTE * minute + later
            if left := minutes >> max(minute + 1, 0):
                return start + MINUTE * (max(minute + 1, 0) + lowest(left)) + self.seconds[0]
        return None

    def _count(self, minutes: int, span: int) -> int:
        """Count the times in these minutes, up to `span` seconds after the start of the day."""
        minute, second = divmod(min(span, DAY), MINUTE)
        if minute < 0:
            return 0
        whole = (minutes & ((1 << minute) - 1)).bit_count() * len(self.seconds)
        return whole + (minutes >> minute & 1) * sum(one <= second for one in self.seconds)

    def _parts(self, day: int, zone: tzinfo) -> Sequence[tuple[int, int]]:
        """The moments of a day, in order, in parts without a clock change.

        Each part has the moment of the day's first minute, as if its offset held all day, and
        the minutes, one bit for each.
        """
        midnight = day * DAY
        before, after, change = _setting_of(zone, day)
        if change is None:
            return ((midnight - before, self.minutes),)
        # The local time before and after the clock change, in minutes of this day.
        until = _minutes(change + before - midnight)
        since = _minutes(change + after - midnight)
        parts = [(midnight - before, self.minutes & ((1 << until) - 1))]
        if self.is_fixed:
            left_out = self.minutes >> until & ((1 << max(since - until, 0)) - 1)
            if left_out and not self.minutes >> since & 1:
                parts.append((change, 1))
            since = max(since, until)
        parts.append((midnight - after, self.minutes >> since << since))
        return parts


def _minutes(seconds: int) -> int:
    """Number of minutes of a day that begin within its first `seconds`."""
    return min(max(-(-seconds // MINUTE), 0), DAY // MINUTE)


# Clocks


def _setting_of(zone: tzinfo, day: int) -> _Setting:
    return _SETTING_OF_UTC if zone is UTC else _setting(zone, day)


@lru_cache(maxsize=4_096)
def _setting(zone: tzinfo, day: int) -> _Setting:
    """The clock change around a day; assumes that there is at most one."""
    start, end = day * DAY - APART, (day + 1) * DAY + APART
    before, after = _offset(start, zone), _offset(end, zone)
    return _Setting(before, after, None if before == after else _change(start, end, zone))


def _offset(at: int, zone: tzinfo) -> int:
    """Seconds that local time is ahead of UTC at a moment."""
    if zone is UTC:
        return 0
    span = datetime.fromtimestamp(min(at, LAST - DAY), zone).utcoffset()
    assert span is not None
    return span.days * DAY + span.seconds


def _change(start: int, end: int, zone: tzinfo) -> int:
    """The moment of the clock change in (start, end], both on the hour."""
    offset = _offset(start, zone)
    for step in STEPS:
        low, high = start // step, end // step
        while high - low > 1:
            middle = (low + high) // 2
            if _offset(middle * step, zone) == offset:
                low = middle
            else:
                high = middle
        start, end = low * step, high * step
        if _offset(end - 1, zone) == offset:
            break
    return end
