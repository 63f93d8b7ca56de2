"""`gozoctl history`: prints past events, as far as a stream has kept them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gozo.cli.options import takes
from gozo.errors import SettingsError, invalid_value
from gozo.protocol.event_kinds import Kind
from gozoctl.exit_codes import DONE, NOT_FOUND
from gozoctl.options import completion, past_moments
from gozoctl.options.selection import OfSchedule
from gozoctl.output import times
from gozoctl.output.events import EVENTS, LINES_OF_MANY, ROWS, ROWS_OF_MANY
from gozoctl.output.printer import Elements, Lines, Output
from gozoctl.session import OPTIONS, NoHeader, Session, connected

if TYPE_CHECKING:
    from gozo.client import Event, HistoryInfo

TABLE = 1_000
"""Events printed to people as a table; more are printed line by line, without waiting in memory."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """The options that select events."""

    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Only events since this time: 2h (ago), 17:30 or yesterday."
        ),
    ] = None
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only events before this time; as --since.")
    ] = None
    types: Annotated[
        list[Kind] | None,
        typer.Option(
            "--type",
            metavar="TYPE",
            help=f"Only events of this type; repeatable. One of {', '.join(Kind)}.",
            show_default=False,
        ),
    ] = None
    subject: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            help="Only events whose subject matches; * and > are wildcards, as in NATS.",
            autocompletion=completion.subjects,
        ),
    ] = None
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def span(self) -> tuple[datetime | None, datetime | None]:
        """The moments of --since and --until.

        Raises:
            SettingsError: one of them is invalid.
        """
        begin = None if self.since is None else past_moments.since(self.since, self.now)
        end = None if self.until is None else past_moments.moment(self.until, self.now, "--until")
        if begin is not None and end is not None and end <= begin:
            problem = f"it is not after --since {self.since!r}; expected a later time"
            raise SettingsError(invalid_value("--until", self.until, problem))
        return begin, end

    @property
    def is_narrow(self) -> bool:
        """Whether any of these options was given."""
        return bool(self.since or self.until or self.types or self.subject)


@takes(OPTIONS)
def command(
    ctx: typer.Context,
    id_: OfSchedule = None,
    *,
    wanted: EventFilter,
    no_header: NoHeader = False,
    **given: Any,
) -> None:
    """Print past events of schedules, the oldest first.

    Reads the events that `gozo serve --history` keeps. --since and --until refer to the time at
    which the server stored them. Events of the types missed, refused, cancelled, invalid and
    leader have no subject. Exits 3 if no history is kept, or if it has nothing that matches ID.
    """

    async def work(session: Session) -> int:
        return await _history(session, id_, wanted)

    connected(ctx, given, work, header=not no_header, before=lambda out: bool(wanted.span))


async def _history(session: Session, id_: str | None, wanted: EventFilter) -> int:
    begin, end = wanted.span
    found = session.client.history(
        id_, since=begin, until=end, kinds=wanted.types or (), subject=wanted.subject
    )
    got = await _print(session.out, found, of_one=id_ is not None)
    if got and begin is None:
        return DONE
    info = await session.client.history_info()
    kept = "" if info is None else _kept(info, session.client.settings.request_subject)
    if got:
        if begin is not None and info is not None and info.first and begin < info.first:
            session.out.say(f"no earlier events: {kept}")
        return DONE
    matching = "matching " if wanted.is_narrow else ""
    if id_ is None:
        session.out.say(f"no {matching}events: {kept}")
        return DONE
    session.out.fail(f"no {matching}events of schedule {id_!r}: {kept}")
    return NOT_FOUND


async def _print(out: Output, found: AsyncIterator[Event], *, of_one: bool) -> int:
    """Print events as they arrive, and return their number."""
    got = 0
    if out.format == "json":
        elements = Elements()
        async for event in found:
            elements.put(EVENTS.record(event))
            got += 1
        elements.end()
        return got
    first: list[Event] = []
    lines = Lines(out, LINES_OF_MANY if out.is_for_people else EVENTS)
    async for event in found:
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
    """Describe the events that a stream holds, and for how long it keeps them."""
    subject = f"{request_subject}.event.>"
    if not info.is_current:
        return (
            f"{info.name} stores {', '.join(info.subjects) or 'nothing'}, and not {subject}: start "
            "the daemons with --history 30d, or another duration"
        )
    limits = ["forever"] if info.max_age is None else [f"for {times.span(info.max_age)}"]
    for name, unit in (("max_msgs", "events"), ("max_bytes", "bytes")):
        if (most := int(info.settings.get(name) or 0)) > 0:
            limits.append(f"at most {most} {unit}")
    has = "has none yet"
    if info.first is not None and info.last is not None:
        has = f"has events from {times.local(info.first)} to {times.local(info.last)}"
    return f"{info.name} keeps events {', '.join(limits)}, and {has}"
