"""Which days and times expressions name, over decades: as a walk from day to day finds them."""

from __future__ import annotations

from bisect import bisect_left
from calendar import monthrange
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim, CronSimError
from hypothesis import example, given
from hypothesis import strategies as st

from gozo.errors import RequestError
from gozo.schedule import times as clocks
from gozo.schedule.cron import parse_cron
from gozo.schedule.expression import due_times
from gozo.schedule.model import MICROSECONDS
from gozo.schedule.times import LOOKED_INTO
from tests.support.crons import CRONS, ZONES, one_of, us

DAY = timedelta(days=1)
DAYS_OF_MONTH = one_of(1, 31) | st.sampled_from(["L", "LW", "29", "31", "30,31", "L,1-7", "*/30"])
WEEKDAYS = one_of(0, 7) | st.sampled_from(
    ["mon#1", "tue#5", "7#2", "0L", "7l", "fri#2,1l", "mon-fri", "*/7"]
)
MONTHS = one_of(1, 12) | st.sampled_from(["2", "feb,apr"])
FIRST = date(1971, 1, 1)
STARS = ("*", "?")
NERVOUS = ["Asia/Gaza", "Asia/Hebron", "America/Recife", "Antarctica/Casey", "Pacific/Apia"]
"""Zones in which clocks were set twice within a week, or by many hours."""


def names_any(text: str, fields: int) -> bool:
    """Tell whether a field of days is no restriction, by the rule of the form."""
    if fields == 5:
        return text.startswith(STARS)
    return any(term in ("*", "?", "*/1", "?/1") for term in text.split(","))


def walk(days: str, months: str, weekdays: str, fields: int, start: date) -> date | None:
    """Find the first day by looking at each, as cronsim does."""
    text = f"0 0 {days} {months} {weekdays}".replace("?", "*")
    try:
        sim = CronSim(text, datetime(2000, 1, 1))  # noqa: DTZ001
    except CronSimError:  # a day that none of the months has, such as 30 February
        if names_any(days, fields) or names_any(weekdays, fields):
            return None
        return walk("*", months, weekdays, fields, start)  # the weekday is enough
    sim.day_and = names_any(days, fields) or names_any(weekdays, fields)
    for number in range(41 * 366):
        day = start + number * DAY
        if day.month in sim.months and sim.match_day(day):
            return day
    return None


def starts_alone(text: str) -> bool:
    """Tell whether cronsim reads a step after a single value as gozo does."""
    return "/" not in text or text.startswith(STARS)


