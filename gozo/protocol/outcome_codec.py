"""Reads and writes outcomes: as JSON, and as headers of a schedule's entry. Pure.

The headers of an entry:

    Gozo-Outcome: failed 1763871234.000000 1763871236.100000 attempt=1 exit=3 took=2.1 host=web1
    Gozo-Awaited: 1763871234.000000
    Gozo-Overdue: Yes
    Gozo-Succeeded: 1763867636.100000

`Gozo-Outcome` has the result, when the occurrence was due and when it ended, in epoch seconds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from gozo.errors import RequestError
from gozo.schedule import expression as grammar
from gozo.schedule.model import MICROSECONDS
from gozo.schedule.outcome import Outcome, Record, Result

TYPE = "gozo.outcome.v1"

LONGEST_HOST = 128
"""Maximum characters of a receiver's host."""

LONGEST_STATUS = 5
"""Maximum digits of an exit status."""

_HEADER = re.compile(
    r"([a-z]+) ([0-9]{1,12}\.[0-9]{6}) ([0-9]{1,12}\.[0-9]{6})((?: [a-z]+(?:=[!-~]+)?)*)\Z"
)
_TIME = re.compile(r"([0-9]{1,12})\.([0-9]{6})\Z")
_STATUS = re.compile(rf"-?[0-9]{{1,{LONGEST_STATUS}}}\Z", re.ASCII)
_HOST = re.compile(rf"[!-~]{{1,{LONGEST_HOST}}}\Z")
_ATTEMPT = re.compile(r"[0-9]{1,9}\Z", re.ASCII)


def outcome_json(outcome: Outcome) -> bytes:
    """Write an outcome as JSON; durations are seconds."""
    took_us = outcome.took_us
    said = {
        "type": TYPE,
        "id": outcome.id,
        "key": outcome.key,
        "subject": outcome.subject,
        "occurrence": outcome.occurrence,
        "outcome": outcome.result,
        "due": grammar.print_rfc3339(outcome.due_us),
        "started": grammar.print_rfc3339(outcome.started_us) if outcome.started_us else None,
        "ended": grammar.print_rfc3339(outcome.ended_us),
        "attempt": outcome.attempt,
        "reason": outcome.reason,
        "host": outcome.host,
        "exit_status": outcome.exit_status,
        "took": None if took_us is None else took_us / MICROSECONDS,
        "late": outcome.late,
    }
    return json.dumps(said).encode()


def read_outcome_json(payload: bytes) -> Outcome:
    """Read an outcome from JSON.

    Raises:
        ValueError: it is not one that gozo writes.
    """
    said = json.loads(payload)
    if not isinstance(said, dict) or said.get("type") != TYPE:
        raise ValueError(f"its type is not {TYPE}")
    id_, started, status, took = (said.get(name) for name in _OPTIONAL)
    if not isinstance(id_, str | None) or not isinstance(status, int | None):
        raise _unexpected("its id or its exit status")
    return Outcome(
        id=id_,
        key=_text(said, "key"),
        subject=_text(said, "subject"),
        occurrence=_text(said, "occurrence"),
        result=Result(_text(said, "outcome")),
        due_us=_moment(said["due"]),
        ended_us=_moment(said["ended"]),
        started_us=0 if started is None else _moment(started),
        attempt=int(said["attempt"]),
        reason=_text(said, "reason"),
        host=_text(said, "host"),
        exit_status=status,
        duration_us=None if took is None else round(float(took) * MICROSECONDS),
        late=said.get("late") is True,
    )


_OPTIONAL = ("id", "started", "exit_status", "took")


def _text(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name)
    if not isinstance(value, str):
        raise _unexpected(f"its member {name!r}")
    return value


def _moment(text: object) -> int:
    try:
        when = grammar.parse(str(text))
    except RequestError as error:
        raise ValueError(str(error)) from error
    if not isinstance(when, grammar.At):
        raise _unexpected(repr(text))
    return when.us


