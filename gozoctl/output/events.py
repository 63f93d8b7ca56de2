"""How commands print events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gozo.protocol.event_kinds import Kind
from gozoctl.output import times
from gozoctl.output.printer import Cell, TableSpec

if TYPE_CHECKING:
    from gozo.client import Event


def _late(event: Event) -> str:
    return "" if event.late_ms is None else f"{event.late_ms:.1f}"


def _detail(event: Event) -> str:
    """Return the rest of an event: why, how, or by whom."""
    match event.kind:
        case "refused":
            return f"{event.error}: {event.message}"
        case "accepted":
            marks = [event.state] if event.state != "pending" else []
            marks += ["replaced"] if event.replaced else []
            return f"{event.when} ({', '.join(marks)})" if marks else event.when
        case "rescheduled":
            return event.when
        case "paused":
            return event.note
        case "started":
            return f"attempt {event.attempt}"
        case "succeeded":
            return f"after {_tries(event)}"
        case "failed":
            return f"after {_tries(event)}: {event.reason}"
        case "alert":
            return ": ".join(filter(None, (event.outcome, event.reason)))
        case "leader":
            return event.daemon
        case _:
            return event.reason


def _tries(event: Event) -> str:
    return "1 attempt" if event.attempts == 1 else f"{event.attempts} attempts"


def _fields(event: Event) -> tuple[str, ...]:
    return (
        times.utc(event.at),
        event.kind,
        event.id or "",
        "" if event.due is None else times.utc(event.due),
        _late(event),
        event.subject,
        _detail(event),
    )


_WIDEST = max(map(len, Kind))

_STYLES = {
    **dict.fromkeys(("failed", "missed", "overdue", "alert", "refused", "invalid"), "red"),
    **dict.fromkeys(("retrying", "paused", "skipped"), "yellow"),
    **dict.fromkeys(("delivered", "succeeded"), "green"),
    "leader": "bold",
}


def _words(event: Event) -> str:
    """Describe an event for people, without its kind."""
    words = [f"to {event.subject}"] if event.subject else []
    if event.late_ms is not None:
        words.append(f"{event.late_ms:.1f} ms late")
    elif event.due is not None:
        words.append(f"due {times.local(event.due)}")
    if detail := _detail(event):
        words.append(detail)
    return ", ".join(words)


def _line(event: Event) -> tuple[Cell, ...]:
    return (times.clock(event.at), f"{event.kind:{_WIDEST}}", event.id or "-", _words(event))


def _dated_line(event: Event) -> tuple[Cell, ...]:
    return (times.local(event.at), *_line(event)[1:])


def _row(event: Event) -> tuple[Cell, ...]:
    return (times.local(event.at), (event.kind, _STYLES.get(event.kind, "")), _words(event))


def _row_of_many(event: Event) -> tuple[Cell, ...]:
    at, kind, words = _row(event)
    return (at, kind, event.id or "-", words)


def _record(event: Event) -> dict[str, Any]:
    record: dict[str, Any] = {
        "event": event.kind,
        "at": times.utc(event.at),
        "daemon": event.daemon,
        "id": event.id,
    }
    if event.subject:
        record["subject"] = event.subject
    if event.due is not None:
        record["due"] = times.utc(event.due)
    if event.kind == "rescheduled":
        record["when"] = event.when
    if event.kind == "accepted":
        record |= {"when": event.when, "state": event.state, "replaced": event.replaced}
    if event.late_ms is not None:
        record["late_ms"] = event.late_ms
    if event.error:
        record |= {"error": event.error, "message": event.message}
    more = ("attempt", "attempts", "reason", "note", "outcome", "host")
    record |= {name: value for name in more if (value := getattr(event, name))}
    for name in ("exit_status", "took"):
        if getattr(event, name) is not None:
            record[name] = getattr(event, name)
    return record


def _name(event: Event) -> str | None:
    return event.id


HEADS = ("AT", "EVENT", "ID", "DUE", "LATE_MS", "SUBJECT", "DETAIL")

EVENTS: TableSpec[Event] = TableSpec(HEADS, _fields, _fields, _record, _name)
LINES: TableSpec[Event] = TableSpec(("AT", "EVENT", "ID", "WHAT"), _line, _fields, _record, _name)
"""For people who follow events as they happen."""
ROWS: TableSpec[Event] = TableSpec(("AT", "EVENT", "WHAT"), _row, _fields, _record, _name)
"""For people who look at the past events of one schedule."""

LINES_OF_MANY: TableSpec[Event] = TableSpec(LINES.heads, _dated_line, _fields, _record, _name)
"""For people who look at more past events than fit into a table."""
ROWS_OF_MANY: TableSpec[Event] = TableSpec(LINES.heads, _row_of_many, _fields, _record, _name)
"""For people who look at past events of many schedules."""
