"""How commands select and print schedules."""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from gozo.schedule.model import MICROSECONDS, ScheduleSpec
from gozoctl.output import times
from gozoctl.output.layout import Narrow
from gozoctl.output.printer import Cell, TableSpec
from gozoctl.output.runs import STYLES as RESULT_STYLES
from gozoctl.output.runs import ended_run, outcome_record

if TYPE_CHECKING:
    from gozo.client import Schedule


class State(StrEnum):
    """The states of a schedule."""

    PENDING = "pending"
    OVERDUE = "overdue"
    PAUSED = "paused"
    RUNNING = "running"
    RETRYING = "retrying"
    FAILED = "failed"
    INVALID = "invalid"


class Order(StrEnum):
    """The fields to sort by."""

    DUE = "due"
    ID = "id"
    CREATED = "created"
    SIZE = "size"


_STYLES = {
    State.OVERDUE: "magenta",
    State.RUNNING: "green",
    State.RETRYING: "magenta",
    State.PAUSED: "magenta",
    State.FAILED: "red",
    State.INVALID: "red",
}
_AT_REST = (State.PAUSED, State.RUNNING, State.FAILED, State.INVALID)
_KIB = 1024


@dataclass(frozen=True, slots=True)
class Filter:
    """Selects schedules; None matches all."""

    id_glob: str | None = None
    due_before: datetime | None = None
    due_after: datetime | None = None
    state: State | None = None

    def matches(self, schedule: Schedule) -> bool:
        """Return whether a schedule is selected."""
        if self.id_glob is not None and not id_matches(self.id_glob, schedule.id):
            return False
        if self.due_before is not None and schedule.due >= self.due_before:
            return False
        if self.due_after is not None and schedule.due <= self.due_after:
            return False
        return self.state is None or schedule.state == self.state


def is_coming(schedule: Schedule) -> bool:
    """Return whether a schedule will be delivered if nobody changes it."""
    return schedule.state not in _AT_REST


def record(schedule: Schedule) -> dict[str, Any]:
    """Return a schedule for JSON."""
    headers: dict[str, list[str]] = {}
    for name, value in schedule.headers:
        headers.setdefault(name, []).append(value)
    found: dict[str, Any] = {
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
        "protected": schedule.protected,
    }
    if schedule.spec is not None:
        found |= _spec(schedule, schedule.spec)
    if schedule.unknown_headers:
        found["unknown_headers"] = list(schedule.unknown_headers)
    if schedule.is_run:
        found |= _run(schedule)
    elif _is_answered(schedule):
        outcome = schedule.outcome
        found["outcome"] = None if outcome is None else outcome_record(ended_run(outcome))
        found["overdue_at"] = _utc(schedule.overdue_at)
    return found | ({"reason": schedule.reason} if schedule.reason else {})


def _spec(schedule: Schedule, spec: ScheduleSpec) -> dict[str, Any]:
    grace = spec.grace_us
    return {
        "time_zone": zone_name(schedule),
        "start": _utc(schedule.start),
        "until": _utc(schedule.until),
        "count": spec.count or None,
        "occurred": spec.occurred,
        "remaining": schedule.remaining,
        "last": _utc(schedule.last),
        "jitter": spec.jitter_us / MICROSECONDS,
        "misfire": spec.misfire,
        "misfire_grace": None if grace is None else grace / MICROSECONDS,
    }


def _run(run: Schedule) -> dict[str, Any]:
    return {
        "occurrence": run.occurrence,
        "attempt": run.attempt,
        "tried": run.tried,
        "sent": _utc(run.sent),
        "next": _utc(run.next),
        "claimed": run.claimed,
        "give_up": _utc(run.give_up),
        "last_attempt": run.last_attempt,
    }


def zone_name(schedule: Schedule) -> str | None:
    """Return the time zone of a schedule's cron expression; None if it has none."""
    spec = schedule.spec
    if spec is None or not spec.recurs or schedule.when.startswith("@every "):
        return None
    return spec.zone or "UTC"


def _utc(moment: datetime | None) -> str | None:
    return None if moment is None else times.utc(moment)


def fields(schedule: Schedule) -> tuple[str, ...]:
    """Return a line for scripts."""
    is_next, left = is_coming(schedule), (schedule.due - datetime.now(UTC)).total_seconds()
    return (
        schedule.id or "",
        times.utc(schedule.due) if is_next or not schedule.recurs else "",
        str(round(left, 3)) if is_next else "",
        schedule.subject,
        str(schedule.size),
        schedule.state,
        "" if schedule.last is None else times.utc(schedule.last),
        schedule.when,
        "" if schedule.outcome is None else schedule.outcome.reason,
    )


