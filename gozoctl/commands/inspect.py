"""`gozoctl inspect`: shows everything about schedules."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from gozo.cli.options import takes
from gozo.protocol.header_names import explain
from gozo.runtime.logs import visible
from gozo.schedule.model import MICROSECONDS
from gozoctl.exit_codes import DONE, NOT_FOUND
from gozoctl.options import completion
from gozoctl.options.timing import zone_of
from gozoctl.output import times
from gozoctl.output.confirming import confirming_lines, confirming_record, run_lines
from gozoctl.output.payloads import payload_record, preview
from gozoctl.output.printer import Output, console
from gozoctl.output.runs import ended_run, outcome_lines
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

    Shows their runs as well: occurrences that await their receiver's answer, or failed.
    With -o json, prints an object for one id and an array for several.
    """

    async def work(session: Session) -> int:
        found: list[_Shown] = []
        for id_ in ids:
            schedule = await session.client.get(id_)
            runs = await session.client.current_runs(id_)
            if schedule is not None:
                found.append(_Shown(schedule, runs))
            elif runs:
                found.append(_Shown(runs[-1], runs))
            else:
                await _explain(session, id_)
        if payload:
            for one in found:
                _write_payload(session.out, one.schedule.payload or b"")
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


class _Shown(NamedTuple):
    """A schedule, or its latest run if it is gone, with all of its runs."""

    schedule: Schedule
    runs: list[Schedule]

    @property
    def others(self) -> list[Schedule]:
        """The runs, without the one that stands for the schedule."""
        return [run for run in self.runs if run.key != self.schedule.key]

    def record(self, now: datetime) -> dict[str, Any]:
        """Return all of it for JSON."""
        runs = {"runs": [record(run) for run in self.runs]} if self.runs else {}
        return full_record(self.schedule, now) | runs


def _print(session: Session, found: list[_Shown], *, as_array: bool) -> None:
    out = session.out
    match out.format:
        case "json" if as_array:
            out.array([one.record(session.now) for one in found])
        case "json" | "jsonl":
            for one in found:
                out.json(one.record(session.now))
        case "table":
            for number, one in enumerate(found):
                _show(one, session.now, first=number == 0)
        case _:
            for one in found:
                _write(out, one, session.now)


def _write(out: Output, shown: _Shown, now: datetime) -> None:
    """Print a schedule for scripts."""
    schedule = shown.schedule
    if out.format == "id":
        out.write(schedule.id or "-")
        return
    named = zip(_FIELDS, fields(schedule), strict=False)
    lines = [*named, *details(schedule, now, people=False)]
    for run in shown.others:
        lines += _of_run(run, times.utc)
    for name, value in lines:
        out.write_fields(name, value)


_FIELDS = ("id", "due", "left", "subject", "size", "state", "last", "when")
"""The first fields of a list."""


def _of_run(run: Schedule, write: Callable[[datetime], str]) -> list[tuple[str, str]]:
    """Return the lines of a run below those of its schedule."""
    return [
        *run_lines(run, write),
        ("due", write(run.due)),
        ("state", run.state),
        *_state_lines(run, write),
    ]


def _show(shown: _Shown, now: datetime, *, first: bool) -> None:
    """Print a schedule for people."""
    schedule = shown.schedule
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
    blocks = [lines, *(_of_run(run, _local) for run in shown.others)]
    width = max(_WIDTH, *(len(name) for block in blocks for name, _ in block))
    for number, block in enumerate(blocks):
        _show_lines(block, width, first=first and number == 0)


_WIDTH = 9
"""The least width of the names for people."""


def _show_lines(lines: list[tuple[str, str]], width: int, *, first: bool) -> None:
    from rich.text import Text  # noqa: PLC0415  # for a terminal only

    screen = console()
    if not first:
        screen.print()
    for name, value in lines:
        screen.print(Text.assemble((f"{name:>{width}}  ", "bold"), visible(value)), soft_wrap=True)


def details(schedule: Schedule, now: datetime, *, people: bool) -> list[tuple[str, str]]:
    """Return what a list does not show, by name."""
    write = _local if people else times.utc
    lines = [("when", schedule.when)] if people else []
    lines += _recurrence(schedule, now, people=people)
    lines.append(("created", write(schedule.created)))
    lines.append(("revision", str(schedule.revision)))
    lines += confirming_lines(schedule)
    if schedule.protected:
        lines.append(("protected", "yes"))
    if schedule.managed_by:
        lines.append(("set", schedule.managed_by))
    if schedule.is_run:
        lines += run_lines(schedule, write)
    lines += _state_lines(schedule, write)
    if schedule.outcome is not None and not schedule.is_run:
        lines += outcome_lines(ended_run(schedule.outcome), write)
    if schedule.overdue_at is not None:
        lines.append(("overdue at", write(schedule.overdue_at)))
    lines += [("header", f"{name}: {value}") for name, value in schedule.headers]
    lines.append(("payload", preview(schedule.payload or b"")))
    return lines


def _state_lines(schedule: Schedule, write: Callable[[datetime], str]) -> list[tuple[str, str]]:
    """Return what there is to say of its state, by name."""
    lines: list[tuple[str, str]] = []
    if schedule.tried:
        lines.append(("tried", str(schedule.tried)))
    if schedule.next is not None:
        lines.append(("next try", write(schedule.next)))
    if schedule.reason:
        lines.append(("note" if schedule.state == "paused" else "reason", schedule.reason))
    lines += [("warning", explain(name)) for name in schedule.unknown_headers]
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
    lines = record(schedule) | confirming_record(schedule)
    lines |= {
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
