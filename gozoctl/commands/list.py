"""`gozoctl list`: what there is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from gozo.cli.options import takes
from gozoctl.commands.list_watch import watch as follow
from gozoctl.options import moments
from gozoctl.options.selection import OnlySubject, explain_nothing, select
from gozoctl.output.schedules import Filter, Order, State, sheet_for
from gozoctl.session import OPTIONS, NoHeader, Session, connected


@takes(OPTIONS)
def list_(
    ctx: typer.Context,
    *,
    subject: OnlySubject = None,
    id_: Annotated[
        str | None,
        typer.Option("--id", metavar="GLOB", help="Only ids like this; * and ? are wildcards."),
    ] = None,
    due_before: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Only what is due before; such as 17:30 or +1h."),
    ] = None,
    due_after: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Only what is due after.")
    ] = None,
    state: Annotated[State | None, typer.Option(help="Only what is in this state.")] = None,
    sort: Annotated[Order, typer.Option(help="What to sort by.")] = Order.DUE,
    reverse: Annotated[bool, typer.Option("--reverse", help="The last one first.")] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Print no more than this many.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on, and print each change as it comes.")
    ] = False,
    no_header: NoHeader = False,
    **given: Any,
) -> None:
    """List schedules, the soonest first.

    On a terminal as a table in local time; else as lines of tab-separated text: id, due
    (RFC 3339, UTC), seconds left, subject, bytes, state, when it was due last, expression. For
    schedules that are paused, failed or invalid, seconds left are empty, and so is due if they
    recur. The table has the last two where some of what it lists recurs; where a terminal is too
    narrow for it, columns stand below each other.
    """
    now = datetime.now(UTC)

    def kept() -> Filter:
        before, after = (
            _moment(due_before, now, "--due-before"),
            _moment(due_after, now, "--due-after"),
        )
        return Filter(id_, before, after, state)

    async def work(session: Session) -> None:
        if watch:
            await follow(session, subject, kept(), sort, reverse=reverse, limit=limit)
            return
        found = await select(session.client, subject, kept(), sort, reverse=reverse, limit=limit)
        session.out.all(sheet_for(found), found)
        if not found:
            await explain_nothing(session)

    connected(ctx, given, work, header=not no_header, before=lambda out: bool(kept()))


def _moment(text: str | None, now: datetime, option: str) -> datetime | None:
    return None if text is None else moments.moment(text, now, option)
