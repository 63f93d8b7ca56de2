"""`gozoctl history`: what daemons told of schedules, as far as a stream has kept it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gozo.cli.options import takes
from gozo.errors import SettingsError
from gozo.protocol.event_kinds import Kind
from gozoctl.commands.events import EVENTS, LINES_OF_MANY, ROWS, ROWS_OF_MANY
from gozoctl.exit_codes import DONE, NOT_FOUND
from gozoctl.options import completion as completing
from gozoctl.options import past_moments as bygone
from gozoctl.output import times
from gozoctl.output.printer import Elements, Lines, Output
from gozoctl.session import OPTIONS, NoHeader, Session, connected

if TYPE_CHECKING:
    from gozo.client import Event, HistoryInfo

TABLE = 1_000
"""Events that a person gets as a table; more come line by line, and none waits in memory."""


@takes(OPTIONS)
def history(
    ctx: typer.Context,
    id_: Annotated[
        str | None,
        typer.Argument(
            metavar="ID",
            help="Only what happened to this schedule.",
            show_default=False,
            autocompletion=completing.ids,
        ),
    ] = None,
    *,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only from then on: 2h (ago), 17:30 or yesterday."),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only before then; as --since.")
    ] = None,
    types: Annotated[
        list[Kind] | None,
        typer.Option(
            "--type", help="Only events of this type; may be given again.", show_default=False
        ),
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            help="Only events with such a subject; * and > are wildcards, as in NATS.",
            autocompletion=completing.subjects,
        ),
    ] = None,
    no_header: NoHeader = False,
    **given: Any,
) -> None:
    """Print what happened to schedules, the oldest first.

    Reads the events that `gozo serve --history` keeps; --since and --until mean the time at
    which the server stored them. Events of the types missed, refused, cancelled, invalid and
    leader have no subject. Exits 3 if no history is kept, or if it has nothing that matches of ID.
    """
    now = datetime.now(UTC)

    def span() -> tuple[datetime | None, datetime | None]:
        begin = None if since is None else bygone.since(since, now)
        end = None if until is None else bygone.moment(until, now, "--until")
        if begin is not None and end is not None and end <= begin:
            raise SettingsError(f"--until {until!r} is not after --since {since!r}: give it later")
        return begin, end

    async def work(session: Session) -> int:
        begin, end = span()
        told = session.client.history(
            id_, since=begin, until=end, kinds=types or (), subject=subject
        )
        got = await _print(session.out, told, of_one=id_ is not None)
        if got and begin is None:
            return DONE
        info = await session.client.history_info()
        kept = "" if info is None else _kept(info, session.client.settings.request_subject)
        if got:
            if begin is not None and info is not None and info.first and begin < info.first:
                session.out.say(f"nothing earlier is known: {kept}")
            return DONE
        narrowed = " that matches" if since or until or types or subject else ""
        if id_ is None:
            session.out.say(f"nothing{narrowed} is known: {kept}")
            return DONE
        session.out.fail(f"nothing{narrowed} is known of a schedule {id_!r}: {kept}")
        return NOT_FOUND

    connected(ctx, given, work, header=not no_header, before=lambda out: bool(span()))


async def _print(out: Output, told: AsyncIterator[Event], *, of_one: bool) -> int:
    """Print events as they come, and return how many there were."""
    got = 0
    if out.format == "json":
        elements = Elements()
        async for event in told:
            elements.put(EVENTS.record(event))
            got += 1
        elements.end()
        return got
    first: list[Event] = []
    lines = Lines(out, LINES_OF_MANY if out.is_for_people else EVENTS)
    async for event in told:
        got += 1
        if out.is_for_people and got <= TABLE:
            first.append(event)
            continue
        for one in first:
            lines.put(one)
        first.clear()
        lines.put(event)
    if first:
        out.all(ROWS if of_one else ROWS_OF_MANY, first)
    return got


def _kept(info: HistoryInfo, request_subject: str) -> str:
    """Say what a stream has of events, and for how long it keeps them."""
    subject = f"{request_subject}.event.>"
    if not info.is_current:
        return (
            f"{info.name} keeps {', '.join(info.subjects) or 'nothing'}, and not {subject}: start "
            "the daemons with --history 30d, or another length"
        )
    limits = ["without end"] if info.max_age is None else [f"for {times.span(info.max_age)}"]
    for name, unit in (("max_msgs", "events"), ("max_bytes", "bytes")):
        if (most := int(info.settings.get(name) or 0)) > 0:
            limits.append(f"{most} {unit} at most")
    has = "has none yet"
    if info.first is not None and info.last is not None:
        has = f"has them from {times.local(info.first)} to {times.local(info.last)}"
    return f"{info.name} keeps events {', '.join(limits)}, and {has}"
