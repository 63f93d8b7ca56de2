"""Reads and writes the headers of a schedule's spec: lifetime, misfires, time zone. Pure.

Requests and entries, whether written by clients or by gozo, use the same names. A moment may be
any expression of a single moment; gozo itself writes epoch seconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from gozo.errors import Refusal, RequestError, invalid_value
from gozo.schedule import expression as grammar
from gozo.schedule.cron import Cron, read_zone
from gozo.schedule.model import NEVER, Misfire, ScheduleSpec

MOST_OCCURRENCES = 999_999_999
"""The largest `Gozo-Count`."""

MOST_OCCURRED = 10**18 - 1
"""The largest `Gozo-Occurred`: without a count, an interval of 10 ms exceeds a thousand million
in four months."""

_ZONE, _START, _UNTIL = b"gozo-time-zone", b"gozo-start", b"gozo-until"
_COUNT, _JITTER = b"gozo-count", b"gozo-jitter"
_MISFIRE, _GRACE = b"gozo-misfire", b"gozo-misfire-grace"
_OCCURRED, _LAST, _RECKONED = b"gozo-occurred", b"gozo-last", b"gozo-reckoned"
_NAMES = frozenset(
    {_ZONE, _START, _UNTIL, _COUNT, _JITTER, _MISFIRE, _GRACE, _OCCURRED, _LAST, _RECKONED}
)
_RECURRING = (_START, _UNTIL, _COUNT, _JITTER)
_NUMBER = re.compile(r"[0-9]{1,18}\Z", re.ASCII)


def has_spec(given: Mapping[bytes, bytes]) -> bool:
    """Return whether a stored schedule may have a spec, without reading its expression.

    A recurring expression contains a blank or begins with `@`; the spec of a single moment
    always has a misfire policy.
    """
    when = given.get(b"gozo-when", b"")
    return b" " in when or when[:1] == b"@" or b"\t" in when or _MISFIRE in given


def read_spec(
    given: Mapping[bytes, bytes], when: grammar.When, received_us: int
) -> ScheduleSpec | None:
    """Read the spec from gozo's headers, by lower-case name; None if there is none.

    A relative moment counts from `received_us`.

    Raises:
        RequestError: `invalid_when` or `invalid_request`, naming the header and its value.
    """
    recurs = isinstance(when, grammar.Recurring)
    if _NAMES.isdisjoint(given):
        return ScheduleSpec(recurs=True) if recurs else None
    said = {name: given[name].decode("utf-8", "replace") for name in _NAMES if name in given}
    if _ZONE in said and not isinstance(when, Cron):
        raise _refusal("Gozo-Time-Zone is for cron expressions only: omit it")
    for name in _RECURRING:
        if name in said and not recurs:
            raise _refusal(f"{_title(name)} is for recurring schedules only: omit it")
    misfire = _read_misfire(said, recurs=recurs)
    start_us = _moment(said, _START, received_us) if _START in said else None
    until_us = _moment(said, _UNTIL, received_us) if _UNTIL in said else NEVER
    if start_us is not None and until_us < start_us:
        raise _refusal("Gozo-Until is before Gozo-Start: give a later end")
    zone = said.get(_ZONE, "")
    if _ZONE in said:
        read_zone(zone)
    count = _number(said, _COUNT, 1, MOST_OCCURRENCES)
    occurred = _number(said, _OCCURRED, 0, MOST_OCCURRED)
    if 0 < count <= occurred:
        raise _refusal(f"Gozo-Occurred {occurred} has reached Gozo-Count: give a larger count")
    return ScheduleSpec(
        recurs=recurs,
        zone=zone,
        start_us=start_us,
        until_us=until_us,
        count=count,
        jitter_us=_span(said, _JITTER) or 0,
        misfire=misfire,
        grace_us=_span(said, _GRACE),
        occurred=occurred,
        last_us=_moment(said, _LAST, received_us) if _LAST in said else 0,
        reckoned_us=_moment(said, _RECKONED, received_us) if _RECKONED in said else 0,
    )


def check_recurs(spec: ScheduleSpec | None, id_: str | None) -> None:
    """Refuse a recurring schedule without an id, which could never be cancelled.

    Raises:
        RequestError: `invalid_request`.
    """
    if id_ is None and spec is not None and spec.recurs:
        raise _refusal("a recurring schedule needs Gozo-Id, or nobody could cancel it: give one")


def spec_lines(spec: ScheduleSpec) -> bytes:
    """Write a spec as header lines of an entry."""
    lines = []
    if spec.zone:
        lines.append(f"Gozo-Time-Zone: {spec.zone}")
    if spec.start_us is not None:
        lines.append(f"Gozo-Start: {grammar.print_when(grammar.At(spec.start_us))}")
    if spec.until_us != NEVER:
        lines.append(f"Gozo-Until: {grammar.print_when(grammar.At(spec.until_us))}")
    if spec.count:
        lines.append(f"Gozo-Count: {spec.count}")
    if spec.jitter_us:
        lines.append(f"Gozo-Jitter: {grammar.print_span(spec.jitter_us)}")
    if spec.misfire is not Misfire.ONCE:
        lines.append(f"Gozo-Misfire: {spec.misfire}")
    if spec.grace_us is not None:
        lines.append(f"Gozo-Misfire-Grace: {grammar.print_span(spec.grace_us)}")
    lines += _course_lines(spec)
    return "".join(f"{line}\r\n" for line in lines).encode()


def _course_lines(spec: ScheduleSpec) -> list[str]:
    """Write the progress of a schedule."""
    lines = [f"Gozo-Occurred: {spec.occurred}"] if spec.occurred else []
    moments = (("Gozo-Last", spec.last_us), ("Gozo-Reckoned", spec.reckoned_us))
    lines += [f"{name}: {grammar.print_when(grammar.At(us))}" for name, us in moments if us]
    return lines


def _read_misfire(said: Mapping[bytes, str], *, recurs: bool) -> Misfire:
    text = said.get(_MISFIRE, Misfire.ONCE)
    try:
        misfire = Misfire(text.lower())
    except ValueError:
        raise _refusal(
            invalid_value("Gozo-Misfire", text[:40], "expected once, all or skip")
        ) from None
    if misfire is Misfire.ALL and not recurs:
        raise _refusal("'Gozo-Misfire: all' is for recurring schedules only: give once or skip")
    if _GRACE in said and not recurs and misfire is not Misfire.SKIP:
        raise _refusal("Gozo-Misfire-Grace needs 'Gozo-Misfire: skip' with a single moment: add it")
    return misfire


def _moment(said: Mapping[bytes, str], name: bytes, received_us: int) -> int:
    text = said[name]
    try:
        when = grammar.parse(text)
    except RequestError:
        when = None
    match when:
        case grammar.At(us):
            return us
        case grammar.After(us):
            return received_us + us
        case _:
            raise RequestError(
                Refusal.INVALID_WHEN,
                invalid_value(
                    _title(name),
                    text[:80],
                    "expected epoch seconds, 2026-12-24T18:00:00+01:00, or a delay such as +30d",
                ),
            )


def _span(said: Mapping[bytes, str], name: bytes) -> int | None:
    text = said.get(name)
    return None if text is None else grammar.parse_span(text, _title(name))


def _number(said: Mapping[bytes, str], name: bytes, least: int, most: int) -> int:
    text = said.get(name)
    if text is None:
        return 0
    if not _NUMBER.match(text) or not least <= int(text) <= most:
        expected = f"expected a whole number from {least} to {most}"
        raise _refusal(invalid_value(_title(name), text[:40], expected))
    return int(text)


def _title(name: bytes) -> str:
    return name.decode().title()


def _refusal(problem: str) -> RequestError:
    return RequestError(Refusal.INVALID_REQUEST, problem)
