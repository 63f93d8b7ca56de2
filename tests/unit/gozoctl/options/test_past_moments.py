"""Moments that have passed: what `--since` and `--until` of `gozoctl history` mean."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from gozo.errors import SettingsError
from gozoctl.options import past_moments as bygone

BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime.fromisoformat("2026-11-25T12:00:00+01:00")  # a Wednesday


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2h", "2026-11-25T10:00:00+01:00"),
        ("-2h", "2026-11-25T10:00:00+01:00"),
        ("2h ago", "2026-11-25T10:00:00+01:00"),
        ("1h30m", "2026-11-25T10:30:00+01:00"),
        ("2 hours ago", "2026-11-25T10:00:00+01:00"),
        ("500ms", "2026-11-25T11:59:59.5+01:00"),
        ("3d", "2026-11-22T12:00:00+01:00"),
        ("now", "2026-11-25T12:00:00+01:00"),
        ("9:30", "2026-11-25T09:30:00+01:00"),
        ("9am", "2026-11-25T09:00:00+01:00"),
        ("today", "2026-11-25T00:00:00+01:00"),
        ("today 9am", "2026-11-25T09:00:00+01:00"),
        ("yesterday", "2026-11-24T00:00:00+01:00"),
        ("Yesterday 17:30", "2026-11-24T17:30:00+01:00"),
        ("17:30 yesterday", "2026-11-24T17:30:00+01:00"),
        ("monday", "2026-11-23T00:00:00+01:00"),
        ("friday noon", "2026-11-20T12:00:00+01:00"),
        ("wednesday", "2026-11-25T00:00:00+01:00"),
        ("2026-11-20", "2026-11-20T00:00:00+01:00"),
        ("2026-11-20 9am", "2026-11-20T09:00:00+01:00"),
        ("2026-11-20 18:00", "2026-11-20T18:00:00+01:00"),
        ("2026-07-20 18:00", "2026-07-20T18:00:00+02:00"),
        ("2026-11-20T18:00:00Z", "2026-11-20T18:00:00+00:00"),
        # It comes twice on this day: nothing of the hour is left out.
        ("2026-10-25 02:30", "2026-10-25T02:30:00+02:00"),
    ],
)
def test_since(text: str, meant: str) -> None:
    """A length is so long ago; a day begins at midnight; a time of day is today's."""
    assert bygone.since(text, NOW, BERLIN).astimezone(UTC) == datetime.fromisoformat(meant)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("17:30", "invalid --since '17:30': it is in the future; expected"),
        ("tomorrow 9am", "is in the future"),
        ("2027-01-01", "is in the future"),
        ("+2h", "is in the future"),
        ("in 2h", "is in the future"),
        ("next friday", "invalid|is in the future"),
        ("30", "'30': add a unit: 30s"),
        ("-30", "add a unit: 30s"),
        ("1764460000", "add a unit"),
        ("", r"'': expected 2h \(two hours ago\)"),
        ("nonsense", "expected 2h"),
        ("yesterday nonsense", "invalid --since"),
        ("yesterday yesterday", "invalid --since"),
        ("2026-02-30", "invalid --since"),
        ("25:00", "invalid --since"),
        ("9999999w", "invalid --since"),
        ("3 months", "months and years vary in length"),
        ("24.11.2026", "write dates as 2026-12-24"),
        ("@daily", "invalid --since"),
    ],
)
def test_refused(text: str, said: str) -> None:
    """What is none, or has not passed, is answered with what to give."""
    with pytest.raises(SettingsError, match=said):
        bygone.since(text, NOW, BERLIN)


def test_until_may_lie_ahead() -> None:
    """The end of a day that is not over yet is an end as well."""
    found = bygone.moment("2026-11-25 23:59", NOW, "--until", BERLIN)
    assert found == datetime.fromisoformat("2026-11-25T23:59:00+01:00")