def cells(schedule: Schedule) -> tuple[Cell, ...]:
    """Return a line for people."""
    style = _style(schedule)
    return (
        _shown_id(schedule),
        times.local(schedule.due),
        (times.left(schedule.due, datetime.now(UTC)) if is_coming(schedule) else "-", style),
        schedule.subject,
        size(schedule.size),
        (schedule.state, style),
    )


def recurring_cells(schedule: Schedule) -> tuple[Cell, ...]:
    """Return a line for people, of a list with recurring schedules."""
    style, now, is_next = _style(schedule), datetime.now(UTC), is_coming(schedule)
    return (
        _shown_id(schedule),
        times.local_short(schedule.due, now) if is_next or not schedule.recurs else "-",
        (times.left(schedule.due, now).removeprefix("in ") if is_next else "-", style),
        "-" if schedule.last is None else times.ago(schedule.last, now),
        schedule.when if schedule.recurs else "-",
        schedule.subject,
        (schedule.state, style),
    )


def _with_result(cells: Callable[[Schedule], tuple[Cell, ...]]) -> Callable[..., Sequence[Cell]]:
    """Add how the last run ended to a line for people."""

    def more(schedule: Schedule) -> tuple[Cell, ...]:
        if schedule.outcome is None:
            return (*cells(schedule), "-")
        result = schedule.outcome.reason
        return (*cells(schedule), (result, RESULT_STYLES.get(result, "")))

    return more


def _is_answered(schedule: Schedule) -> bool:
    """Return whether its receiver has to confirm it."""
    return schedule.confirm in ("reply", "claim")


def size(count: int) -> str:
    """Format a number of bytes for people."""
    if count < _KIB:
        return f"{count} B"
    return f"{count / _KIB:.1f} KiB" if count < _KIB**2 else f"{count / _KIB**2:.1f} MiB"


def _style(schedule: Schedule) -> str:
    return _STYLES.get(State(schedule.state), "")


def _shown_id(schedule: Schedule) -> Cell:
    return (schedule.id, "bold") if schedule.id is not None else (_anonymous(schedule), "dim")


def _anonymous(schedule: Schedule) -> str:
    """Name a schedule without an id: an invalid one by its key, to be found in the bucket."""
    return schedule.key if schedule.state == State.INVALID else "-"


def _name(schedule: Schedule) -> str | None:
    return schedule.id


HEADS = ("ID", "DUE", "LEFT", "SUBJECT", "SIZE", "STATE", "LAST", "WHEN", "RESULT")

LEAST = {"ID": 36, "SUBJECT": 12, "WHEN": 12}
"""Least widths in a narrow terminal: most ids are UUIDs, and a wrapped id cannot be copied."""

SHEET: TableSpec[Schedule] = TableSpec(
    HEADS,
    cells,
    fields,
    record,
    _name,
    HEADS[:6],
    narrow=Narrow(LEAST, (("ID", "SUBJECT"), ("DUE", "LEFT"), ("STATE", "SIZE"))),
)

RECURRING: TableSpec[Schedule] = TableSpec(
    HEADS,
    recurring_cells,
    fields,
    record,
    _name,
    ("ID", "NEXT", "LEFT", "LAST", "WHEN", "SUBJECT", "STATE"),
    frozenset({"NEXT", "LEFT", "LAST", "STATE"}),
    Narrow(LEAST, (("ID", "SUBJECT"), ("NEXT", "WHEN"), ("LEFT", "LAST"), ("STATE",))),
)


ANSWERED: TableSpec[Schedule] = TableSpec(
    HEADS,
    _with_result(recurring_cells),
    fields,
    record,
    _name,
    (*RECURRING.columns, "RESULT"),
    RECURRING.whole | {"RESULT"},
    Narrow(LEAST, (("ID", "SUBJECT"), ("NEXT", "WHEN"), ("LEFT", "LAST"), ("STATE", "RESULT"))),
)
"""With how the last run ended, which only recurring schedules have."""


def sheet_for(schedules: Iterable[Schedule]) -> TableSpec[Schedule]:
    """Return how to print schedules: for people, some need other columns."""
    recurring = [one for one in schedules if one.recurs]
    if any(map(_is_answered, recurring)):
        return ANSWERED
    return RECURRING if recurring else SHEET


ORDERS: Mapping[Order, Any] = {
    Order.DUE: lambda schedule: (schedule.due, schedule.id or ""),
    Order.ID: lambda schedule: (schedule.id is None, schedule.id or ""),
    Order.CREATED: lambda schedule: (schedule.created, schedule.id or ""),
    Order.SIZE: lambda schedule: (schedule.size, schedule.due),
}


def id_matches(glob: str, id_: str | None) -> bool:
    """Return whether an id matches a pattern of `--id`."""
    return id_ is not None and _glob(glob).match(id_) is not None


@functools.cache
def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern))
