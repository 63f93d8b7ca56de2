"""Schedules as gozoctl prints them, and which of them are meant."""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from gozoctl import times
from gozoctl.output import Cell, Sheet

if TYPE_CHECKING:
    from gozo.client import Schedule


class State(StrEnum):
    """What can be said of a schedule."""

    PENDING = "pending"
    OVERDUE = "overdue"
    PAUSED = "paused"
    RETRYING = "retrying"
    FAILED = "failed"
    INVALID = "invalid"


class Order(StrEnum):
    """What schedules can be sorted by."""

    DUE = "due"
    ID = "id"
    CREATED = "created"
    SIZE = "size"


_STYLES = {"overdue": "yellow", "retrying": "yellow", "failed": "red", "invalid": "red"}
_KIB = 1024


@dataclass(frozen=True, slots=True)
class Filter:
    """Which schedules are meant; what is None does not matter."""

    id_glob: str | None = None
    due_before: datetime | None = None
    due_after: datetime | None = None
    state: State | None = None

    def matches(self, schedule: Schedule) -> bool:
        """Tell whether a schedule is meant."""
        if self.id_glob is not None and not (
            schedule.id is not None and _glob(self.id_glob).match(schedule.id)
        ):
            return False
        if self.due_before is not None and schedule.due >= self.due_before:
            return False
        if self.due_after is not None and schedule.due <= self.due_after:
            return False
        return self.state is None or schedule.state == self.state


def record(schedule: Schedule) -> dict[str, Any]:
    """Return what JSON says of a schedule."""
    headers: dict[str, list[str]] = {}
    for name, value in schedule.headers:
        headers.setdefault(name, []).append(value)
    said = {
        "id": schedule.id,
        "key": schedule.key,
        "subject": schedule.subject,
        "when": schedule.when,
        "due": times.utc(schedule.due),
        "due_epoch": times.epoch(schedule.due),
        "created": times.utc(schedule.created),
        "size": schedule.size,
        "headers": headers,
        "state": schedule.state,
        "revision": schedule.revision,
    }
    return said | ({"reason": schedule.reason} if schedule.reason else {})


def fields(schedule: Schedule) -> tuple[str, ...]:
    """Return a line for scripts."""
    return (
        schedule.id or "",
        times.utc(schedule.due),
        str(round((schedule.due - datetime.now(UTC)).total_seconds(), 3)),
        schedule.subject,
        str(schedule.size),
        schedule.state,
    )


def cells(schedule: Schedule) -> tuple[Cell, ...]:
    """Return a line for people."""
    style = _STYLES.get(schedule.state, "")
    return (
        (schedule.id, "bold") if schedule.id is not None else (_anonymous(schedule), "dim"),
        times.local(schedule.due),
        (times.left(schedule.due, datetime.now(UTC)), style),
        (schedule.subject, "cyan"),
        size(schedule.size),
        (schedule.state, style),
    )


def size(count: int) -> str:
    """Write a number of bytes for people."""
    if count < _KIB:
        return f"{count} B"
    return f"{count / _KIB:.1f} KiB" if count < _KIB**2 else f"{count / _KIB**2:.1f} MiB"


def _anonymous(schedule: Schedule) -> str:
    """Name what has no id: only where it is invalid must a person find it in the bucket."""
    return schedule.key if schedule.state == State.INVALID else "-"


def _name(schedule: Schedule) -> str | None:
    return schedule.id


SHEET: Sheet[Schedule] = Sheet(
    ("ID", "DUE", "LEFT", "SUBJECT", "SIZE", "STATE"), cells, fields, record, _name
)

ORDERS: Mapping[Order, Any] = {
    Order.DUE: lambda schedule: (schedule.due, schedule.id or ""),
    Order.ID: lambda schedule: (schedule.id is None, schedule.id or ""),
    Order.CREATED: lambda schedule: (schedule.created, schedule.id or ""),
    Order.SIZE: lambda schedule: (schedule.size, schedule.due),
}


@functools.cache
def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern))
