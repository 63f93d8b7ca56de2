"""Times as people write and read them: `--in`, `--at`, `--when`, and spans in words. Pure.

    --in 10, --in 1h30m                     from now on; a bare number is seconds
    --at 17:30                              the next time that a clock shows it
    --at '2026-12-24 18:00'                 local time
    --at 2026-12-24T18:00:00+01:00          RFC 3339
    --when EXPR                             what `gozo.when` reads
    --cron '0 2 * * mon-fri', --every 15m   of that, what recurs

Where clocks are put forward, a time that is left out means as much later as they are put: half
past two is half past three then. Where they are put back, a time that comes twice means the
first, unless that has passed.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo

from gozo import when as grammar
from gozo.cron import Cron
from gozo.errors import GozoError, RequestError, SettingsError
from gozo.schedule import MICROSECONDS

_CLOCK = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?\Z", re.ASCII)
_LOCAL = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[ T]([0-9]{2}):([0-9]{2})(?::([0-9]{2}))?\Z", re.ASCII
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)
_NEAR = timedelta(days=300)
"""Within this, a month and a day are enough to name a date."""
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def expression(
    *,
    in_: str | None,
    at: str | None,
    when: str | None,
    now: datetime,
    cron: str | None = None,
    every: str | None = None,
    zone: tzinfo | None = None,
) -> str:
    """Return what was given, exactly one of them, as an expression of `Gozo-When`.

    Raises:
        SettingsError: none was given, or more than one, or it cannot be read.
    """
    given = [text for text in (in_, at, when, cron, every) if text is not None]
    if len(given) != 1:
        raise SettingsError(
            "give one of --in, --at, --when, --cron and --every, to say when it is due"
        )
    if in_ is not None:
        return delay(in_)
    if at is not None:
        return moment_at(at, now, zone).isoformat()
    if every is not None:
        return interval(every)
    if cron is not None:
        if not isinstance(_parse(cron, "--cron"), Cron):
            raise SettingsError(
                f"--cron {cron!r} is no cron expression: give five fields, such as "
                "'0 2 * * mon-fri', six with seconds first, or a name such as @daily"
            )
        return cron
    assert when is not None
    _parse(when, "--when")
    return when


def delay(text: str) -> str:
    """Return the text of `--in` as an expression.

    Raises:
        SettingsError: it is no delay.
    """
    try:
        grammar.parse(f"+{text}")
    except RequestError as error:
        raise SettingsError(
            f"--in {text!r} is no delay: give seconds, such as 10, or a duration, such as 1h30m"
        ) from error
    return f"+{text}"


def length(text: str, option: str) -> float:
    """Return a length of time, as the text of an option says it, in seconds.

    Raises:
        SettingsError: it is none, or it is nothing.
    """
    try:
        when = grammar.parse(f"+{text}")
    except RequestError:
        when = None
    if not isinstance(when, grammar.After) or not when.us:
        raise SettingsError(
            f"{option} {text!r} is no length of time: give seconds, such as 10, or a duration, "
            "such as 1h30m"
        )
    return when.us / MICROSECONDS


def interval(text: str) -> str:
    """Return the text of `--every` as an expression.

    Raises:
        SettingsError: it is no interval.
    """
    try:
        grammar.parse(f"@every {text}")
    except RequestError as error:
        raise SettingsError(
            f"--every {text!r} is no interval: give 10ms or more, such as 90s, or 1h30m"
        ) from error
    return f"@every {text}"


def moment_at(text: str, now: datetime, zone: tzinfo | None = None) -> datetime:
    """Return the moment that `--at` means, in the zone in which it was given.

    `zone` is the local one; None means this machine's.

    Raises:
        SettingsError: it is no time.
    """
    try:
        if match := _CLOCK.match(text):
            return _next(now, zone, *(int(part or 0) for part in match.groups()))
        if match := _LOCAL.match(text):
            year, month, day, hour, minute, second = (int(part or 0) for part in match.groups())
            naive = datetime(year, month, day, hour, minute, second)  # noqa: DTZ001
            return _aware(naive, zone)
        if isinstance(found := grammar.parse(text), grammar.At) and "-" in text:
            return (_EPOCH + timedelta(microseconds=found.us)).astimezone(zone)
    except (ValueError, OverflowError, GozoError) as error:
        raise _no_time(text) from error
    raise _no_time(text)


def moment(text: str, now: datetime, option: str, zone: tzinfo | None = None) -> datetime:
    """Return the moment that an option which compares times means: as `--at`, or an expression.

    Raises:
        SettingsError: it is no time.
    """
    if _CLOCK.match(text) or _LOCAL.match(text):
        return moment_at(text, now, zone)
    when = _parse(text, option)
    if not isinstance(when, grammar.Moment):
        raise SettingsError(f"{option} {text!r} is no moment: give one, or a delay such as +1h")
    us = grammar.first_due(when, 0)
    if text.startswith("+"):
        return now + timedelta(microseconds=us)
    return _EPOCH + timedelta(microseconds=us)


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
    since = moment - _EPOCH
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


def _next(now: datetime, zone: tzinfo | None, hour: int, minute: int, second: int) -> datetime:
    today = now.astimezone(zone).replace(
        hour=hour, minute=minute, second=second, microsecond=0, tzinfo=None
    )
    tries = (today.replace(fold=0), today.replace(fold=1), today.replace(fold=0) + _DAY)
    for one in tries:
        found = _aware(one, zone)
        # In UTC: within one zone, Python compares what clocks show.
        if found.astimezone(UTC) > now.astimezone(UTC):
            return found
    return _aware(tries[-1] + _DAY, zone)


def _aware(naive: datetime, zone: tzinfo | None) -> datetime:
    """Give a local time its offset; one that clocks leave out is moved on."""
    if zone is None:
        return naive.astimezone()
    return naive.replace(tzinfo=zone).astimezone(UTC).astimezone(zone)


def _parse(text: str, option: str) -> grammar.When:
    try:
        return grammar.parse(text)
    except RequestError as error:
        raise SettingsError(f"{option}: {error}") from error


def _no_time(text: str) -> SettingsError:
    return SettingsError(
        f"--at {text!r} is no time: give 17:30, '2026-12-24 18:00' (local time), or "
        "2026-12-24T18:00:00+01:00"
    )
