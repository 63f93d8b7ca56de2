"""Cron expressions: what they mean, and what clocks that are set do to them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gozo.errors import Refusal, RequestError
from gozo.schedule.cron import parse_cron, read_zone
from gozo.schedule.model import MICROSECONDS
from gozo.schedule.times import LAST
from tests.support.crons import CRONS, ZONES, us

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)


def times(text: str, after: str, zone: str, count: int) -> list[str]:
    """Return the first times after a moment as clocks of the zone show them, with offsets."""
    cron, where = parse_cron(text), ZoneInfo(zone)
    found, at_us = [], us(datetime.fromisoformat(after))
    for _ in range(count):
        next_us = cron.next_us(at_us, where)
        assert next_us is not None
        at_us = next_us
        found.append(datetime.fromtimestamp(at_us / MICROSECONDS, where).isoformat())
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("* * * * *", "2026-11-25T08:01:00"),
        ("*/15 9-17 * * mon-fri", "2026-11-25T09:00:00"),
        ("5/20 8 * * *", "2026-11-25T08:05:00"),
        ("0 0 1 jan ?", "2027-01-01T00:00:00"),
        ("30 4 1,15 * 5", "2026-11-27T04:30:00"),
        ("0 0 29 2 *", "2028-02-29T00:00:00"),
        ("0 12 * * 7", "2026-11-29T12:00:00"),
        ("0 12 * * fri-7", "2026-11-27T12:00:00"),
        ("0 12 * * 1/2", "2026-11-25T12:00:00"),
        ("0 12 L * *", "2026-11-30T12:00:00"),
        ("0 12 lw feb *", "2027-02-26T12:00:00"),
        ("0 12 * * fri#2", "2026-12-11T12:00:00"),
        ("0 12 * * sunL", "2026-11-29T12:00:00"),
        ("* * * * * *", "2026-11-25T08:00:01"),
        ("*/7 * * * * *", "2026-11-25T08:00:07"),
        ("30 0 9 * * *", "2026-11-25T09:00:30"),
        # With five fields */2 does not restrict the day, with six it does.
        ("0 9 */2 * tue", "2026-12-01T09:00:00"),
        ("0 0 9 */2 * tue", "2026-11-25T09:00:00"),
        # With six fields, only these do not restrict it.
        ("0 0 9 ? * tue", "2026-12-01T09:00:00"),
        ("0 0 9 */1 * tue", "2026-12-01T09:00:00"),
        ("0 0 9 27 * ?/1", "2026-11-27T09:00:00"),
        ("0 0 9 7,* * tue", "2026-12-01T09:00:00"),
        ("0 0 9 7,*/2 * tue", "2026-11-25T09:00:00"),
    ],
)
def test_next(text: str, expected: str) -> None:
    """Values, lists, ranges, steps and names mean what they do in cron and in the server."""
    after = "2026-11-25T08:00:00+00:00"
    assert times(text, after, "UTC", 1) == [f"{expected}+00:00"]


def test_the_last_day_and_the_last_working_day() -> None:
    """January 2027 ends on a Sunday, and February too."""
    for text, days in (("L", ["01-31", "02-28", "03-31"]), ("LW", ["01-29", "02-26", "03-31"])):
        found = times(f"0 0 {text} * *", "2027-01-20T00:00+00:00", "UTC", 3)
        assert [time[5:10] for time in found] == days


@pytest.mark.parametrize(
    ("weekday", "days"),
    [
        ("sat#1", ["2027-05-01", "2027-06-05"]),
        ("sun#2", ["2027-05-09", "2027-06-13"]),
        ("7#3", ["2027-05-16", "2027-06-20"]),
        ("mon#4", ["2027-05-24", "2027-06-28"]),
        ("mon#5", ["2027-05-31", "2027-08-30"]),
        ("7L", ["2027-05-30", "2027-06-27"]),
        ("sat#5,1L", ["2027-05-29", "2027-05-31"]),
    ],
)
def test_numbered_weekdays(weekday: str, days: list[str]) -> None:
    """May 2027 begins on a Saturday; Sunday has two numbers here, too."""
    found = times(f"0 0 * * {weekday}", "2027-04-30T12:00+00:00", "UTC", 2)
    assert [time[:10] for time in found] == days


@pytest.mark.parametrize(
    ("text", "zone", "after", "expected"),
    [
        # Clocks go from 02:00 to 02:30, and from 02:00 to 01:30.
        (
            "15 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-03T12:00+10:30",
            ["2026-10-04T02:30:00+11:00", "2026-10-05T02:15:00+11:00"],
        ),
        (
            "*/10 2 * * *",
            "Australia/Lord_Howe",
            "2026-10-03T12:00+10:30",
            ["2026-10-04T02:30:00+11:00", "2026-10-04T02:40:00+11:00"],
        ),
        (
            "45 1 * * *",
            "Australia/Lord_Howe",
            "2027-04-03T12:00+11:00",
            ["2027-04-04T01:45:00+11:00", "2027-04-05T01:45:00+10:30"],
        ),
        (
            "*/30 2 * * *",
            "Australia/Lord_Howe",
            "2027-04-04T00:00+11:00",
            ["2027-04-04T02:00:00+10:30", "2027-04-04T02:30:00+10:30"],
        ),
        # Midnight is left out.
        (
            "0 0 * * *",
            "America/Santiago",
            "2026-09-05T12:00-04:00",
            ["2026-09-06T01:00:00-03:00", "2026-09-07T00:00:00-03:00"],
        ),
        (
            "*/30 0 * * *",
            "America/Santiago",
            "2026-09-05T12:00-04:00",
            ["2026-09-07T00:00:00-03:00", "2026-09-07T00:30:00-03:00"],
        ),
        (
            "30 1 * * *",
            "Europe/Dublin",
            "2026-10-24T12:00+01:00",
            ["2026-10-25T01:30:00+01:00", "2026-10-26T01:30:00+00:00"],
        ),
        (
            "30 * * * *",
            "Europe/Dublin",
            "2026-10-25T00:40+01:00",
            ["2026-10-25T01:30:00+01:00", "2026-10-25T01:30:00+00:00"],
        ),
        (
            "30 2 * * *",
            "Africa/Casablanca",
            "2027-03-13T12:00+00:00",
            ["2027-03-14T03:00:00+01:00", "2027-03-15T02:30:00+01:00"],
        ),
        # Only skipped times mean the time of the change.
        (
            "30 4 * * *",
            "Europe/Malta",
            "2027-03-27T12:00+01:00",
            ["2027-03-28T04:30:00+02:00", "2027-03-29T04:30:00+02:00"],
        ),
        (
            "1,30 2,3 * * *",
            "Europe/Malta",
            "2027-03-27T12:00+01:00",
            ["2027-03-28T03:00:00+02:00", "2027-03-28T03:01:00+02:00", "2027-03-28T03:30:00+02:00"],
        ),
        # Clocks go back to 02:00: it is 03:00 only once.
        (
            "0 3 * * *",
            "Europe/Malta",
            "2026-10-24T12:00+02:00",
            ["2026-10-25T03:00:00+01:00", "2026-10-26T03:00:00+01:00"],
        ),
        # Clocks went back from 00:01 to 23:01 of the day before.
        (
            "*/30 23,0 * * *",
            "America/St_Johns",
            "2010-11-06T23:45-02:30",
            ["2010-11-07T00:00:00-02:30", "2010-11-06T23:30:00-03:30", "2010-11-07T00:00:00-03:30"],
        ),
        (
            "0,30 0,23 * * *",
            "America/St_Johns",
            "2010-11-06T23:45-02:30",
            ["2010-11-07T00:00:00-02:30", "2010-11-07T00:30:00-03:30"],
        ),
        # A whole day is skipped, at the date line.
        (
            "*/30 20-23 * * *",
            "Pacific/Apia",
            "2011-12-29T23:00-10:00",
            ["2011-12-29T23:30:00-10:00", "2011-12-31T20:00:00+14:00"],
        ),
        (
            "0 9 * * *",
            "Pacific/Apia",
            "2011-12-29T09:00-10:00",
            ["2011-12-31T00:00:00+14:00", "2011-12-31T09:00:00+14:00"],
        ),
        # The local day is the one before that of UTC, or the next.
        (
            "0 13,20 * * *",
            "America/Los_Angeles",
            "2026-11-24T20:00+00:00",
            ["2026-11-24T13:00:00-08:00", "2026-11-24T20:00:00-08:00", "2026-11-25T13:00:00-08:00"],
        ),
        (
            "0 1,8 * * *",
            "Asia/Tokyo",
            "2026-11-24T15:30+00:00",
            ["2026-11-25T01:00:00+09:00", "2026-11-25T08:00:00+09:00", "2026-11-26T01:00:00+09:00"],
        ),
        (
            "0 12 31 12 *",
            "Pacific/Kiritimati",
            "9999-12-30T12:00+00:00",
            ["9999-12-31T12:00:00+14:00"],
        ),
        # Seconds do not make another rule.
        (
            "*/30 30 2 * * *",
            "Europe/Malta",
            "2027-03-27T12:00+01:00",
            ["2027-03-28T03:00:00+02:00", "2027-03-28T03:00:30+02:00", "2027-03-29T02:30:00+02:00"],
        ),
        (
            "0 30 2 * * *",
            "Europe/Malta",
            "2026-10-24T12:00+02:00",
            ["2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"],
        ),
    ],
)
def test_summer_time(text: str, zone: str, after: str, expected: list[str]) -> None:
    """Fixed times come once a day whatever clocks do; others follow what clocks show."""
    assert times(text, after, zone, len(expected)) == expected


def changes(zone: tzinfo) -> list[datetime]:
    """Return the days of two years on which clocks are set."""
    days = [datetime(2026, 1, 1, tzinfo=UTC) + number * DAY for number in range(730)]
    offsets = [day.astimezone(zone).utcoffset() for day in days]
    return [day for day, one, two in zip(days, offsets, offsets[1:], strict=False) if one != two]


CHANGES = [(zone, day) for zone in map(ZoneInfo, ZONES) for day in changes(zone)]


def slow_next(
    minutes: set[int], hours: set[int], zone: tzinfo, after: datetime, *, fixed: bool
) -> datetime | None:
    """Find the next minute by looking at each one around a change of clocks."""
    firsts: dict[datetime, datetime] = {}
    start = after.replace(second=0, microsecond=0) - 2 * DAY
    last = None
    for number in range(6 * 1_440):
        moment = start + number * MINUTE
        wall = moment.astimezone(zone).replace(tzinfo=None, fold=0)
        skipped = wall if last is None else last + MINUTE
        while fixed and skipped < wall:
            firsts.setdefault(skipped, moment)
            skipped += MINUTE
        if not fixed and moment > after and wall.minute in minutes and wall.hour in hours:
            return moment
        firsts.setdefault(wall, moment)
        last = wall
    found = [
        moment
        for wall, moment in firsts.items()
        if moment > after and wall.minute in minutes and wall.hour in hours
    ]
    return min(found, default=None) if fixed else None


@given(
    change=st.sampled_from(CHANGES),
    minutes=st.sets(st.integers(0, 59), min_size=1, max_size=4),
    hours=st.sets(st.integers(0, 4) | st.integers(0, 23), min_size=1, max_size=4),
    star=st.sampled_from(["", "minute", "hour"]),
    past=st.timedeltas(-DAY, DAY),
)
def test_the_rule_holds_wherever_clocks_are_set(
    change: tuple[ZoneInfo, datetime],
    minutes: set[int],
    hours: set[int],
    star: str,
    past: timedelta,
) -> None:
    """In each zone's gaps and folds the times are those of a search minute by minute."""
    zone, day = change
    texts = [",".join(map(str, sorted(values))) for values in (minutes, hours)]
    if star == "minute":
        texts[0], minutes = "*/20", {0, 20, 40}
    elif star == "hour":
        texts[1], hours = "*", set(range(24))
    expected = slow_next(minutes, hours, zone, day + past, fixed=not star)
    assert expected is not None
    for text in (f"{texts[0]} {texts[1]} * * *", f"0 {texts[0]} {texts[1]} * * ?"):
        found = parse_cron(text).next_us(us(day + past), zone)
        assert found == us(expected)