@given(
    days=DAYS_OF_MONTH,
    months=MONTHS,
    weekdays=WEEKDAYS,
    six=st.booleans(),
    start=st.dates(FIRST, date(2400, 12, 31)),
)
@example(days="29", months="2", weekdays="*/7", six=False, start=date(2072, 3, 1))  # forty years
@example(days="29", months="2", weekdays="*", six=False, start=date(2096, 3, 1))  # 2100 has none
@example(days="LW", months="*/1", weekdays="sat", six=False, start=FIRST)  # never
@example(days="30", months="2", weekdays="*", six=False, start=FIRST)  # never: cronsim refuses it
@example(days="30", months="2", weekdays="*/7", six=True, start=FIRST)  # Sundays
@example(days="*/30", months="*", weekdays="mon#3", six=False, start=FIRST)  # never
def test_days(days: str, months: str, weekdays: str, start: date, *, six: bool) -> None:
    """The first day is that of a walk from day to day, however far off it is."""
    if not all(map(starts_alone, (days, months, weekdays))):
        return
    text = " ".join(["0", "0", *(["0"] if six else []), days, months, weekdays])
    expected = walk(days, months, weekdays, 6 if six else 5, start)
    try:
        cron = parse_cron(text)
    except RequestError:
        assert expected is None
        return
    before_us = us(datetime(start.year, start.month, start.day, tzinfo=UTC)) - 1
    found = cron.next_us(before_us)
    assert found is not None
    assert datetime.fromtimestamp(found // MICROSECONDS, UTC).date() == expected


def last_of(day: date) -> int:
    """Return the last day of a day's month."""
    return monthrange(day.year, day.month)[1]


def last_working(day: date) -> int:
    """Return the last day from Monday to Friday of a day's month."""
    days = range(last_of(day), last_of(day) - 3, -1)
    return next(number for number in days if day.replace(day=number).weekday() < 5)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("L * ?", lambda day: day.day == last_of(day)),
        ("LW * ?", lambda day: day.day == last_working(day)),
        ("1,L,LW * ?", lambda day: day.day in (1, last_of(day), last_working(day))),
        ("L * sat", lambda day: day.day == last_of(day) or day.weekday() == 5),
        ("? * fri#1", lambda day: day.weekday() == 4 and day.day <= 7),
        ("? * mon#5", lambda day: day.weekday() == 0 and day.day > 28),
        ("? * sunL", lambda day: day.weekday() == 6 and day.day + 7 > last_of(day)),
        ("? * 0#2,sat#3", lambda day: (day.weekday(), (day.day - 1) // 7) in ((6, 1), (5, 2))),
        ("? 2,3 tueL,wedL", lambda day: day.weekday() in (1, 2) and day.day + 7 > last_of(day)),
        ("29-31 2 ?", lambda day: day.day >= 29),
    ],
)
def test_each_kind_of_year(text: str, names: Callable[[date], bool]) -> None:
    """Within 28 years, each weekday begins a common and a leap year."""
    cron = parse_cron(f"0 0 {text}")
    months = {"2": [2], "2,3": [2, 3]}.get(text.split()[1], range(1, 13))
    found = due_times(cron, us(datetime(1999, 12, 31, tzinfo=UTC)), 0)
    for number in range(28 * 365 + 7):
        day = date(2000, 1, 1) + number * DAY
        if day.month in months and names(day):
            assert datetime.fromtimestamp(next(found) // MICROSECONDS, UTC).date() == day
    assert datetime.fromtimestamp(next(found) // MICROSECONDS, UTC).year == 2028


@given(
    text=CRONS,
    zone=st.sampled_from(["UTC", *ZONES]).map(ZoneInfo),
    start_us=st.integers(
        us(datetime(2020, 1, 1, tzinfo=UTC)), us(datetime(2050, 1, 1, tzinfo=UTC))
    ),
    count=st.integers(1, 200),
)
@example("* * * * *", ZoneInfo("Europe/Malta"), us(datetime(2026, 3, 28, 23, tzinfo=UTC)), 200)
@example("1-59 * * * *", ZoneInfo("Europe/Malta"), us(datetime(2026, 10, 24, 23, tzinfo=UTC)), 200)
@example("0 2,3 * * *", ZoneInfo("Europe/Malta"), us(datetime(2027, 3, 16, tzinfo=UTC)), 40)
@example("0-59 2 * * *", ZoneInfo("Europe/Malta"), us(datetime(2026, 3, 28, 2, tzinfo=UTC)), 10)
def test_the_latest(text: str, zone: tzinfo, start_us: int, count: int) -> None:
    """The latest times, counted back from an end, begin where they do if they are counted forth."""
    cron = parse_cron(text)
    times = list(islice(due_times(cron, start_us, 0, zone), count + 20))
    days = len({datetime.fromtimestamp(time // MICROSECONDS, zone).date() for time in times})
    for end_us in (times[-1], times[-1] + MICROSECONDS - 1):
        latest = cron.latest_us(end_us, count, zone)
        assert latest is not None
        counted = len(times) - bisect_left(times, latest)
        if days > LOOKED_INTO:  # those that clocks left out or repeated long before do not count
            assert abs(counted - count) <= 20
        else:
            assert (counted, times[-counted]) == (count, latest)


@pytest.mark.parametrize(
    ("name", "year"),
    [
        ("Europe/Malta", 2026),
        ("Australia/Lord_Howe", 2026),
        ("America/St_Johns", 2010),  # a minute after midnight
        ("Asia/Kathmandu", 1986),  # at a quarter of an hour
        ("Pacific/Apia", 2011),  # by a day
        ("Africa/Monrovia", 1972),  # at half a minute
    ],
)
def test_clock_changes_are_exact(name: str, year: int) -> None:
    """A change is the first second with the new offset, on the hour or not."""
    zone, first = ZoneInfo(name), us(datetime(year, 1, 1, tzinfo=UTC)) // MICROSECONDS // 86_400
    found = {clocks._setting(zone, day) for day in range(first, first + 366)}
    changes = [one for one in found if one.change is not None]
    assert changes
    for before, after, change in changes:
        assert change is not None
        offsets = [clocks._offset(at, zone) for at in (change - 1, change)]
        assert offsets == [before, after]


@pytest.mark.parametrize("text", ["0 9 * * *", "0 9,21 * * *", "5,10 0 9 * * *", "5 1 9 * * 1,2"])
@pytest.mark.parametrize("count", [44, 45, 46, 47, 100, 101, 150])
def test_the_latest_of_many_days(text: str, count: int) -> None:
    """Clocks may be set in between if no time is skipped or repeated."""
    cron, zone = parse_cron(text), ZoneInfo("Europe/Malta")
    start_us, end_us = (us(datetime(year, 6, 1, 12, tzinfo=UTC)) for year in (2024, 2026))
    times = list(takewhile(lambda time: time <= end_us, due_times(cron, start_us, 0, zone)))
    assert cron.latest_us(end_us, count, zone) == times[-count]


def test_the_latest_before_1970() -> None:
    """Where fewer came since 1970, there is no first of so many."""
    assert parse_cron("0 0 1 1 *").latest_us(us(datetime(2026, 6, 1, tzinfo=UTC)), 57) == 0
    assert parse_cron("0 0 1 1 *").latest_us(us(datetime(2026, 6, 1, tzinfo=UTC)), 58) is None


def test_clocks_are_not_set_twice_within_days() -> None:
    """What a search relies on: offsets do not change and change back while a day lasts anywhere."""
    days = [datetime(1972, 1, 8, 12) + number * DAY for number in range(80 * 366)]  # noqa: DTZ001
    for name in [*ZONES, *NERVOUS]:
        offsets = pairwise(map(ZoneInfo(name).utcoffset, days))
        changed = [number for number, (one, two) in enumerate(offsets) if one != two]
        assert len(changed) > 1, name
        assert min(later - one for one, later in pairwise(changed)) > 5, name
