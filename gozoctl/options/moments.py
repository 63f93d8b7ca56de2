"""Times as people write them: `--in`, `--at`, `--when`, `--cron` and `--every`. Pure.

    --in 10, --in 1h30m                     from now on; a bare number is seconds
    --at 17:30                              the next time that the clock shows it
    --at 'tomorrow 9am', --in '2 hours'     what `gozoctl.options.phrases` reads
    --at '2026-12-24 18:00'                 local time
    --at 2026-12-24T18:00:00+01:00          RFC 3339
    --when EXPR                             what `gozo.schedule.expression` reads
    --cron '0 2 * * mon-fri', --every 15m   the recurring ones of these

When the clocks go forward, a time that they skip moves on by as much: half past two becomes half
past three. When they go back, a time that they repeat means the first, unless that has passed.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta, tzinfo

from gozo.errors import GozoError, RequestError, SettingsError, invalid_value
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
_HEADERS = re.compile(
    r"Gozo-(When|Time-Zone|Start|Until|Count|Jitter|Misfire-Grace|Misfire|Id|Confirm|Attempts"
    r"|Ack-Wait|Backoff|Max-Age|Overlap|Dead-Letter|TTL|Keep-Output|Expect)\b"
)
_CONFIRM = re.compile(r"'Gozo-Confirm: (stream|reply|claim)'")
_CONFIRMING = "--confirm, --confirm-reply or --confirm-claim"
WAYS = ("--in", "--at", "--when", "--cron", "--every")
"""The options that give the due time."""
_BEYOND = "lies beyond the year 9999"
_DAY = timedelta(days=1)
_FIELDS = (5, 6)  # of a cron expression


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
    """Return the one time that was given as an expression of `Gozo-When`.

    Raises:
        SettingsError: none or several were given, or the one is invalid.
    """
    given = [text for text in (in_, at, when, cron, every) if text is not None]
    if len(given) != 1:
        raise SettingsError(f"give the due time with one of {', '.join(ways[:-1])} and {ways[-1]}")
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
        SettingsError: it is invalid.
    """
    plain = f"+{text.removeprefix('+')}"
    try:
        grammar.parse(plain)
    except RequestError as error:
        phrase = phrases.read_delay(text)
        if _BEYOND in str(error):
            raise _invalid("--in", text, f"it {_BEYOND}; expected less") from error
        if phrase is None:
            raise _invalid("--in", text, _delay_cure(text)) from error
        plain = f"+{phrase.text}"
        _parse(plain, "--in")
    return plain


def is_phrase(text: str, option: str) -> bool:
    """Return whether a text is a phrase, whose meaning is worth showing."""
    if option == "--in":
        return f"+{text.removeprefix('+')}" != delay(text)
    return option == "--at" and not _CLOCK.match(text) and _point_or_delay(text) is not None


def is_doubtful(text: str, due: datetime, zone: tzinfo | None) -> bool:
    """Return whether a text is a local time that the clocks skip or repeat."""
    if not _CLOCK.match(text) and not _LOCAL.match(text):
        return False
    here = due.astimezone(zone)
    hour, minute = text.replace("T", " ").rpartition(" ")[2].split(":")[:2]
    if (here.hour, here.minute) != (int(hour), int(minute)):
        return True
    offsets = {_aware(here.replace(tzinfo=None, fold=fold), zone).utcoffset() for fold in (0, 1)}
    return len(offsets) > 1


def goes_on(text: str, word: str) -> bool:
    """Return whether a word continues a phrase, as in `--at tomorrow 9am` without quotes."""
    whole = phrases.read(f"{text} {word}")
    return whole is not None and whole != phrases.read(text)


def length(text: str, option: str, *, zero_ok: bool = False) -> float:
    """Return the length of time that an option gives, in seconds.

    Raises:
        SettingsError: it is invalid, or 0 without `zero_ok`.
    """
    try:
        when = grammar.parse(f"+{text}")
    except RequestError:
        when = None
    if not isinstance(when, grammar.After) or not (when.us or zero_ok):
        above = "" if zero_ok else " above 0"
        raise _invalid(option, text, f"expected seconds (10) or a duration (1h30m){above}")
    return when.us / MICROSECONDS


def interval(text: str) -> str:
    """Return the text of `--every` as an expression.

    Raises:
        SettingsError: it is invalid.
    """
    if (phrase := phrases.read_delay(text)) is not None:
        text = phrase.text
    try:
        grammar.parse(f"@every {text}")
    except RequestError as error:
        cure = phrases.hint(text) or "expected 10ms or more, such as 90s or 1h30m"
        raise _invalid("--every", text, cure) from error
    return f"@every {text}"


