"""Keys and headers of runs: occurrences in entries of their own. Pure.

A run of the schedule under the key `backup` has the key `=_run.backup.<occurrence>`. The occurrence
is unique among all runs of this schedule and of others under the same key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from gozo.protocol.ids import RESERVED
from gozo.schedule.model import MICROSECONDS, NEVER, Entry, Run
from gozo.schedule.runs import KEPT_TOKENS

RUN_PREFIX = f"{RESERVED}run."
"""The prefix of the keys of runs."""

RUN_GROWTH = 512
"""Bytes of the headers that a run has in addition to those of its schedule, or of the record that
gozo adds to the schedule itself."""

ORIGIN = 16
"""Hex digits of an origin, as many as an occurrence can begin with."""

_ORIGIN = re.compile(rb"[0-9a-f]{%d}\Z" % ORIGIN)
_OCCURRENCE = re.compile(r"[dt]?[0-9a-f]{1,16}(?:-[0-9]{1,18})?\Z", re.ASCII)
_HASH = re.compile(rb"[A-Za-z0-9_\-]{43}\Z")
_TOKEN = re.compile(rb"([0-9]{1,9})\.([A-Za-z0-9_\-]{43})\Z")
_TIME = re.compile(rb"([0-9]{1,12})\.([0-9]{6})\Z")


def run_key(key: str, occurrence: str) -> str:
    """Return the key of a run of the schedule that is kept under a key."""
    return f"{RUN_PREFIX}{key}.{occurrence}"


def occurrence_of(entry: Entry) -> str:
    """Name the occurrence for which a schedule is due.

    The name has the origin of the schedule, or else the time at which it was created. Either
    differs from that of a schedule that it replaced.
    """
    name = entry.origin or f"{entry.created_us:x}"
    if entry.spec is None or not entry.spec.recurs:
        return name
    return f"{name}-{entry.spec.occurred + 1}"


def triggered_occurrence(now_us: int) -> str:
    """Name a run that was triggered at a time, besides the schedule's occurrences."""
    return f"t{now_us:x}"


def given_up_occurrence(entry: Entry) -> str:
    """Name an occurrence that was given up, as a dead letter.

    A run of the same occurrence, where the schedule was changed meanwhile, has another name.
    """
    return f"d{occurrence_of(entry)}"


def run_lines(run: Run) -> bytes:
    """Write the header lines that only a run has."""
    lines = []
    if run.sent_us:
        lines.append(f"Gozo-Sent: {print_us(run.sent_us)}")
    if run.tokens:
        tokens = ",".join(f"{attempt}.{hashed}" for attempt, hashed in run.tokens)
        lines.append(f"Gozo-Token: {tokens}")
    if run.owner:
        lines.append(f"Gozo-Owner: {run.owner}")
    if run.give_up_us != NEVER:
        lines.append(f"Gozo-Give-Up: {print_us(run.give_up_us)}")
    if run.is_last:
        lines.append("Gozo-Last-Attempt: Yes")
    return "".join(f"{line}\r\n" for line in lines).encode()


def read_run(key: str, given: Mapping[bytes, bytes]) -> Run:
    """Read a run from its key and its headers, by lower-case name.

    Raises:
        ValueError: the key or a header is not one that gozo writes.
    """
    schedule, _, occurrence = key.removeprefix(RUN_PREFIX).rpartition(".")
    if not schedule or not _OCCURRENCE.match(occurrence):
        raise ValueError(f"its key {key!r} is not that of a run")
    return Run(
        key=schedule,
        occurrence=occurrence,
        sent_us=_read_us(given, b"gozo-sent", 0),
        tokens=_read_tokens(given.get(b"gozo-token")),
        owner=_read_owner(given.get(b"gozo-owner")),
        give_up_us=_read_us(given, b"gozo-give-up", NEVER),
        is_last=b"gozo-last-attempt" in given,
    )


def print_us(us: int) -> str:
    """Write a time as headers of entries have it: epoch seconds with six decimals."""
    seconds, part = divmod(us, MICROSECONDS)
    return f"{seconds}.{part:06d}"


def read_origin(given: Mapping[bytes, bytes]) -> str:
    """Read the origin of an entry, from its headers by lower-case name; "" without one.

    Raises:
        ValueError: it is not one that gozo writes.
    """
    value = given.get(b"gozo-origin")
    if value is None:
        return ""
    if not _ORIGIN.match(value):
        raise ValueError("its Gozo-Origin is not one that gozo writes")
    return value.decode()


def _read_us(given: Mapping[bytes, bytes], name: bytes, default: int) -> int:
    value = given.get(name)
    if value is None:
        return default
    match = _TIME.match(value)
    if match is None:
        raise ValueError(f"its {name.decode().title()} is not a time in epoch seconds")
    return int(match[1]) * MICROSECONDS + int(match[2])


def _read_tokens(value: bytes | None) -> tuple[tuple[int, str], ...]:
    if value is None:
        return ()
    found = [_TOKEN.match(text) for text in value.split(b",", KEPT_TOKENS)]
    tokens = [(int(match[1]), match[2].decode()) for match in found if match is not None]
    if len(tokens) < len(found):
        raise ValueError("its Gozo-Token is not one that gozo writes")
    return tuple(tokens)


def _read_owner(value: bytes | None) -> str:
    if value is None:
        return ""
    if not _HASH.match(value):
        raise ValueError("its Gozo-Owner is not one that gozo writes")
    return value.decode()