@given(
    text=CRONS,
    zone=st.sampled_from(["UTC", *ZONES]).map(ZoneInfo),
    after_us=st.integers(
        us(datetime(2020, 1, 1, tzinfo=UTC)), us(datetime(2060, 1, 1, tzinfo=UTC))
    ),
)
def test_next_is_always_after(text: str, zone: tzinfo, after_us: int) -> None:
    """The next time is after the last, for ever; and an expression is printed as it was read."""
    cron = parse_cron(text)
    assert parse_cron(str(cron)) == cron
    for _ in range(4):
        next_us = cron.next_us(after_us, zone)
        assert next_us is not None
        assert next_us > after_us
        assert cron.next_us(next_us - 1, zone) == next_us
        after_us = next_us


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("* * * * * *", 1),
        ("0,50 * * * * *", 10),
        ("5,10 0,2 * * * *", 5),
        ("10 * * * *", 3600),
        ("*/15 9 * * *", 900),
        ("0,59 9-10 * * *", 60),
        ("5,10 3,59 * * * *", 5),
        ("1,58 0,1 * * * *", 3),
        ("0,15 0 9,17 * * *", 15),
        ("5 0 9,17 * * *", 8 * 3600),
        ("50 58,59 * * * *", 60),
        ("0 0 * * *", None),
        ("0 0 1 1 *", None),
    ],
)
def test_closest(text: str, seconds: int | None) -> None:
    """How close two times of a day come, for `--min-interval`."""
    assert parse_cron(text).closest_us == (None if seconds is None else seconds * 1_000_000)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0,59 * * * * *", 1),
        ("5 * * * * *", 60),
        ("0,59 * * * *", 60),
        ("30 * * * *", 3600),
        ("0 23 * * *", 3600),
        ("59 0,1 * * *", 3600),
    ],
)
def test_shortest(text: str, seconds: int) -> None:
    """No two times of the expression are closer together, on any day."""
    assert parse_cron(text).shortest_us == seconds * MICROSECONDS