def moment_at(
    text: str, now: datetime, zone: tzinfo | None = None, option: str = "--at"
) -> datetime:
    """Return the moment that `--at` means, in the zone in which it was given.

    `zone` is the local one; None means this machine's. Messages name `option`.

    Raises:
        SettingsError: it is invalid, or the local zone is unknown.
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
    """Return the moment that another option means: written as for `--at`, or an expression.

    Raises:
        SettingsError: it is invalid.
    """
    phrase = _point_or_delay(text)
    if isinstance(phrase, Point) and phrase.clock is None:
        raise _invalid(option, text, f"add a time of day: '{text} 00:00'")
    if _LOCAL.match(text) or phrase is not None:
        return moment_at(text, now, zone, option)
    try:
        when = grammar.parse(text)
    except RequestError as error:
        raise _no_time(text, option) from error
    if not isinstance(when, grammar.Moment):
        raise _invalid(option, text, "it recurs; expected a time, or a delay such as +1h")
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
    """Return the next moment at which the clock shows a time."""
    for days in range(3):
        found = _first_after(now, datetime.combine(today, clock) + days * _DAY, zone)
        if found.astimezone(UTC) > now.astimezone(UTC):
            return found
    raise AssertionError  # clocks never skip a whole day


def _first_after(now: datetime, naive: datetime, zone: tzinfo | None) -> datetime:
    """Return the moment of a local time: of two the first, unless that has passed."""
    first = _aware(naive.replace(fold=0), zone)
    # In UTC: within one zone, Python compares wall-clock times.
    if first.astimezone(UTC) > now.astimezone(UTC):
        return first
    return max(first, _aware(naive.replace(fold=1), zone), key=lambda one: one.astimezone(UTC))


def _aware(naive: datetime, zone: tzinfo | None) -> datetime:
    """Give a local time its offset; one that the clocks skip moves on.

    Raises:
        LocalZoneError: `zone` is None, and this machine's is unknown.
    """
    if zone is None:
        tz.check()
        # naive.astimezone() moves a skipped time back instead (CPython 3.11).
        return datetime.fromtimestamp(naive.timestamp(), UTC).astimezone()
    return naive.replace(tzinfo=zone).astimezone(UTC).astimezone(zone)


def _parse(text: str, option: str) -> grammar.When:
    try:
        return grammar.parse(text)
    except RequestError as error:
        raise SettingsError(in_options(str(error), option)) from error


def in_options(words: str, when: str) -> str:
    """Replace header names in a sentence by options; `when` is the one that gave the time."""

    def option(header: re.Match[str]) -> str:
        return when if header[1] == "When" else f"--{header[1].lower()}"

    words = words.replace("needs Gozo-Confirm: add it", f"needs {_CONFIRMING}: add one")
    words = _CONFIRM.sub(r"--confirm-\1", words).replace("--confirm-stream", "--confirm")
    return _HEADERS.sub(option, words)


def _cron(text: str) -> str:
    if text == "@reboot":
        cure = "gozo does not see machines start; run `gozoctl create ID SUBJECT --in 0` at boot"
        raise _invalid("--cron", text, cure)
    try:
        when: object = grammar.parse(text)
    except RequestError as error:
        if len(text.split()) in _FIELDS:  # it names the field
            raise SettingsError(in_options(str(error), "--cron")) from error
        when = None
    if not isinstance(when, Cron):
        raise _invalid(
            "--cron",
            text,
            "expected five fields, such as '0 2 * * mon-fri', six with seconds first, or a name "
            "such as @daily",
        )
    return text


def _delay_cure(text: str) -> str:
    if (known := phrases.hint(text)) and phrases.read(text) is None:
        return known
    if _CLOCK.match(text) or _LOCAL.match(text) or phrases.read(text) is not None:
        return f"this is a time: use --at {text!r}"
    return "expected seconds (10) or a duration (1h30m, '2 hours')"


def _no_time(text: str, option: str) -> SettingsError:
    cure = phrases.hint(text) or (
        "expected 17:30, 'tomorrow 9am', '2026-12-24 18:00' (local time), "
        "2026-12-24T18:00:00+01:00 or a delay such as +1h30m"
    )
    return _invalid(option, text, cure)


def _invalid(option: str, text: str, problem: str) -> SettingsError:
    return SettingsError(invalid_value(option, text, problem))
