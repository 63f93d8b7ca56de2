"""`gozo.client` stores and reads recurring schedules: the same with a daemon and without one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from gozo.client import Client, next_times
from gozo.errors import NoServerError, RequestError
from tests.support.places import LATER, Place

MALTA = ZoneInfo("Europe/Malta")
START = datetime(2099, 3, 27, 12, tzinfo=UTC)


async def test_a_cron_expression(client: Client, new: str) -> None:
    """All that was asked for is read back; the next times are those of the zone's clocks."""
    stored = await client.schedule(
        "to",
        b"p",
        when="0 2 * * mon-fri",
        id=new,
        time_zone="Europe/Malta",
        start=START,
        until="2099-12-24T18:00:00+01:00",
        count=4,
        jitter=timedelta(seconds=30),
        misfire="all",
        misfire_grace="5m",
    )
    found = await client.get(new)
    assert found is not None
    assert stored.due == found.due == datetime(2099, 3, 30, 2, tzinfo=MALTA)
    assert (found.when, found.recurs) == ("0 2 * * mon-fri", True)
    assert (found.start, found.until) == (START, datetime(2099, 12, 24, 17, tzinfo=UTC))
    assert (found.remaining, found.last) == (4, None)
    assert found.spec is not None
    assert (found.spec.zone, found.spec.jitter_us) == ("Europe/Malta", 30_000_000)
    assert (found.spec.misfire, found.spec.grace_us) == ("all", 300_000_000)
    days = [moment.astimezone(MALTA) for moment in next_times(found, datetime.now(UTC))]
    assert [(day.day, day.hour) for day in days] == [(30, 2), (31, 2), (1, 2), (2, 2)]
    await client.cancel(new)


async def test_an_interval(client: Client, new: str) -> None:
    """An interval counts from when it is asked for, and goes on without end."""
    before = datetime.now(UTC)
    await client.schedule("to", when="@every 1h30m", id=new)
    found = await client.get(new)
    assert found is not None
    assert (found.recurs, found.remaining, found.until) == (True, None, None)
    assert timedelta(0) <= found.due - before - timedelta(minutes=90) < timedelta(seconds=30)
    following = list(islice(next_times(found, found.due + timedelta(minutes=1)), 3))
    assert following == [found.due + timedelta(minutes=90 * number) for number in (1, 2, 3)]
    await client.cancel(new)


async def test_relative_terms(client: Client, place: Place, new: str) -> None:
    """Delays count from when the request is taken; the daemon takes a request's terms too."""
    before = datetime.now(UTC)
    wanted = {"start": timedelta(days=1), "until": "+3d"}
    if place.daemon:
        stored = await client.request("to", when="@daily", id=new, receipt=True, **wanted)  # type: ignore[arg-type]
        assert stored is not None
    else:
        with pytest.raises(NoServerError):
            await client.request("to", when="@daily", id=new, receipt=True, **wanted)  # type: ignore[arg-type]
        stored = await client.schedule("to", when="@daily", id=new, **wanted)  # type: ignore[arg-type]
    found = await client.get(new)
    assert found is not None
    assert found.start is not None
    assert found.until is not None
    assert timedelta(0) <= found.start - before - timedelta(days=1) < timedelta(seconds=30)
    assert found.until - found.start == timedelta(days=2)
    assert (stored.due >= found.start, stored.due.hour) == (True, 0)
    await client.cancel(new)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"when": "@every 1s", "id": None}, "needs Gozo-Id"),
        (
            {"when": "@daily", "time_zone": "Europe/Valletta"},
            "invalid Gozo-Time-Zone",
        ),
        ({"when": "@daily", "time_zone": "UTC\r\nX: y"}, "invalid Gozo-Time-Zone"),
        ({"when": LATER, "time_zone": "UTC"}, "cron expressions only"),
        ({"when": LATER, "count": 3}, "recurring schedules only"),
        ({"when": "@daily", "jitter": "long"}, "Gozo-Jitter 'long'"),
        ({"when": "@daily", "jitter": timedelta(seconds=-90)}, "Gozo-Jitter '-90s'"),
        ({"when": "@daily", "misfire_grace": timedelta(-1)}, "Gozo-Misfire-Grace '-86400s'"),
        ({"when": "@daily", "misfire": "never"}, "expected once, all or skip"),
        ({"when": "@daily", "start": datetime(2099, 1, 1)}, "expected one with a time zone"),  # noqa: DTZ001
        ({"when": "@daily", "until": "tomorrow"}, "invalid Gozo-Until 'tomorrow': expected"),
        ({"when": "61 * * * *"}, "minute"),
    ],
)
async def test_what_is_refused(client: Client, given: dict[str, object], words: str) -> None:
    """It is refused before anything is sent, and the sentence names the value."""
    for attempt in (client.schedule, client.request):
        with pytest.raises(RequestError, match=words):
            await attempt("to", **{"id": "a", **given})  # type: ignore[arg-type]
    assert await client.get("a") is None
