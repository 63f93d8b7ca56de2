"""The grammar of `Gozo-When`: from text to the moment a schedule is due. Pure.

    1763871234      an absolute time: Unix epoch seconds
    1763871234.5    the same, with decimals
    +10             relative: seconds after the request was received
    +0.25           the same, with decimals

Only the digits 0 to 9 count as digits; spaces, signs, exponents and names of numbers do
not belong to the grammar. The last moment is the end of the year 9999 (UTC).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gozo.errors import Refusal, RequestError
from gozo.schedule import MICROSECONDS

LAST_US = 253_402_300_800 * MICROSECONDS - 1
"""The last microsecond of the year 9999."""

LONGEST = 64
"""Characters that an expression may have."""

_NUMBER = re.compile(r"(\+?)([0-9]+)(?:\.([0-9]+))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class At:
    """A moment, in microseconds since the Unix epoch."""

    us: int


@dataclass(frozen=True, slots=True)
class After:
    """A delay in microseconds, counted from when the request was received."""

    us: int


When = At | After


def parse(text: str) -> When:
    """Read an expression. Digits beyond the microsecond round up: never early.

    Raises:
        RequestError: `invalid_when`, with the value and the position of what is wrong.
    """
    if not text:
        raise _refusal("Gozo-When is empty")
    if len(text) > LONGEST:
        raise _refusal(f"Gozo-When has {len(text)} characters; the most is {LONGEST}")
    match = _NUMBER.match(text)
    if match is None or match.end() != len(text):
        position = match.end() if match else len(text) - len(text.lstrip("+"))
        raise _refusal(f"Gozo-When {text!r} cannot be read at position {position + 1}")
    sign, whole, decimals = match.groups()
    us = int(whole) * MICROSECONDS + _microseconds(decimals or "")
    if us > LAST_US:
        raise _refusal(f"Gozo-When {text!r} lies beyond the year 9999")
    return After(us) if sign else At(us)


def first_due(when: When, received_us: int) -> int:
    """When a schedule is due that was received at `received_us`; the past means now.

    Raises:
        RequestError: `invalid_when`, if the moment lies beyond the year 9999.
    """
    match when:
        case At(us):
            return max(us, received_us)
        case After(us):
            due_us = received_us + us
            if due_us > LAST_US:
                raise _refusal(f"Gozo-When: {us / MICROSECONDS:g} s from now is after 9999")
            return due_us


def _microseconds(decimals: str) -> int:
    us = int(decimals[:6].ljust(6, "0"))
    return us + 1 if decimals[6:].strip("0") else us


def _refusal(problem: str) -> RequestError:
    cure = "give epoch seconds (1763871234.5) or seconds from now (+10)"
    return RequestError(Refusal.INVALID_WHEN, f"{problem}: {cure}")