def test_nothing_after_9999() -> None:
    """At the end of the calendar there is no next time, and no error either."""
    last_day_us = us(datetime(9999, 12, 31, tzinfo=UTC))
    assert parse_cron("59 59 23 31 12 ?").next_us(last_day_us) == LAST * MICROSECONDS
    last_year_us = us(datetime(9999, 1, 1, tzinfo=UTC))
    assert parse_cron("0 0 1 1 *").next_us(last_year_us - 1) == last_year_us
    assert parse_cron("0 0 1 1 *").next_us(last_year_us - DAY // MICROSECOND) == last_year_us
    for zone in (UTC, ZoneInfo("Australia/Lord_Howe"), ZoneInfo("America/Santiago")):
        for text in ("0 0 1 1 *", "*/5 * * * *", "* * * * * *"):
            last_us = us(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))
            assert parse_cron(text).next_us(last_us, zone) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("61 * * * *", "minute '61' is not within 0-59"),
        ("0 61 * * * *", "minute '61' is not within 0-59"),
        ("99 0 0 * * *", "second '99' is not within 0-59; give one that is"),
        ("0 24 * * *", "hour '24' is not within 0-23"),
        ("0 0 0 * *", "day of month '0' is not within 1-31"),
        ("0 0 * 13 *", "month '13' is not within 1-12 or jan-dec"),
        ("0 0 * january *", "month 'january' is not within"),
        ("0 0 * * 8", "weekday '8' is not within 0-7 or sun-sat"),
        ("0 0 * * sat-sun", "weekday 'sat-sun' runs backwards"),
        ("0 10-5 * * *", "hour '10-5' runs backwards; give the smaller value first"),
        ("*/0 * * * *", "minute '*/0' has an invalid step; give 1 or more after the /"),
        ("*/x * * * *", "minute '*/x' has an invalid step"),
        ("0 0 * * 1#6", "weekday '1#6' is not within #1-#5; give one such as fri#2"),
        ("0 0 * * 1#2#3", "weekday '1#2#3' is not within #1-#5"),
        ("0 0 * * L", "weekday 'l' is not within 0-7"),
        (", * * * *", "minute ',' is empty; give 0-59, or *"),
        ("1-2-3 * * * *", "minute '2-3' is not within"),
        ("\u0661 * * * *", "is not within 0-59"),
        ("* * * *", "has 4 fields; give five"),
        ("* * * * * * *", "has 7 fields"),
        ("0 0 31 2 *", "names a day that does not exist"),
        ("0 0 30,31 2 ?", "names a day that does not exist"),
        ("0 0 0 31 4,6,9,11 *", "it names a day that does not exist; fix its days or months"),
        ("15~45 * * * *", "minute '15~45' is a random value, which gozo does not support; give a"),
        ("0 H * * *", "hour 'h' is a random value, which gozo does not support; give a fixed"),
        ("TZ=UTC 0 0 * * *", "it begins with a time zone; give the zone in Gozo-Time-Zone"),
        (" cron_tz=UTC 0 0 * * *", "begins with a time zone; give the zone in Gozo-Time-Zone"),
        ("* * * * *\n", "weekday '*\\n' is not within"),
    ],
)
def test_errors_name_field_and_value(text: str, words: str) -> None:
    """Whoever mistyped an expression is told where."""
    with pytest.raises(RequestError) as refused:
        parse_cron(text)
    assert words in str(refused.value)
    assert refused.value.code is Refusal.INVALID_WHEN


@pytest.mark.parametrize("name", ["Europe/Valetta", "localtime", "right/UTC", "", "../etc/passwd"])
def test_what_is_no_time_zone(name: str) -> None:
    """Names outside the IANA database are refused, wherever the host keeps its zones."""
    words = f"invalid Gozo-Time-Zone '{name}': expected UTC or a name"
    with pytest.raises(RequestError, match=words) as refused:
        read_zone(name)
    assert refused.value.code is Refusal.INVALID_WHEN
