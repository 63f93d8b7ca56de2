"""What callers give becomes the headers of a request."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from gozo.client import ScheduleOptions
from gozo.client.arguments import spec_headers
from gozo.client.confirming import NAMES


def test_each_option_of_the_spec_has_its_header() -> None:
    """Moments, delays and lengths of time as the protocol writes them; no option is forgotten."""
    options: ScheduleOptions = {
        "time_zone": "Europe/Malta",
        "start": datetime(2026, 12, 24, 18, tzinfo=UTC),
        "until": timedelta(days=30),
        "count": 5,
        "jitter": timedelta(seconds=2.5),
        "misfire": "skip",
        "misfire_grace": "1h",
    }
    assert {*options, *NAMES} == ScheduleOptions.__annotations__.keys()
    assert spec_headers(options) == {
        "Gozo-Time-Zone": "Europe/Malta",
        "Gozo-Start": "1798135200",
        "Gozo-Until": "+2592000",
        "Gozo-Count": "5",
        "Gozo-Jitter": "2.5s",
        "Gozo-Misfire": "skip",
        "Gozo-Misfire-Grace": "1h",
    }


def test_what_is_not_given_has_no_header() -> None:
    """None and a count of 0 are the same as leaving the option out."""
    assert spec_headers({"time_zone": None, "start": None, "count": 0, "jitter": None}) == {}
