"""Times as people say them: read exactly, or refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gozo.errors import SettingsError
from gozo.schedule import expression as grammar
from gozoctl.options import moments, phrases

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 12, 9, 15, 0, 30, tzinfo=BERLIN)  # a Wednesday


def at(text: str, now: datetime = NOW) -> str:
    """Return what --at means, as an expression."""
    return moments.expression(in_=None, at=text, when=None, now=now, zone=BERLIN)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("noon", "2026-12-10T12:00:00+01:00"),
        ("Midnight", "2026-12-10T00:00:00+01:00"),
        ("teatime", "2026-12-09T16:00:00+01:00"),
        ("3pm", "2026-12-10T15:00:00+01:00"),
        ("12am", "2026-12-10T00:00:00+01:00"),
        ("12pm", "2026-12-10T12:00:00+01:00"),
        ("9:30 PM", "2026-12-09T21:30:00+01:00"),
        ("tomorrow 9am", "2026-12-10T09:00:00+01:00"),
        ("9 am tomorrow", "2026-12-10T09:00:00+01:00"),
        ("tomorrow at 17:30", "2026-12-10T17:30:00+01:00"),
        ("today 16:00:05", "2026-12-09T16:00:05+01:00"),
        ("today 9am", "2026-12-09T09:00:00+01:00"),
        ("tomorrow", "2026-12-10T15:00:30+01:00"),
        ("friday 17:30", "2026-12-11T17:30:00+01:00"),
        ("next friday", "2026-12-11T15:00:30+01:00"),
        ("9am next fri", "2026-12-11T09:00:00+01:00"),
        ("wednesday 17:30", "2026-12-16T17:30:00+01:00"),
        ("2026-12-24 6pm", "2026-12-24T18:00:00+01:00"),
        ("5min", "+5m"),
        ("+3d", "+3d"),
        ("in 2 hours", "+2h"),
        ("now + 3 hours", "+3h"),
        ("1 hour 30 min", "+1h30m"),
        ("1.5 hours", "+1.5h"),
        ("now", "+0s"),
    ],
)
def test_read(text: str, meant: str) -> None:
    """Each means one thing."""
    assert at(text) == meant


@pytest.mark.parametrize(
    ("text", "now", "meant"),
    [
        # Clocks go from 02:00 to 03:00 on 2027-03-28: half past two is half past three.
        ("tomorrow 2:30am", "2027-03-27T10:00:00+01:00", "2027-03-28T03:30:00+02:00"),
        ("tomorrow", "2027-03-27T02:30:00+01:00", "2027-03-28T03:30:00+02:00"),
        ("sunday 3am", "2027-03-27T10:00:00+01:00", "2027-03-28T03:00:00+02:00"),
        # A day by the calendar, and not 24 hours.
        ("tomorrow", "2027-03-27T10:00:00+01:00", "2027-03-28T10:00:00+02:00"),
        # Clocks go from 03:00 to 02:00 on 2026-10-25: half past two comes twice.
        ("sunday 2:30am", "2026-10-24T10:00:00+02:00", "2026-10-25T02:30:00+02:00"),
        ("today 2:30am", "2026-10-25T01:00:00+02:00", "2026-10-25T02:30:00+02:00"),
        ("today 2:30am", "2026-10-25T02:40:00+02:00", "2026-10-25T02:30:00+01:00"),
        ("2026-10-25 02:30", "2026-10-25T02:40:00+02:00", "2026-10-25T02:30:00+01:00"),
    ],
)
def test_where_clocks_change(text: str, now: str, meant: str) -> None:
    """As for every other local time: out of a gap into what follows, and the first of two."""
    assert at(text, datetime.fromisoformat(now)) == meant


@pytest.mark.parametrize(
    ("text", "cure"),
    [
        *((text, "expected 17:30") for text in ("", "soon", "tomorow 9am", "tomorrow 25pm", "0am")),
        *((text, "expected 17:30") for text in ("13pm", "9am foo", "today tomorrow", "next", "in")),
        *((text, "expected 17:30") for text in ("-3d", "friday friday", "5 apples", "+", "24:00")),
        *((text, "expected 17:30") for text in ("2026-02-30 10am", "17.30", "next week", "at")),
        ("tomorrow 9", "9 is ambiguous: give 9am, 9pm or 9:00"),
        ("9", "9 is ambiguous"),
        *((text, "expected 17:30") for text in ("1e9", "1,5h", "dec,9", "9:")),
        ("3 months", "months and years vary in length"),
        ("in 2y", "months and years vary in length"),
        ("12/24/2026", "write dates as 2026-12-24"),
        ("24.12.2026 9am", "write dates as 2026-12-24"),
        ("2026-12-24", "add a time of day: 2026-12-24 09:00"),
    ],
)
def test_refused(text: str, cure: str) -> None:
    """What could mean something else is never guessed at."""
    with pytest.raises(SettingsError, match="invalid --") as caught:
        at(text)
    assert cure in str(caught.value)


@pytest.mark.parametrize("text", ["noon", "tomorrow 9am", "17:30", "2026-12-24 18:00"])
def test_a_time_after_in(text: str) -> None:
    """What is a time and no delay names the option that takes it."""
    with pytest.raises(SettingsError, match="this is a time: use --at"):
        moments.delay(text)


def test_a_whole_day_is_no_moment() -> None:
    """To compare with, a day needs a time: it could be its beginning or its end."""
    with pytest.raises(SettingsError, match="invalid --due-before 'tomorrow': add a time of day"):
        moments.moment("tomorrow", NOW, "--due-before", BERLIN)
    found = moments.moment("tomorrow 00:00", NOW, "--due-before", BERLIN)
    assert found.isoformat() == "2026-12-10T00:00:00+01:00"


def test_words_that_lack_quotes() -> None:
    """The next argument belongs to the time where both together are one."""
    assert moments.goes_on("tomorrow", "9am")
    assert moments.goes_on("5", "minutes")
    assert not moments.goes_on("tomorrow", "milk")
    assert not moments.goes_on("17:30", "9")


@given(st.text(st.sampled_from("0159 apmnowdyt+:-friday"), max_size=16))
def test_whatever_is_typed(text: str) -> None:
    """It is a time that gozo takes, or refused."""
    try:
        said = at(text)
    except SettingsError:
        return
    assert isinstance(grammar.parse(said), grammar.Moment)


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.sampled_from(["monday", "next tue", "saturday", "sun"]),
)
def test_a_weekday_is_within_the_next_seven_days(now: datetime, text: str) -> None:
    """It is never today, and never more than a week away."""
    point = phrases.read(text)
    assert isinstance(point, phrases.Point)
    day = point.day(now.date())
    assert day is not None
    assert timedelta(1) <= day - now.date() <= timedelta(7)
    assert f"{day:%a}".lower() in text
