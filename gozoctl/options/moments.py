"""Times as people give them: `--in`, `--at`, `--when`, `--cron` and `--every`. Pure.

    --in 10, --in 1h30m                     from now on; a bare number is seconds
    --at 17:30                              the next time that a clock shows it
    --at 'tomorrow 9am', --in '2 hours'     what `gozoctl.options.phrases` reads
    --at '2026-12-24 18:00'                 local time
    --at 2026-12-24T18:00:00+01:00          RFC 3339
    --when EXPR                             what `gozo.schedule.expression` reads
    --cron '0 2 * * mon-fri', --every 15m   of that, what recurs

Where clocks are put forward, a time that is left out means as much later as they are put: half
past two is half past three then. Where they are put back, a time that comes twice means the
first, unless that has passed.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from gozo.errors import GozoError, RequestError, SettingsError
from gozo.schedule import expression as grammar
from gozo.schedule.cron import Cron
from gozo.schedule.model import MICROSECONDS
from gozoctl.options import phrases
from gozoctl.options.phrases import Delay, Point
from gozoctl.output import tz
from gozoctl.output.times import EPOCH

_CLOCK = re.compile(r"[0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?\Z", re.ASCII)
_LOCAL = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[ T]([0-9]{2}):([0-9]{2})(?::([0-9]{2}))?\Z", re.ASCII
)
_HEADER = "Gozo-When"
_HEADERS = re.compile(
    r"Gozo-(When|Time-Zone|Start|Until|Count|Jitter|Misfire-Grace|Misfire|Id|Confirm|Attempts)\b"
)
WAYS = ("--in", "--at", "--when", "--cron", "--every")
"""The options that say when something is due."""
_BEYOND = "lies beyond the year 9999"
_DAY = timedelta(days=1)


def expression(
    *,
    in_: str | None,
    at: str | None,
    when: str | None,
    now: datetime,
    cron: str | None = None,
    every: str | None = None,
    zone: tzinfo | None = None,
    ways: tuple[str, ...] = WAYS,
) -> str:
    """Return what was given, exactly one of them, as an expression of `Gozo-When`.

    Raises:
        SettingsError: none was given, or more than one, or it cannot be read.
    """
    given = [text for text in (in_, at, when, cron, every) if text is not None]
    if len(given) != 1:
        raise SettingsError(
            f"give one of {', '.join(ways[:-1])} and {ways[-1]}, to say when it is due"
        )
    if in_ is not None:
        return delay(in_)
    if at is not None:
        phrase = _point_or_delay(at)
        if isinstance(phrase, Delay):
            return f"+{phrase.text}"
        return moment_at(at, now, zone).isoformat()
    if every is not None:
        return interval(every)
    if cron is not None:
        return _cron(cron)
    assert when is not None
    _parse(when, "--when")
    return when


def delay(text: str) -> str:
    """Return the text of `--in` as an expression.

    Raises:
        SettingsError: it is no delay.
    """
    plain = f"+{text.removeprefix('+')}"
    try:
        grammar.parse(plain)
    except RequestError as error:
        phrase = phrases.read_delay(text)
        if _BEYOND in str(error):
            raise SettingsError(f"--in {text!r} {_BEYOND}: give less") from error
        if phrase is None:
            raise SettingsError(f"--in {text!r} is no delay: {_delay_cure(text)}") from error
        plain = f"+{phrase.text}"
        _parse(plain, "--in")
    return plain


def is_phrase(text: str, option: str) -> bool:
    """Tell whether a text is one that people say, and whose meaning is to be shown."""
    if option == "--in":
        return f"+{text.removeprefix('+')}" != delay(text)
    return option == "--at" and not _CLOCK.match(text) and _point_or_delay(text) is not None


def is_doubtful(text: str, due: datetime, zone: tzinfo | None) -> bool:
    """Tell whether a text is a local time that clocks leave out, or show twice."""
    if not _CLOCK.match(text) and not _LOCAL.match(text):
        return False
    here = due.astimezone(zone)
    hour, minute = text.replace("T", " ").rpartition(" ")[2].split(":")[:2]
    if (here.hour, here.minute) != (int(hour), int(minute)):
        return True
    offsets = {_aware(here.replace(tzinfo=None, fold=fold), zone).utcoffset() for fold in (0, 1)}
    return len(offsets) > 1


def goes_on(text: str, word: str) -> bool:
    """Tell whether a word belongs to a phrase, as in `--at tomorrow 9am` without quotes."""
    whole = phrases.read(f"{text} {word}")
    return whole is not None and whole != phrases.read(text)


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
    if (phrase := phrases.read_delay(text)) is not None:
        text = phrase.text
    try:
        grammar.parse(f"@every {text}")
    except RequestError as error:
        cure = phrases.hint(text) or "give 10ms or more, such as 90s, or 1h30m"
        raise SettingsError(f"--every {text!r} is no interval: {cure}") from error
    return f"@every {text}"


def moment_at(
    text: str, now: datetime, zone: tzinfo | None = None, option: str = "--at"
) -> datetime:
    """Return the moment that `--at` means, in the zone in which it was given.

    `zone` is the local one; None means this machine's. `option` is what messages name.

    Raises:
        SettingsError: it is no time, or the local zone is not known.
    """
    try:
        if match := _LOCAL.match(text):
            year, month, day, hour, minute, second = (int(part or 0) for part in match.groups())
            naive = datetime(year, month, day, hour, minute, second)  # noqa: DTZ001
            return _first_after(now, naive, zone)
        match phrases.read(text):
            case Delay(length):
                found = grammar.parse(f"+{length}")
                assert isinstance(found, grammar.After)
                return (now + timedelta(microseconds=found.us)).astimezone(zone)
            case Point() as point:
                return _of_point(point, now, zone)
        if isinstance(found := grammar.parse(text), grammar.At) and "-" in text:
            return (EPOCH + timedelta(microseconds=found.us)).astimezone(zone)
    except tz.LocalZoneError:
        raise
    except (ValueError, OverflowError, GozoError) as error:
        raise _no_time(text, option) from error
    raise _no_time(text, option)


def moment(text: str, now: datetime, option: str, zone: tzinfo | None = None) -> datetime:
    """Return the moment that an option which compares times means: as `--at`, or an expression.

    Raises:
        SettingsError: it is no time.
    """
    phrase = _point_or_delay(text)
    if isinstance(phrase, Point) and phrase.clock is None:
        raise SettingsError(f"{option} {text!r} is a whole day: give a time too, '{text} 00:00'")
    if _LOCAL.match(text) or phrase is not None:
        return moment_at(text, now, zone, option)
    try:
        when = grammar.parse(text)
    except RequestError as error:
        raise _no_time(text, option) from error
    if not isinstance(when, grammar.Moment):
        raise SettingsError(f"{option} {text!r} is no moment: give one, or a delay such as +1h")
    us = grammar.first_due(when, 0)
    if text.startswith("+"):
        return now + timedelta(microseconds=us)
    return EPOCH + timedelta(microseconds=us)


def _point_or_delay(text: str) -> Point | Delay | None:
    return None if _LOCAL.match(text) else phrases.read(text)


def _of_point(point: Point, now: datetime, zone: tzinfo | None) -> datetime:
    here = now.astimezone(zone)
    clock = here.time().replace(microsecond=0, fold=0) if point.clock is None else point.clock
    day = point.day(here.date())
    if day is not None:
        return _first_after(now, datetime.combine(day, clock), zone)
    return _next(now, zone, here.date(), clock)


def _next(now: datetime, zone: tzinfo | None, today: date, clock: time) -> datetime:
    """Return the next moment at which a clock shows a time."""
    for days in range(3):
        found = _first_after(now, datetime.combine(today, clock) + days * _DAY, zone)
        if found.astimezone(UTC) > now.astimezone(UTC):
            return found
    raise AssertionError  # clocks are never put on by a day


def _first_after(now: datetime, naive: datetime, zone: tzinfo | None) -> datetime:
    """Return what a local time means: of two moments the first, unless that has passed."""
    first = _aware(naive.replace(fold=0), zone)
    # In UTC: within one zone, Python compares what clocks show.
    if first.astimezone(UTC) > now.astimezone(UTC):
        return first
    return max(first, _aware(naive.replace(fold=1), zone), key=lambda one: one.astimezone(UTC))


def _aware(naive: datetime, zone: tzinfo | None) -> datetime:
    """Give a local time its offset; one that clocks leave out is moved on.

    Raises:
        LocalZoneError: `zone` is None, and this machine's is not known.
    """
    if zone is None:
        tz.check()
        # Not naive.astimezone(), which moves it back (CPython 3.11).
        return datetime.fromtimestamp(naive.timestamp(), UTC).astimezone()
    return naive.replace(tzinfo=zone).astimezone(UTC).astimezone(zone)


def _parse(text: str, option: str) -> grammar.When:
    try:
        return grammar.parse(text)
    except RequestError as error:
        raise SettingsError(told(error, option, text)) from error


def told(error: RequestError, option: str, text: str) -> str:
    """Write an error about a text with the option that it was given with."""
    words = str(error)
    if words.startswith(_HEADER):
        return in_options(words, option)
    if words.startswith(repr(text)):
        return in_options(f"{option} {words}", option)
    return in_options(f"{option} {text!r}: {words}", option)


def in_options(words: str, when: str) -> str:
    """Name options where a sentence names headers; `when` is what said the time."""

    def option(header: re.Match[str]) -> str:
        return when if header[1] == "When" else f"--{header[1].lower()}"

    return _HEADERS.sub(option, words)


def _cron(text: str) -> str:
    if text == "@reboot":
        raise SettingsError(
            "--cron '@reboot' is no time, but the start of a machine: have that run "
            "`gozoctl create ID SUBJECT --in 0`"
        )
    try:
        when: object = grammar.parse(text)
    except RequestError as error:
        if not str(error).startswith(_HEADER):  # it names the field
            raise SettingsError(told(error, "--cron", text)) from error
        when = None
    if not isinstance(when, Cron):
        raise SettingsError(
            f"--cron {text!r} is no cron expression: give five fields, such as "
            "'0 2 * * mon-fri', six with seconds first, or a name such as @daily"
        )
    return text


def _delay_cure(text: str) -> str:
    if (known := phrases.hint(text)) and phrases.read(text) is None:
        return known
    if _CLOCK.match(text) or _LOCAL.match(text) or phrases.read(text) is not None:
        return f"it is a time: give --at {text!r}"
    return "give seconds, such as 10, or a duration, such as 1h30m or '2 hours'"


def _no_time(text: str, option: str) -> SettingsError:
    cure = phrases.hint(text) or (
        "give 17:30, 'tomorrow 9am', '2026-12-24 18:00' (local time), "
        "2026-12-24T18:00:00+01:00, or a delay such as +1h30m"
    )
    return SettingsError(f"{option} {text!r} is no time: {cure}")
