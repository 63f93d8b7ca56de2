"""Past moments, as `--since` and `--until` of `gozoctl history` read them. Pure.

2h, 1h30m, '2 hours', '2h ago'              that long ago
17:30, 9am, 'today 9am'                     today
yesterday, monday, 2026-12-24               the start of that day
'yesterday 17:30', 'monday 9am'             on that day; a weekday is the last one, or today
'2026-12-24 18:00'                          local time
2026-12-24T18:00:00+01:00                   RFC 3339
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta, tzinfo

from gozo.errors import RequestError, SettingsError, invalid_value
from gozo.schedule import expression as grammar
from gozoctl.options import moments, phrases
from gozoctl.options.phrases import Point
from gozoctl.output.tz import LocalZoneError

_DAYS_AGO = {"today": 0, "yesterday": 1}
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?\Z", re.ASCII)
_WEEK = 7  # days
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def since(text: str, now: datetime, zone: tzinfo | None = None) -> datetime:
    """Return the moment that `--since` means; `zone` is the local one, None this machine's.

    Raises:
        SettingsError: it is invalid, or in the future.
    """
    found = moment(text, now, "--since", zone)
    if found > now:
        problem = (
            "it is in the future; expected a past time, such as 2h (two hours ago) or "
            "'yesterday 17:30'"
        )
        raise SettingsError(invalid_value("--since", text, problem))
    return found


def moment(text: str, now: datetime, option: str, zone: tzinfo | None = None) -> datetime:
    """Return the moment that an option which looks back means; it may be in the future.

    Raises:
        SettingsError: it is invalid.
    """
    words = " ".join(text.lower().split())
    if _NUMBER.match(words):
        number = words.lstrip("-")
        cure = f"add a unit: {number}s, {number}m or {number}h"
        raise SettingsError(invalid_value(option, text, cure))
    try:
        if (length := _length(words)) is not None:
            return now - length
        day = _day(words, now.astimezone(zone))
        # Seen from 1970, a local time that the clocks repeat means the first.
        from_ = now if day is None and phrases.read(text) is not None else _EPOCH
        return moments.moment_at(day or text, from_, zone, option)
    except LocalZoneError:
        raise
    except (SettingsError, OverflowError) as error:
        cure = phrases.hint(text) or (
            "expected 2h (two hours ago), 17:30, yesterday, '2026-12-24 18:00' (local time) or "
            "2026-12-24T18:00:00+01:00"
        )
        raise SettingsError(invalid_value(option, text, cure)) from error


def _length(words: str) -> timedelta | None:
    """Read how long ago something was; None if the words do not give that."""
    if words.startswith(("+", "in ", "now +", "now+")):
        return None
    plain = words.removeprefix("-").removesuffix(" ago")
    if (phrase := phrases.read_delay(plain)) is not None:
        plain = phrase.text
    try:
        found = grammar.parse(f"+{plain}")
    except RequestError:
        return None
    return timedelta(microseconds=found.us) if isinstance(found, grammar.After) else None


def _day(words: str, here: datetime) -> str | None:
    """Return the local time of words that name a day or a time of day; None for others."""
    today = here.date()
    if _DATE.match(words):
        return f"{words} 00:00"
    parts = words.split(" ")
    for name in (parts[0], parts[-1]):
        if name in _DAYS_AGO:
            parts.remove(name)
            point = phrases.read(" ".join(parts)) if parts else Point(time(0))
            if not isinstance(point, Point) or point.day(today) is not None:
                return None
            return _at(today - timedelta(_DAYS_AGO[name]), point.clock)
    point = phrases.read(words)
    if not isinstance(point, Point) or "next" in parts:
        return None
    if point.weekday is not None:
        return _at(today - timedelta((today.weekday() - point.weekday) % _WEEK), point.clock)
    if point.ahead is not None or point.on is not None:
        return _at(point.day(today), point.clock)
    return _at(today, point.clock)


def _at(day: object, clock: time | None) -> str:
    return f"{day} {clock or time(0):%H:%M:%S}"
