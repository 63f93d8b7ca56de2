"""Reads and writes the headers that say how a delivery is confirmed. Pure.

Requests and entries use the same names. Headers that a request omits are not written to its entry.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from gozo.errors import Refusal, RequestError, invalid_value
from gozo.schedule import expression as when
from gozo.schedule.model import (
    ACK_WAIT_US,
    MICROSECONDS,
    Confirm,
    Confirmation,
    Overlap,
)

MOST_ATTEMPTS = 999_999
"""The largest `Gozo-Attempts`."""

MOST_WAITS = 20
"""Maximum waits in `Gozo-Backoff`."""

SHORTEST_ACK_WAIT_US = MICROSECONDS
"""The shortest `Gozo-Ack-Wait`: a shorter one would be over before a takeover is."""

SHORTEST_EXPECT_US = MICROSECONDS
"""The shortest `Gozo-Expect`: whether it is over is looked at several times a second."""

_CONFIRM, _ATTEMPTS = b"gozo-confirm", b"gozo-attempts"
_ACK_WAIT, _BACKOFF, _MAX_AGE = b"gozo-ack-wait", b"gozo-backoff", b"gozo-max-age"
_OVERLAP, _DEAD_LETTER, _TTL = b"gozo-overlap", b"gozo-dead-letter", b"gozo-ttl"
_KEEP_OUTPUT, _EXPECT = b"gozo-keep-output", b"gozo-expect"
NAMES = frozenset(
    {
        *(_CONFIRM, _ATTEMPTS, _ACK_WAIT, _BACKOFF, _MAX_AGE, _OVERLAP, _DEAD_LETTER, _TTL),
        *(_KEEP_OUTPUT, _EXPECT),
    }
)
"""The headers that are read here, in lower case."""

_ANSWERED = (_ACK_WAIT, _BACKOFF, _OVERLAP, _KEEP_OUTPUT, _EXPECT)
"""Those that need a receiver's answer."""
_NUMBER = re.compile(rb"[0-9]{1,6}\Z")

_Choice = TypeVar("_Choice", bound=StrEnum)


class _YesNo(StrEnum):
    YES = "yes"
    NO = "no"


def read_confirmation(
    given: Mapping[bytes, bytes], *, recurs: bool = False
) -> tuple[bool, int, Confirmation | None]:
    """Read from gozo's headers, by lower-case name, how a delivery is confirmed.

    `recurs` is whether the schedule does; true also if that is not known.

    Returns whether a stream confirms it, the maximum number of attempts (0: no limit), and the
    other settings, if any.

    Raises:
        RequestError: `invalid_request`, `invalid_when` or `forbidden_subject`.
    """
    if NAMES.isdisjoint(given):
        return False, 0, None
    if _CONFIRM not in given:
        name = min(NAMES & given.keys())
        if name in _ANSWERED:
            raise _needs_answer(name)
        raise _refusal(f"{_title(name)} needs Gozo-Confirm: add it")
    by = _choice(given, _CONFIRM, Confirm)
    attempts = _read_attempts(given)
    if by is Confirm.STREAM:
        for name in _ANSWERED:
            if name in given:
                raise _needs_answer(name)
    elif _TTL in given:
        raise _refusal("Gozo-TTL is for 'Gozo-Confirm: stream' only: omit it")
    if _OVERLAP in given and not recurs:
        raise _refusal("Gozo-Overlap is for recurring schedules only: omit it")
    confirmation = Confirmation(
        by=by,
        ack_wait_us=_read_ack_wait(given),
        backoff_us=_read_backoff(given),
        max_age_us=_read_max_age(given),
        overlap=_choice(given, _OVERLAP, Overlap) if _OVERLAP in given else None,
        dead_letter=_read_dead_letter(given),
        ttl_us=_read_ttl(given),
        keep_output=_KEEP_OUTPUT in given and _choice(given, _KEEP_OUTPUT, _YesNo) is _YesNo.YES,
        expect_us=_read_expect(given),
    )
    is_stream = by is Confirm.STREAM
    if confirmation.dead_letter and is_stream and not (recurs or attempts):
        _check_gives_up(confirmation)
    plain = is_stream and confirmation == Confirmation(by)
    return is_stream, attempts, None if plain else confirmation


def _check_gives_up(confirmation: Confirmation) -> None:
    """Refuse a dead letter that could never be published."""
    if not confirmation.max_age_us:
        raise _refusal(
            "Gozo-Dead-Letter needs Gozo-Attempts or Gozo-Max-Age, since it does not recur and "
            "'Gozo-Confirm: stream' is tried without limit otherwise: give one of them"
        )


