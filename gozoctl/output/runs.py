"""How commands print runs: those that have ended, and those that have not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from gozoctl.output import times
from gozoctl.output.layout import Narrow
from gozoctl.output.payloads import text_record
from gozoctl.output.printer import Cell, TableSpec

if TYPE_CHECKING:
    from gozo.client import Outcome, Schedule

WAITING = "waiting"
"""What is shown of a run that has not begun."""

STYLES = {
    "succeeded": "green",
    "running": "green",
    **dict.fromkeys(("retrying", "skipped", WAITING), "yellow"),
    **dict.fromkeys(("failed", "unanswered", "nobody", "missed", "overdue"), "red"),
}


@dataclass(frozen=True, slots=True)
class ShownRun:
    """A run, whether it has ended or not."""

    id: str | None
    subject: str
    occurrence: str
    due: datetime | None
    started: datetime | None
    ended: datetime | None
    """None if it has not."""
    took: timedelta | None
    """So far, if it is running."""
    host: str
    outcome: str
    """`running`, `retrying` or `waiting` if it has not ended."""
    exit_status: int | None
    attempt: int
    late: bool
    reason: str
    output: bytes | None = None
    """None if it is not to be shown, or if there is none."""


def ended_run(outcome: Outcome, output: bytes | None = None) -> ShownRun:
    """Return how a run ended."""
    return ShownRun(
        outcome.id,
        outcome.subject,
        outcome.occurrence,
        outcome.due,
        outcome.started,
        outcome.at,
        outcome.took,
        outcome.host,
        outcome.reason,
        outcome.exit_status,
        outcome.attempt,
        outcome.late,
        outcome.detail,
        output,
    )


def current_run(run: Schedule, now: datetime) -> ShownRun:
    """Return a run of the bucket."""
    is_running = run.state == "running"
    return ShownRun(
        run.id,
        run.subject,
        run.occurrence,
        run.due,
        run.sent,
        None,
        max(now - run.sent, timedelta()) if is_running and run.sent is not None else None,
        "",
        WAITING if run.state == "pending" else run.state,
        None,
        run.attempt,
        late=False,
        reason=run.reason,
    )


def took(length: timedelta | None) -> str:
    """Format how long a run took: `0.4s`, `12.5s`, `1h 2min`."""
    if length is None:
        return "-"
    seconds = length.total_seconds()
    return f"{seconds:.1f}s" if seconds < 60 else times.span(length)  # noqa: PLR2004  # a minute


def outcome_record(run: ShownRun) -> dict[str, Any]:
    """Return how a run ended for JSON; durations are seconds."""
    return {
        "due": _utc(run.due) or None,
        "started": _utc(run.started) or None,
        "ended": _utc(run.ended) or None,
        "took": None if run.took is None else run.took.total_seconds(),
        "host": run.host,
        "outcome": run.outcome,
        "exit_status": run.exit_status,
        "attempt": run.attempt,
        "late": run.late,
    }


def outcome_lines(run: ShownRun, write: Callable[[datetime], str]) -> list[tuple[str, str]]:
    """Return how a run ended, by name; `write` prints a moment."""
    moments = (("run due", run.due), ("run started", run.started), ("run ended", run.ended))
    return [
        ("result", f"{run.outcome}, late" if run.late else run.outcome),
        *((name, write(moment)) for name, moment in moments if moment is not None),
        *([("run took", took(run.took))] if run.took is not None else []),
        *([("host", run.host)] if run.host else []),
        *([("exit status", str(run.exit_status))] if run.exit_status is not None else []),
        *([("attempts", str(run.attempt))] if run.attempt else []),
    ]


def _record(run: ShownRun) -> dict[str, Any]:
    found = {"id": run.id, "subject": run.subject, "occurrence": run.occurrence}
    found |= outcome_record(run) | {"reason": run.reason}
    return found if run.output is None else found | text_record("output", run.output)


def _fields(run: ShownRun) -> tuple[str, ...]:
    return (
        _utc(run.due),
        _utc(run.started),
        "" if run.took is None else f"{run.took.total_seconds():.3f}",
        run.host,
        run.outcome,
        "" if run.exit_status is None else str(run.exit_status),
        str(run.attempt or ""),
        run.id or "",
        run.reason,
    )


def _fields_with_output(run: ShownRun) -> tuple[str, ...]:
    output = b"" if run.output is None else run.output
    return (*_fields(run), output.decode("utf-8", "backslashreplace"))


def _cells(run: ShownRun) -> tuple[Cell, ...]:
    reason = "late" if run.late else run.reason
    return (
        "-" if run.due is None else times.local(run.due),
        _beside(run.started, run.due),
        took(run.took),
        run.host or "-",
        (run.outcome, STYLES.get(run.outcome, "")),
        "-" if run.exit_status is None else str(run.exit_status),
        str(run.attempt or "-"),
        reason,
    )


def _cells_of_many(run: ShownRun) -> tuple[Cell, ...]:
    return ((run.id, "bold") if run.id is not None else "-", *_cells(run))


def _beside(moment: datetime | None, other: datetime | None) -> str:
    """Format a moment beside another: only the time of day, if they are less than 12 h apart."""
    if moment is None:
        return "-"
    is_near = other is not None and abs(moment - other) < timedelta(hours=12)
    return times.clock(moment).partition(".")[0] if is_near else times.local(moment)


def _utc(moment: datetime | None) -> str:
    return "" if moment is None else times.utc(moment.astimezone(UTC))


def _name(run: ShownRun) -> str | None:
    return run.id


_COLUMNS = ("DUE", "STARTED", "TOOK", "HOST", "OUTCOME", "EXIT", "ATTEMPT")
HEADS = (*_COLUMNS, "ID", "REASON")
_LEAST = {"ID": 36, "REASON": 12}

RUNS: TableSpec[ShownRun] = TableSpec(
    HEADS,
    _cells,
    _fields,
    _record,
    _name,
    (*_COLUMNS, "REASON"),
    narrow=Narrow(
        _LEAST,
        (("DUE", "REASON"), ("STARTED", "HOST"), ("TOOK", "ATTEMPT"), ("OUTCOME", "EXIT")),
    ),
)
"""Of one schedule."""

RUNS_OF_MANY: TableSpec[ShownRun] = TableSpec(
    HEADS,
    _cells_of_many,
    _fields,
    _record,
    _name,
    ("ID", *_COLUMNS, "REASON"),
    narrow=Narrow(
        _LEAST,
        (("ID", "REASON"), ("DUE", "HOST"), ("STARTED", "TOOK"), ("OUTCOME", "EXIT"), ("ATTEMPT",)),
    ),
)

LINES: TableSpec[ShownRun] = TableSpec(
    ("ID", *_COLUMNS, "REASON"), _cells_of_many, _fields, _record, _name
)
"""Of many, for people, line by line."""

WITH_OUTPUT: TableSpec[ShownRun] = TableSpec(
    (*HEADS, "OUTPUT"), _cells_of_many, _fields_with_output, _record, _name
)
"""For programs, with the output."""
