"""Formats times and spans for people and programs. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from gozo.schedule.model import MICROSECONDS

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEAR = timedelta(days=300)
"""Within this, month and day identify a date."""
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def span(length: timedelta) -> str:
    """Format a length of time in its two largest units: `2d 3h`, `1h 2min`, `12s`."""
    seconds = int(abs(length).total_seconds())
    parts: list[str] = []
    for unit, size in _UNITS:
        count, seconds = divmod(seconds, size)
        if count or parts:
            parts.append(f"{count}{unit}" if count else "")
        if len(parts) == 2:  # noqa: PLR2004  # the two largest
            break
    return " ".join(part for part in parts if part) or "0s"


def left(due: datetime, now: datetime) -> str:
    """Format how far away a moment is: `in 1h 2min`, `5s ago`."""
    return f"in {span(due - now)}" if due >= now else f"{span(now - due)} ago"


def ago(moment: datetime, now: datetime) -> str:
    """Format how long ago a moment was, in its largest unit: `17h ago`."""
    return f"{span(max(now - moment, timedelta())).partition(' ')[0]} ago"


def utc(moment: datetime) -> str:
    """Format a moment as RFC 3339, in UTC and to the millisecond."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def epoch(moment: datetime) -> float:
    """Return a moment as seconds since 1970."""
    since = moment - EPOCH
    return since.days * 86_400 + since.seconds + since.microseconds / MICROSECONDS


def local(moment: datetime, *, with_zone: bool = False, zone: tzinfo | None = None) -> str:
    """Format a moment for people, in a time zone or else in local time."""
    here = _shown(moment, zone)
    return f"{here:%a %Y-%m-%d %H:%M:%S}" + (f" {here:%Z}" if with_zone else "")


def clock(moment: datetime) -> str:
    """Format the local time of day, to the millisecond."""
    return f"{_shown(moment, None):%H:%M:%S.%f}"[:-3]


def local_short(moment: datetime, now: datetime) -> str:
    """Format a moment in local time, in eleven characters: `11-26 02:00`."""
    here = _shown(moment, None)
    return f"{here:%m-%d %H:%M}" if abs(moment - now) < _NEAR else f"{here:%Y-%m-%d}"


def _shown(moment: datetime, zone: tzinfo | None) -> datetime:
    """Convert a moment to a time zone; leave it as it is if it is after the year 9999 there."""
    try:
        return moment.astimezone(zone)
    except OverflowError:
        return moment
