"""`gozoctl inspect`: shows everything about schedules."""

from __future__ import annotations

import sys
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gozo.cli.options import takes
from gozo.protocol.header_names import explain
from gozo.runtime.logs import visible
from gozo.schedule.model import MICROSECONDS
from gozoctl.exit_codes import DONE, NOT_FOUND
from gozoctl.options import completion
from gozoctl.options.timing import zone_of
from gozoctl.output import times
from gozoctl.output.payloads import payload_record, preview
from gozoctl.output.printer import Output, console
from gozoctl.output.schedules import fields, is_coming, record, size, zone_name
from gozoctl.session import OPTIONS, Session, connected

if TYPE_CHECKING:
    from gozo.client import Schedule

FOLLOWING = 5  # next due times to show


@takes(OPTIONS)
def command(
    ctx: typer.Context,
    ids: Annotated[
        list[str],
        typer.Argument(metavar="ID", help="Ids of the schedules.", autocompletion=completion.ids),
    ],
    *,
    payload: Annotated[
        bool,
        typer.Option(
            "--payload",
            help="Print only the payload, unchanged (escaped on a terminal).",
        ),
    ] = False,
    **given: Any,
) -> None:
    """Show everything about schedules.

    With -o json, prints an object for one id and an array for several.
    """

    async def work(session: Session) -> int:
        found: list[Schedule] = []
        for id_ in ids:
            schedule = await session.client.get(id_)
            if schedule is not None:
                found.append(schedule)
            else:
                await _explain(session, id_)
        if payload:
            for one in found:
                _write_payload(session.out, one.payload or b"")
        else:
            _print(session, found, as_array=len(ids) > 1)
        return DONE if len(found) == len(ids) else NOT_FOUND

    connected(ctx, given, work)


def _write_payload(out: Output, payload: bytes) -> None:
    """Write a payload unchanged; on a terminal, with unprintable characters escaped."""
    if out.is_terminal:
        for line in payload.decode("utf-8", "backslashreplace").splitlines():
            out.write(line)
    else:
        sys.stdout.buffer.write(payload)
        sys.stdout.buffer.flush()


def _print(session: Session, found: list[Schedule], *, as_array: bool) -> None:
    out = session.out
    match out.format:
        case "json" if as_array:
            out.array([full_record(one, session.now) for one in found])
        case "json" | "jsonl":
            for one in found:
                out.json(full_record(one, session.now))
        case "table":
            for number, one in enumerate(found):
                _show(one, session.now, first=number == 0)
        case _:
            for one in found:
                _write(out, one, session.now)


def _write(out: Output, schedule: Schedule, now: datetime) -> None:
    """Print a schedule for scripts."""
    if out.format == "id":
        out.write(schedule.id or "-")
        return
    named = zip(_FIELDS, fields(schedule), strict=True)
    for name, value in (*named, *details(schedule, now, people=False)):
        out.write_fields(name, value)


_FIELDS = ("id", "due", "left", "subject", "size", "state", "last", "when")


def _show(schedule: Schedule, now: datetime, *, first: bool) -> None:
    """Print a schedule for people."""
    from rich.text import Text  # noqa: PLC0415  # for a terminal only

    due = times.local(schedule.due, with_zone=True)
    if is_coming(schedule):
        due += f", {times.left(schedule.due, now)}"
    lines = [
        ("id", schedule.id or "-"),
        ("subject", schedule.subject),
        *([("due", due)] if is_coming(schedule) or not schedule.recurs else []),
        ("state", schedule.state),
        ("size", size(schedule.size)),
        *details(schedule, now, people=True),
    ]
    screen = console()
    if not first:
        screen.print()
    for name, value in lines:
        screen.print(Text.assemble((f"{name:>9}  ", "bold"), visible(value)), soft_wrap=True)


