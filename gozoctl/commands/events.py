"""`gozoctl events`: what daemons tell of schedules, and how that is printed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gozo.cli.options import takes
from gozo.protocol.event_kinds import Kind
from gozoctl.exit_codes import DONE
from gozoctl.options import completion as completing
from gozoctl.output import times
from gozoctl.output.printer import Cell, Lines, TableSpec
from gozoctl.session import OPTIONS, NoHeader, Session, connected, while_read

if TYPE_CHECKING:
    from gozo.client import Event


def _late(event: Event) -> str:
    return "" if event.late_ms is None else f"{event.late_ms:.1f}"


def _detail(event: Event) -> str:
    """What there is to tell besides: why, how, or by whom."""
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
        case "failed":
            tries = "1 attempt" if event.attempts == 1 else f"{event.attempts} attempts"
            return f"after {tries}: {event.reason}"
        case "leader":
            return event.daemon
        case _:
            return event.reason


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
    **dict.fromkeys(("failed", "missed", "refused", "invalid"), "red"),
    "retrying": "yellow",
    "paused": "yellow",
    "delivered": "green",
    "leader": "bold",
}


def _said(event: Event) -> str:
    """Tell a person what there is to tell besides the kind."""
    words = [f"to {event.subject}"] if event.subject else []
    if event.late_ms is not None:
        words.append(f"{event.late_ms:.1f} ms late")
    elif event.due is not None:
        words.append(f"due {times.local(event.due)}")
    if detail := _detail(event):
        words.append(detail)
    return ", ".join(words)


def _line(event: Event) -> tuple[Cell, ...]:
    return (times.clock(event.at), f"{event.kind:{_WIDEST}}", event.id or "-", _said(event))


def _dated_line(event: Event) -> tuple[Cell, ...]:
    return (times.local(event.at), *_line(event)[1:])


def _row(event: Event) -> tuple[Cell, ...]:
    return (times.local(event.at), (event.kind, _STYLES.get(event.kind, "")), _said(event))


def _row_of_many(event: Event) -> tuple[Cell, ...]:
    at, kind, said = _row(event)
    return (at, kind, event.id or "-", said)


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
    if event.attempts:
        record["attempts"] = event.attempts
    if event.reason:
        record["reason"] = event.reason
    if event.note:
        record["note"] = event.note
    return record


def _name(event: Event) -> str | None:
    return event.id


HEADS = ("AT", "EVENT", "ID", "DUE", "LATE_MS", "SUBJECT", "DETAIL")

EVENTS: TableSpec[Event] = TableSpec(HEADS, _fields, _fields, _record, _name)
LINES: TableSpec[Event] = TableSpec(("AT", "EVENT", "ID", "WHAT"), _line, _fields, _record, _name)
"""For a person who watches them come."""
ROWS: TableSpec[Event] = TableSpec(("AT", "EVENT", "WHAT"), _row, _fields, _record, _name)
"""For a person who looks back at those of one schedule."""

LINES_OF_MANY: TableSpec[Event] = TableSpec(LINES.heads, _dated_line, _fields, _record, _name)
"""For a person who looks back at more than a table has room for."""
ROWS_OF_MANY: TableSpec[Event] = TableSpec(LINES.heads, _row_of_many, _fields, _record, _name)
"""For a person who looks back at those of many schedules."""


@takes(OPTIONS)
def events(
    ctx: typer.Context,
    id_: Annotated[
        str | None,
        typer.Argument(
            metavar="ID",
            help="Only what is told of this schedule.",
            show_default=False,
            autocompletion=completing.ids,
        ),
    ] = None,
    *,
    count: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="End after so many events.")
    ] = None,
    no_header: NoHeader = False,
    **given: Any,
) -> None:
    """Print what happens to schedules, as it happens.

    Daemons that run with `gozo serve --events` report what was accepted, delivered, tried again,
    given up, missed, refused, cancelled, rescheduled, paused, resumed, triggered or found
    invalid, and which of them leads.
    """

    async def work(session: Session) -> int:
        lines = Lines(session.out, LINES if session.out.is_for_people else EVENTS)
        got = 0
        with while_read():
            async with session.client.events(id_) as following:
                session.out.say("listening for events")
                lines.begin()
                session.out.flush()
                async for event in following:
                    lines.put(event)
                    session.out.flush()
                    got += 1
                    if got == count:
                        break
        return DONE

    connected(ctx, given, work, header=not no_header)
