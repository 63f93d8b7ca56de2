"""Logs: events with fields, one line each, on stderr.

    log = get_logger("gozo.delivery")
    log.info("schedule.delivered", id="tea", late_ms=0.4)

    2026-11-23T09:31:33.123Z info schedule.delivered id=tea late_ms=0.4

As JSON, each event is one object, with `time`, `level`, `event` and its fields.
If stderr is connected to the journal (systemd.exec(5), JOURNAL_STREAM), lines have no time, which
the journal adds, and begin with their priority (sd-daemon(3)), which the journal removes.

It uses the standard library's logging, so a program that uses gozo as a library keeps its own
handlers. Text from outside (an id, a subject) is quoted and escaped: it can neither forge a line
nor send an escape sequence to a terminal.

This module does not know which values are secret: callers never pass any.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from io import TextIOBase
from typing import TextIO

LEVELS = ("debug", "info", "warning", "error")
DEFAULT_LEVEL = "info"
FORMATS = ("text", "json")
DEFAULT_FORMAT = "text"

REMINDER = 60.0  # seconds after which a repeated event is written again
ENDED = 10.0  # seconds without the event after which the next one counts as new
MOST_REASONS = 200  # conditions remembered by each logger

_NUMBERS = {level: logging.getLevelNamesMapping()[level.upper()] for level in LEVELS}
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}  # syslog(3)
_FIELDS = "gozo_fields"  # the attribute of a LogRecord that carries an event's fields
_EACH = "gozo_each"  # that for the last field of several events, and its values
_LONG = 1e15  # from here on a float has no meaningful decimals
_PLAIN = re.compile(r'[^\s"=\\]+')  # needs no quotes, as long as it is printable


class EventLogger:
    """Writes the events of one module; costs next to nothing below the level."""

    __slots__ = ("_limits", "_logger", "_repeated")

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)
        self._limits: dict[str, RateLimitedLog] = {}
        self._repeated: dict[tuple[str, object], RepeatedLog] = {}

    def enabled(self, level: int) -> bool:
        """Whether an event of this level (`logging.DEBUG` ...) would be written."""
        return self._logger.isEnabledFor(level)

    def log(self, level: int, event: str, /, **fields: object) -> None:
        """Write an event at a level of the standard library (`logging.INFO` ...)."""
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={_FIELDS: fields})

    def debug(self, event: str, /, **fields: object) -> None:
        """Write an event for debugging: there may be several for each schedule."""
        self.log(logging.DEBUG, event, **fields)

    def info(self, event: str, /, **fields: object) -> None:
        """Write an event that an operator wants to see even when all is well."""
        self.log(logging.INFO, event, **fields)

    def warning(self, event: str, /, **fields: object) -> None:
        """Write an event about a problem despite which gozo continues."""
        self.log(logging.WARNING, event, **fields)

    def error(self, event: str, /, **fields: object) -> None:
        """Write an event about a failure that needs attention."""
        self.log(logging.ERROR, event, **fields)

    def each(
        self, level: str, event: str, field: str, values: Sequence[object], **fields: object
    ) -> None:
        """Write an event at a level (one of `LEVELS`) for each value of its last field, at once.

        For many events at a time, which this makes several times cheaper.
        """
        number = _NUMBERS[level]
        if values and self._logger.isEnabledFor(number):
            extra = {_FIELDS: fields, _EACH: (field, values)}
            self._logger.log(number, event, extra=extra)

    def limited(self, level: str, event: str, /, **fields: object) -> None:
        """Write an event at a level (one of `LEVELS`), at most five a second of each name.

        For events that a client can cause at will; see `RateLimitedLog`.
        """
        limit = self._limits.get(event)
        if limit is None:
            limit = self._limits[event] = RateLimitedLog(self)
        limit.log(_NUMBERS[level], event, **fields)

    def repeated(self, level: str, event: str, /, **fields: object) -> None:
        """Write an event that repeats while a condition lasts; see `RepeatedLog`.

        The event and its field `reason` identify the condition; other fields may change.
        """
        about = (event, fields.get("reason"))
        one = self._repeated.get(about)
        if one is None:
            if len(self._repeated) >= MOST_REASONS:
                self._repeated.clear()
            one = self._repeated[about] = RepeatedLog(self)
        one.log(_NUMBERS[level], event, **fields)

    def exception(self, event: str, /, **fields: object) -> None:
        """Write an error with the traceback of the exception that is being handled.

        The traceback follows on lines that begin with two spaces and a bar.
        """
        self._logger.error(event, exc_info=sys.exc_info(), extra={_FIELDS: fields})


class RateLimitedLog:
    """Lets through the first few events of one kind per interval, and counts the rest.

    The count comes with the next event that passes, as `suppressed=<n>`, or with `flush`.
    """

    __slots__ = ("_began", "_clock", "_interval", "_log", "_passed", "_per_interval", "_suppressed")

    def __init__(
        self,
        log: EventLogger,
        *,
        per_interval: int = 5,
        interval: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Pass `per_interval` events each `interval` seconds of the monotonic `clock`."""
        self._log = log
        self._per_interval = per_interval
        self._interval = interval
        self._clock = clock
        self._began = float("-inf")  # when the present interval began, in the clock's seconds
        self._passed = 0
        self._suppressed = 0

    def log(self, level: int, event: str, /, **fields: object) -> None:
        """Write the event, or count it if this interval has had its share."""
        if not self._log.enabled(level):
            return
        now = self._clock()
        if now - self._began >= self._interval:
            self._began = now
            self._passed = 0
        if self._passed >= self._per_interval:
            self._suppressed += 1
            return
        self._passed += 1
        if self._suppressed:
            fields["suppressed"] = self._suppressed
            self._suppressed = 0
        self._log.log(level, event, **fields)

    def flush(self, event: str, /, level: int = logging.WARNING) -> None:
        """Write how many events were suppressed and not reported yet, if any."""
        if self._suppressed:
            self._log.log(level, event, suppressed=self._suppressed)
            self._suppressed = 0


