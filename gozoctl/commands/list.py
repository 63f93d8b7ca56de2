"""`gozoctl list`: lists schedules."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gozo.cli.options import takes
from gozoctl.commands.list_watch import watch as follow
from gozoctl.options import moments
from gozoctl.options.selection import OnlySubject, explain_nothing, select
from gozoctl.output.schedules import Filter, Order, State, sheet_for
from gozoctl.session import OPTIONS, NoHeader, Session, connected

if TYPE_CHECKING:
    from gozo.client import Schedule


@takes(OPTIONS)
def command(
    ctx: typer.Context,
    *,
    subject: OnlySubject = None,
    id_: Annotated[
        str | None,
        typer.Option("--id", metavar="GLOB", help="Only ids that match; * and ? are wildcards."),
    ] = None,
    due_before: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Only schedules due before this time: 17:30 or +1h."),
    ] = None,
    due_after: Annotated[
        str | None, typer.Option(metavar="WHEN", help="Only schedules due after this time.")
    ] = None,
    state: Annotated[State | None, typer.Option(help="Only schedules in this state.")] = None,
    sort: Annotated[Order, typer.Option(help="Field to sort by.")] = Order.DUE,
    reverse: Annotated[bool, typer.Option("--reverse", help="Reverse the order.")] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Print at most N schedules.")
    ] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Keep watching, and print each change.")
    ] = False,
    no_header: NoHeader = False,
    **given: Any,
) -> None:
    """List schedules, the next due first.

    Prints a table in local time on a terminal, else tab-separated lines: id, due time (RFC 3339,
    UTC), seconds left, subject, bytes, state, last due time, expression, how the last run ended.
    For paused, running, failed and invalid schedules the seconds left are empty, and so is the due
    time if they recur. An occurrence that awaits its receiver's answer, or failed, has its own
    line. The table has the last three columns only if some of the schedules recur, and RESULT only
    if receivers have to confirm some of those; in a narrow terminal, it stacks columns.
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
        _warn(session, found)
        if not found:
            await explain_nothing(session)

    connected(ctx, given, work, header=not no_header, before=lambda out: bool(kept()))


def _warn(session: Session, found: list[Schedule]) -> None:
    """Report how many schedules have headers without effect."""
    ids = [one.id or one.key for one in found if one.unknown_headers]
    if ids:
        session.out.say(
            f"schedules with unknown Gozo- headers, which have no effect: {len(ids)}; see "
            f"gozoctl inspect {shlex.quote(ids[0])}"
        )


def _moment(text: str | None, now: datetime, option: str) -> datetime | None:
    return None if text is None else moments.moment(text, now, option)
