"""Times as people write them: what `--in`, `--at` and `--when` mean, summer time included."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gozo.errors import SettingsError
from gozo.schedule import expression as grammar
from gozoctl.options import moments
from gozoctl.output import times

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = [UTC, BERLIN, ZoneInfo("America/St_Johns"), ZoneInfo("Australia/Lord_Howe")]


def berlin(text: str) -> datetime:
    """Return a moment that is given with its offset."""
    return datetime.fromisoformat(text).astimezone(BERLIN)


@pytest.mark.parametrize(
    ("text", "now", "meant"),
    [
        ("17:30", "2026-11-25T12:00:00+01:00", "2026-11-25T17:30:00+01:00"),
        ("17:30", "2026-11-25T17:30:00+01:00", "2026-11-26T17:30:00+01:00"),
        ("9:05:07", "2026-11-25T12:00:00+01:00", "2026-11-26T09:05:07+01:00"),
        # Clocks go from 02:00 to 03:00 on 2027-03-28: half past two is half past three.
        ("02:30", "2027-03-28T01:00:00+01:00", "2027-03-28T03:30:00+02:00"),
        # Clocks go from 03:00 to 02:00 on 2026-10-25: half past two comes twice.
        ("02:30", "2026-10-25T01:00:00+02:00", "2026-10-25T02:30:00+02:00"),
        ("02:30", "2026-10-25T02:40:00+02:00", "2026-10-25T02:30:00+01:00"),
        ("02:30", "2026-10-25T02:40:00+01:00", "2026-10-26T02:30:00+01:00"),
        ("2026-12-24 18:00", "2026-11-25T12:00:00+01:00", "2026-12-24T18:00:00+01:00"),
        ("2026-07-01T18:00:30", "2026-11-25T12:00:00+01:00", "2026-07-01T18:00:30+02:00"),
        ("2027-03-28 02:30", "2026-11-25T12:00:00+01:00", "2027-03-28T03:30:00+02:00"),
        ("2026-12-24T18:00:00Z", "2026-11-25T12:00:00+01:00", "2026-12-24T19:00:00+01:00"),
    ],
)
def test_at(text: str, now: str, meant: str) -> None:
    """A time of day is the next one; a date is local; RFC 3339 is what it says."""
    found = moments.moment_at(text, berlin(now), BERLIN)
    assert found.isoformat() == meant


@pytest.mark.parametrize(
    "text", ["", "24:00", "17:60", "17", "1763871234", "+10", "2026-02-30 10:00", "25:00"]
)
def test_at_refused(text: str) -> None:
    """What is no time is refused, with the value and the cure."""
    with pytest.raises(SettingsError, match=r"invalid --at .*: expected 17:30"):
        moments.moment_at(text, datetime.now(UTC), BERLIN)


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.times(),
    st.sampled_from(ZONES),
)
def test_a_time_of_day_is_soon_and_never_past(
    now: datetime, clock: datetime, zone: ZoneInfo
) -> None:
    """It comes after now, within a day and what clocks are put back; and the clock shows it."""
    found = moments.moment_at(f"{clock:%H:%M:%S}", now, zone)
    assert now < found <= now + timedelta(hours=26)
    shown = found.astimezone(zone)
    naive = clock.replace(microsecond=0)
    there = naive == shown.time()
    gap = shown.utcoffset() != (shown - timedelta(hours=3)).utcoffset()
    assert there or gap


@pytest.mark.parametrize("text", ["10", "0.5", "1h30m", "250ms", "2d"])
def test_in(text: str) -> None:
    """A delay is what the grammar reads after a plus; a bare number is seconds."""
    assert moments.delay(text) == f"+{text}"
    assert isinstance(grammar.parse(moments.delay(text)), grammar.After)


@pytest.mark.parametrize("text", ["", "-5m", "soon", "17:30", "1h-"])
def test_in_refused(text: str) -> None:
    """What is no delay is refused, with the value."""
    with pytest.raises(SettingsError, match=r"invalid --in .*: (expected|this is a time)"):
        moments.delay(text)


def test_one_of_three() -> None:
    """Exactly one way to say when: a bare number is epoch seconds in --when."""
    now = datetime.now(UTC)
    for given_ in ((None, None, None), ("10", "17:30", None)):
        in_, at, when = given_
        with pytest.raises(SettingsError, match="with one of"):
            moments.expression(in_=in_, at=at, when=when, now=now)
    assert moments.expression(in_=None, at=None, when="1763871234", now=now) == "1763871234"


@pytest.mark.parametrize("name", ["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe"])
def test_clocks_of_this_machine(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a zone it is the same as with that of this machine, where clocks change too."""
    zone, now = ZoneInfo(name), datetime(2027, 1, 1, tzinfo=UTC)
    with monkeypatch.context() as patched:
        patched.setenv("TZ", name)
        time.tzset()
        try:
            for minutes in range(0, 365 * 24 * 60, 30):
                text = f"{datetime(2027, 1, 2) + timedelta(minutes=minutes):%Y-%m-%d %H:%M}"  # noqa: DTZ001
                meant = moments.moment_at(text, now, zone)
                assert moments.moment_at(text, now).astimezone(UTC) == meant.astimezone(UTC), text
        finally:
            patched.undo()
            time.tzset()


@given(st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1), timezones=st.sampled_from(ZONES)))  # noqa: DTZ001
def test_at_as_an_expression(moment: datetime) -> None:
    """What --at means reads as the same moment in the grammar of Gozo-When."""
    text = moment.replace(microsecond=0).isoformat()
    said = moments.expression(in_=None, at=text, when=None, now=datetime.now(UTC), zone=BERLIN)
    found = grammar.parse(said)
    assert isinstance(found, grammar.At)
    assert found.us == int(moment.replace(microsecond=0).timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0s"),
        (0.9, "0s"),
        (12, "12s"),
        (60, "1min"),
        (3_720, "1h 2min"),
        (3_605, "1h"),
        (86_400, "1d"),
        (90_000, "1d 1h"),
        (86_460, "1d"),
    ],
)
def test_spans(seconds: float, words: str) -> None:
    """The two largest units, without those that are zero."""
    assert times.span(timedelta(seconds=seconds)) == words


def test_left() -> None:
    """What is to come is in some time, what was is ago."""
    now = datetime.now(UTC)
    assert times.left(now + timedelta(minutes=3), now) == "in 3min"
    assert times.left(now - timedelta(seconds=5), now) == "5s ago"


def test_the_last_moment() -> None:
    """Where it is the year 10000 by then, the end of 9999 is shown as it is in UTC."""
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert times.local(last, with_zone=True, zone=BERLIN) == "Fri 9999-12-31 23:59:59 UTC"
    assert times.local(last, zone=ZONES[2]) == "Fri 9999-12-31 20:29:59"