class RepeatedLog:
    """Writes an event when it occurs for the first time, then once a minute while it repeats.

    After `ENDED` seconds without it, the next one counts as the first.
    """

    __slots__ = ("_clock", "_heard", "_log", "_suppressed", "_written")

    def __init__(self, log: EventLogger, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._log = log
        self._clock = clock
        self._heard = self._written = float("-inf")  # in the clock's seconds
        self._suppressed = 0

    def log(self, level: int, event: str, /, **fields: object) -> None:
        """Write the event, or count it if it was written a moment ago."""
        now = self._clock()
        lasts = now - self._heard < ENDED and now - self._written < REMINDER
        self._heard = now
        if lasts:
            self._suppressed += 1
            return
        self._written = now
        if self._suppressed:
            fields["suppressed"] = self._suppressed
            self._suppressed = 0
        self._log.log(level, event, **fields)


class EventFormatter(logging.Formatter):
    """Renders records: time (UTC), level, event, fields."""

    def __init__(self, form: str = DEFAULT_FORMAT, *, to_journal: bool = False) -> None:
        """Render in one of `FORMATS`, for the journal if `to_journal`."""
        super().__init__()
        self._form = form
        self._to_journal = to_journal

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and after it the traceback if the record has one."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        when = when.removesuffix("+00:00") + "Z"
        level = record.levelname.lower()
        fields: Mapping[str, object] | None = getattr(record, _FIELDS, None)
        if fields is None:  # a record of a library: the name of its logger is the event
            event, fields = record.name, {"message": record.getMessage()}
        else:
            event = record.msg
        trace = self.formatException(record.exc_info) if record.exc_info else ""
        each: tuple[str, Sequence[object]] | None = getattr(record, _EACH, None)
        if self._form == "json":
            several = [fields] if each is None else [{**fields, each[0]: one} for one in each[1]]
            lines = [_object(when, level, event, one, trace) for one in several]
        else:
            words = [event] if self._to_journal else [when, level, event]
            words.extend(f"{key}={rendered(value)}" for key, value in fields.items())
            line = " ".join(words)
            if each is None:
                lines = [line, *(f"  | {visible(part)}" for part in trace.splitlines())]
            else:
                line = f"{line} {each[0]}="
                lines = [line + rendered(value) for value in each[1]]
        if self._to_journal:
            priority = _priority(level)
            lines = [priority + line for line in lines]
        return "\n".join(lines)


def get_logger(name: str) -> EventLogger:
    """Return the logger of a module, such as `gozo.delivery.dispatcher`."""
    return EventLogger(name)


def configure(
    level: str, stream: TextIO | TextIOBase | None = None, form: str = DEFAULT_FORMAT
) -> None:
    """Send gozo's events at `level` (one of `LEVELS`) and above to a stream, by default stderr.

    `form` is one of `FORMATS`. Libraries log from `warning` upwards, whatever the level: their
    debugging output contains payloads. A further call replaces what an earlier one installed.
    """
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler.formatter, EventFormatter):
            root.removeHandler(handler)
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(EventFormatter(form, to_journal=_is_journal(stream or sys.stderr)))
    root.addHandler(handler)
    root.setLevel(max(_NUMBERS[level], logging.WARNING))
    logging.getLogger("gozo").setLevel(_NUMBERS[level])


def silence() -> None:
    """Turn gozo's logging off: a command reports in another way."""
    logging.getLogger("gozo").setLevel(logging.CRITICAL + 1)


def mark(level: str) -> str:
    """Return the prefix of a line on stderr that is not an event; empty outside the journal."""
    return _priority(level) if _is_journal(sys.stderr) else ""


def _priority(level: str) -> str:
    return f"<{_PRIORITIES.get(level, _PRIORITIES['info'])}>"


def _is_journal(stream: TextIO | TextIOBase) -> bool:
    """Tell whether a stream is connected to the journal directly."""
    named = os.environ.get("JOURNAL_STREAM")
    if not named:
        return False
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError, AttributeError):  # closed, missing, or no file
        return False
    return named == f"{status.st_dev}:{status.st_ino}"


def _object(when: str, level: str, event: str, fields: Mapping[str, object], trace: str) -> str:
    """Return an event as a JSON object, on one line."""
    record: dict[str, object] = {"time": when, "level": level, "event": event}
    for key, value in fields.items():
        if isinstance(value, float) and not math.isfinite(value):
            record[key] = None  # JSON cannot express it
        elif value is None or isinstance(value, (bool, int, float)):
            record[key] = value
        else:
            record[key] = _text(value)
    if trace:
        record["trace"] = trace
    return visible(json.dumps(record, ensure_ascii=False))


def rendered(value: object) -> str:
    """Return the text of a field's value."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _short(value)
    text = _text(value)
    if _PLAIN.fullmatch(text) and text.isprintable():
        return text
    return visible(json.dumps(text, ensure_ascii=False))


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, (list, tuple)):
        return ",".join(str(item) for item in value)
    if isinstance(value, BaseException):
        return str(value) or type(value).__name__
    return str(value)


def visible(text: str) -> str:
    """Escape everything that is not printable, as in JSON."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _short(number: float) -> str:
    if not abs(number) < _LONG:  # nan as well
        return f"{number:g}"
    short = f"{number:.3f}".rstrip("0").rstrip(".")
    return "0" if short == "-0" else short


def _escape(char: str) -> str:
    return json.dumps(char)[1:-1] if char != "\x7f" else "\\u007f"