def without_copied(given: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
    """Omit `Gozo-Ack-Wait` without `Gozo-Confirm`: clients copy it from deliveries."""
    if _ACK_WAIT not in given or _CONFIRM in given:
        return given
    return {name: value for name, value in given.items() if name != _ACK_WAIT}


def confirmation_lines(confirmed: bool, attempts: int, confirmation: Confirmation | None) -> bytes:
    """Write how a delivery is confirmed as header lines of an entry.

    `confirmed` is whether a stream confirms it.
    """
    if confirmation is None:
        lines = ["Gozo-Confirm: stream"] if confirmed else []
    else:
        lines = [f"Gozo-Confirm: {confirmation.by}"]
    if attempts:
        lines.append(f"Gozo-Attempts: {attempts}")
    if confirmation is not None:
        lines += _lines(confirmation)
    return "".join(f"{line}\r\n" for line in lines).encode()


def _lines(confirmation: Confirmation) -> list[str]:
    lines = []
    if confirmation.ack_wait_us != ACK_WAIT_US:
        lines.append(f"Gozo-Ack-Wait: {when.print_span(confirmation.ack_wait_us)}")
    if confirmation.backoff_us:
        waits = ",".join(map(when.print_span, confirmation.backoff_us))
        lines.append(f"Gozo-Backoff: {waits}")
    if confirmation.max_age_us:
        lines.append(f"Gozo-Max-Age: {when.print_span(confirmation.max_age_us)}")
    if confirmation.overlap is not None:
        lines.append(f"Gozo-Overlap: {confirmation.overlap}")
    if confirmation.dead_letter:
        lines.append(f"Gozo-Dead-Letter: {confirmation.dead_letter}")
    if confirmation.ttl_us:
        lines.append(f"Gozo-TTL: {when.print_span(confirmation.ttl_us)}")
    if confirmation.keep_output:
        lines.append("Gozo-Keep-Output: yes")
    if confirmation.expect_us:
        lines.append(f"Gozo-Expect: {when.print_span(confirmation.expect_us)}")
    return lines


def _read_attempts(given: Mapping[bytes, bytes]) -> int:
    text = given.get(_ATTEMPTS)
    if text is None:
        return 0
    if not _NUMBER.match(text) or not int(text):
        problem = f"expected a whole number from 1 to {MOST_ATTEMPTS}"
        raise _refusal(invalid_value("Gozo-Attempts", _shown(text), problem))
    return int(text)


def _read_ack_wait(given: Mapping[bytes, bytes]) -> int:
    if _ACK_WAIT not in given:
        return ACK_WAIT_US
    us = _span(given, _ACK_WAIT)
    if us < SHORTEST_ACK_WAIT_US:
        raise _refusal(
            invalid_value("Gozo-Ack-Wait", _shown(given[_ACK_WAIT]), "expected 1s or more")
        )
    return us


def _read_max_age(given: Mapping[bytes, bytes]) -> int:
    us = _span(given, _MAX_AGE)
    if _MAX_AGE in given and not us:
        problem = "expected more than 0s; without a limit, omit it"
        raise _refusal(invalid_value("Gozo-Max-Age", _shown(given[_MAX_AGE]), problem))
    return us


def _read_backoff(given: Mapping[bytes, bytes]) -> tuple[int, ...]:
    text = given.get(_BACKOFF)
    if text is None:
        return ()
    waits = text.split(b",", MOST_WAITS)
    if len(waits) > MOST_WAITS:
        raise _refusal(f"Gozo-Backoff has more than {MOST_WAITS} waits: give fewer")
    return tuple(
        when.parse_span(wait.strip().decode("utf-8", "replace"), "Gozo-Backoff") for wait in waits
    )


def _read_dead_letter(given: Mapping[bytes, bytes]) -> str:
    """Read `Gozo-Dead-Letter`; whether the subject is permitted is checked elsewhere."""
    value = given.get(_DEAD_LETTER)
    if value is None:
        return ""
    if not value:
        raise RequestError(
            Refusal.FORBIDDEN_SUBJECT, "Gozo-Dead-Letter is empty: give a subject, or omit it"
        )
    return value.decode("utf-8", "surrogateescape")


def _read_ttl(given: Mapping[bytes, bytes]) -> int:
    us = _span(given, _TTL)
    if _TTL in given and (us < MICROSECONDS or us % MICROSECONDS):
        problem = "expected whole seconds, 1s or more"
        raise _refusal(invalid_value("Gozo-TTL", _shown(given[_TTL]), problem))
    return us


def _read_expect(given: Mapping[bytes, bytes]) -> int:
    us = _span(given, _EXPECT)
    if _EXPECT in given and us < SHORTEST_EXPECT_US:
        problem = "expected 1s or more"
        raise _refusal(invalid_value("Gozo-Expect", _shown(given[_EXPECT]), problem))
    return us


def _span(given: Mapping[bytes, bytes], name: bytes) -> int:
    text = given.get(name)
    return 0 if text is None else when.parse_span(text.decode("utf-8", "replace"), _title(name))


def _choice(given: Mapping[bytes, bytes], name: bytes, kind: type[_Choice]) -> _Choice:
    text = given[name]
    try:
        return kind(text.decode("ascii", "replace").lower())
    except ValueError:
        *others, last = kind
        problem = f"expected {', '.join(others)} or {last}"
        raise _refusal(invalid_value(_title(name), _shown(text), problem)) from None


def _shown(value: bytes) -> str:
    return value[:40].decode("utf-8", "replace")


def _title(name: bytes) -> str:
    return name.decode().title().replace("Ttl", "TTL")


def _needs_answer(name: bytes) -> RequestError:
    return _refusal(
        f"{_title(name)} needs 'Gozo-Confirm: reply' or 'Gozo-Confirm: claim': give one of them"
    )


def _refusal(problem: str) -> RequestError:
    return RequestError(Refusal.INVALID_REQUEST, problem)