def details(schedule: Schedule, now: datetime, *, people: bool) -> list[tuple[str, str]]:
    """Return what a list does not show, by name."""
    write = _local if people else times.utc
    lines = [("when", schedule.when)] if people else []
    lines += _recurrence(schedule, now, people=people)
    lines.append(("created", write(schedule.created)))
    lines.append(("revision", str(schedule.revision)))
    if schedule.confirm:
        tries = f"{schedule.attempts} attempts" if schedule.attempts else "any number of attempts"
        lines.append(("confirm", f"by a stream, {tries}"))
    if schedule.protected:
        lines.append(("protected", "yes"))
    if schedule.managed_by:
        lines.append(("set", schedule.managed_by))
    if schedule.tried:
        lines.append(("tried", str(schedule.tried)))
    if schedule.next is not None:
        lines.append(("next try", write(schedule.next)))
    if schedule.reason:
        lines.append(("note" if schedule.state == "paused" else "reason", schedule.reason))
    lines += [("warning", explain(name)) for name in schedule.unknown_headers]
    lines += [("header", f"{name}: {value}") for name, value in schedule.headers]
    lines.append(("payload", preview(schedule.payload or b"")))
    return lines


def _recurrence(schedule: Schedule, now: datetime, *, people: bool) -> list[tuple[str, str]]:
    """Return the spec of a schedule and its next due times."""
    spec = schedule.spec
    if spec is None:
        return []
    lines: list[tuple[str, str]] = []
    zone = zone_of(spec.zone) if spec.zone else None

    def write(moment: datetime) -> str:
        return times.local(moment, with_zone=True, zone=zone) if people else times.utc(moment)

    if spec.recurs:
        if (name := zone_name(schedule)) is not None:
            lines.append(("time zone", name))
        if schedule.start is not None:
            lines.append(("start", write(schedule.start)))
        if schedule.until is not None:
            lines.append(("until", write(schedule.until)))
        of = f" of {spec.count}" if spec.count else ""
        lines.append(("delivered", f"{spec.occurred}{of}"))
        if people and schedule.last is not None:
            lines.append(("last", f"{write(schedule.last)}, {times.left(schedule.last, now)}"))
        if spec.jitter_us:
            lines.append(("jitter", f"up to {spec.jitter_us / MICROSECONDS:g} s"))
    later = "" if spec.grace_us is None else f", if later than {spec.grace_us / MICROSECONDS:g} s"
    lines.append(("misfire", f"{spec.misfire}{later}"))
    if spec.recurs:
        lines += [("next", write(moment)) for moment in _next_times(schedule, now)]
    return lines


def _next_times(schedule: Schedule, now: datetime) -> list[datetime]:
    from gozo.client import next_times  # noqa: PLC0415  # not needed for --help

    return list(islice(next_times(schedule, now), FOLLOWING)) if is_coming(schedule) else []


def full_record(schedule: Schedule, now: datetime) -> dict[str, Any]:
    """Return a schedule that was read with its payload for JSON."""
    body = schedule.payload or b""
    lines = record(schedule) | {
        "confirm": schedule.confirm,
        "attempts": schedule.attempts,
        "set": schedule.managed_by or None,
        "tried": schedule.tried,
        "next": times.utc(schedule.next) if schedule.next is not None else None,
    }
    if schedule.recurs:
        lines["upcoming"] = [times.utc(one) for one in _next_times(schedule, now)]
    return lines | payload_record(body)


async def _explain(session: Session, id_: str) -> None:
    """Report that no schedule has an id, and what happened to it if that is known."""
    outcome = await session.client.last_outcome(id_)
    if outcome is None or not outcome.reason:
        session.out.fail(f"no schedule {id_!r}")
    else:
        at = "within the last minutes" if outcome.at is None else session.out.moment(outcome.at)
        session.out.fail(f"no schedule {id_!r}: {outcome.reason} {at}")


def _local(moment: datetime) -> str:
    return times.local(moment, with_zone=True)
