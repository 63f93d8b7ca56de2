"""Times and spans as people and programs read them. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

from gozo.schedule.model import MICROSECONDS

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEAR = timedelta(days=300)
"""Within this, a month and a day are enough to name a date."""
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def span(length: timedelta) -> str:
    """Write a length of time in its two largest units: `2d 3h`, `1h 2min`, `12s`."""
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
    """Write how far away a moment is: `in 1h 2min`, `5s ago`."""
    return f"in {span(due - now)}" if due >= now else f"{span(now - due)} ago"


def ago(moment: datetime, now: datetime) -> str:
    """Write how long ago a moment was, in its largest unit: `17h ago`."""
    return f"{span(max(now - moment, timedelta())).partition(' ')[0]} ago"


def utc(moment: datetime) -> str:
    """Write a moment as RFC 3339 does, in UTC and to the millisecond."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


def epoch(moment: datetime) -> float:
    """Return a moment as seconds since 1970."""
    since = moment - EPOCH
    return since.days * 86_400 + since.seconds + since.microseconds / MICROSECONDS


def local(moment: datetime, *, with_zone: bool = False, zone: tzinfo | None = None) -> str:
    """Write a moment as people of a place read it; without a zone, of this one."""
    here = _shown(moment, zone)
    return f"{here:%a %Y-%m-%d %H:%M:%S}" + (f" {here:%Z}" if with_zone else "")


def clock(moment: datetime) -> str:
    """Write the time of day as clocks of this place show it, to the millisecond."""
    return f"{_shown(moment, None):%H:%M:%S.%f}"[:-3]


def local_short(moment: datetime, now: datetime) -> str:
    """Write a moment as people of this place read it, in eleven characters: `11-26 02:00`."""
    here = _shown(moment, None)
    return f"{here:%m-%d %H:%M}" if abs(moment - now) < _NEAR else f"{here:%Y-%m-%d}"


def _shown(moment: datetime, zone: tzinfo | None) -> datetime:
    """Return a moment as clocks of a place show it; after the year 9999 there, as it is."""
    try:
        return moment.astimezone(zone)
    except OverflowError:
        return moment