def _unexpected(what: str) -> ValueError:
    return ValueError(f"{what} has an unexpected form")


def record_lines(record: Record) -> bytes:
    """Write what an entry says about the occurrences of its schedule."""
    lines = ""
    if record.last is not None:
        lines += f"Gozo-Outcome: {_outcome_text(record.last)}\r\n"
    if record.awaited_us:
        lines += f"Gozo-Awaited: {_print_us(record.awaited_us)}\r\n"
    if record.overdue:
        lines += "Gozo-Overdue: Yes\r\n"
    if record.succeeded_us:
        lines += f"Gozo-Succeeded: {_print_us(record.succeeded_us)}\r\n"
    return lines.encode()


def read_record(
    given: Mapping[bytes, bytes], id_: str | None, key: str, subject: str
) -> Record | None:
    """Read the same from the headers of an entry, by lower-case name; None without any.

    What gozo would not write is ignored: it must not stop a schedule.
    """
    if NAMES.isdisjoint(given):
        return None
    text = given.get(_OUTCOME, b"").decode("ascii", "replace")
    awaited, succeeded = (
        _TIME.match(given.get(name, b"").decode("ascii", "replace"))
        for name in (_AWAITED, _SUCCEEDED)
    )
    return Record(
        last=_read_outcome(text, id_, key, subject),
        awaited_us=_us(awaited[0]) if awaited else 0,
        overdue=_OVERDUE in given,
        succeeded_us=_us(succeeded[0]) if succeeded else 0,
    )


_OUTCOME, _AWAITED, _OVERDUE = b"gozo-outcome", b"gozo-awaited", b"gozo-overdue"
_SUCCEEDED = b"gozo-succeeded"
NAMES = frozenset({_OUTCOME, _AWAITED, _OVERDUE, _SUCCEEDED})
"""The headers that are read here, in lower case."""


def _outcome_text(outcome: Outcome) -> str:
    words = [outcome.result, _print_us(outcome.due_us), _print_us(outcome.ended_us)]
    if outcome.attempt:
        words.append(f"attempt={outcome.attempt}")
    if outcome.exit_status is not None:
        words.append(f"exit={outcome.exit_status}")
    if outcome.took_us is not None:
        words.append(f"took={_print_us(outcome.took_us)}")
    if _HOST.match(outcome.host):
        words.append(f"host={outcome.host}")
    if outcome.late:
        words.append("late")
    return " ".join(words)


def _read_outcome(text: str, id_: str | None, key: str, subject: str) -> Outcome | None:
    match = _HEADER.match(text)
    if match is None or match[1] not in frozenset(Result):
        return None
    more = {name: value for name, _, value in (word.partition("=") for word in match[4].split())}
    attempt, took = more.get("attempt", ""), _TIME.match(more.get("took", ""))
    ended_us = _us(match[3])
    took_us = _us(took[0]) if took else None
    return Outcome(
        id=id_,
        key=key,
        subject=subject,
        occurrence="",
        result=Result(match[1]),
        due_us=_us(match[2]),
        ended_us=ended_us,
        started_us=0 if took_us is None else max(ended_us - took_us, 0),
        attempt=int(attempt) if _ATTEMPT.match(attempt) else 0,
        host=read_host(more.get("host", "")) or "",
        exit_status=read_status(more.get("exit", "")),
        duration_us=took_us,
        late="late" in more,
    )


def read_status(text: str) -> int | None:
    """Read an exit status; None if it is not one."""
    return int(text) if _STATUS.match(text) else None


def read_host(text: str) -> str | None:
    """Read the name of a host; None if it is not one."""
    return text if _HOST.match(text) else None


def _print_us(us: int) -> str:
    seconds, part = divmod(us, MICROSECONDS)
    return f"{seconds}.{part:06d}"


def _us(text: str) -> int:
    return int(text.replace(".", ""))
