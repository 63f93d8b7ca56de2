"""`gozoctl list` and `gozoctl inspect`: what there is."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gozo.commandline import takes
from gozoctl import completing, times
from gozoctl.schedules import ORDERS, SHEET, Filter, Order, State
from gozoctl.session import OPTIONS, Session, connected

if TYPE_CHECKING:
    from gozo.client import Client, Schedule

SLACK = 5_000  # schedules that are kept beyond --limit before they are sorted out


@takes(OPTIONS)
def list_(
    ctx: typer.Context,
    *,
    subject: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            help="Only what is sent there; * and > are wildcards, as in NATS.",
            autocompletion=completing.subjects,
        ),
    ] = None,
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
    no_header: Annotated[
        bool, typer.Option("--no-header", help="Leave out the names of the columns.")
    ] = False,
    **given: Any,
) -> None:
    """List schedules, the soonest first.

    On a terminal as a table in local time; else as lines of tab-separated text: id, due
    (RFC 3339, UTC), seconds left, subject, bytes, state.
    """

    async def work(session: Session) -> None:
        kept = Filter(
            id_,
            _moment(due_before, session, "--due-before"),
            _moment(due_after, session, "--due-after"),
            state,
        )
        found = await select(session.client, subject, kept, sort, reverse=reverse, limit=limit)
        session.out.all(SHEET, found)
        if not found:
            await explain_nothing(session)

    connected(ctx, given, work, header=not no_header)


async def select(
    client: Client,
    subject: str | None,
    kept: Filter,
    sort: Order = Order.DUE,
    *,
    reverse: bool = False,
    limit: int | None = None,
) -> list[Schedule]:
    """Return the schedules that are meant, in order; holds no more than needed at a time."""
    found: list[Schedule] = []
    order = ORDERS[sort]
    async for schedule in client.list(subject=subject):
        if not kept.matches(schedule):
            continue
        found.append(schedule)
        if limit is not None and len(found) > limit + SLACK:
            found.sort(key=order, reverse=reverse)
            del found[limit:]
    found.sort(key=order, reverse=reverse)
    return found if limit is None else found[:limit]


async def explain_nothing(session: Session) -> None:
    """Say why nothing was found."""
    if await session.client.bucket() is None:
        bucket = session.client.settings.bucket
        session.out.say(f"there are no schedules: the bucket {bucket!r} does not exist yet")
    else:
        session.out.say("no schedules")


def _moment(text: str | None, session: Session, option: str) -> datetime | None:
    return None if text is None else times.moment(text, session.now, option)
