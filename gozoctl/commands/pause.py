"""`gozoctl pause`, `resume` and `trigger`: what the schedules themselves stay the same with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gozo.cli.options import takes
from gozoctl.exit_codes import FAILED
from gozoctl.options import bulk as many
from gozoctl.options import completion as completing
from gozoctl.options.bulk import BulkSelection
from gozoctl.output.schedules import State
from gozoctl.session import (
    OPTIONS,
    NoHeader,
    Session,
    connected,
    tell_if_nobody_delivers,
)

if TYPE_CHECKING:
    from gozo.client import Schedule


@takes(OPTIONS)
def pause(
    ctx: typer.Context,
    ids: many.Ids = None,
    *,
    note: Annotated[
        str, typer.Option(metavar="TEXT", help="Why: `inspect` shows it.", show_default=False)
    ] = "",
    subject: many.Subject = None,
    id_: many.Glob = None,
    all_: many.All = False,
    dry_run: many.DryRun = False,
    yes: many.Yes = False,
    no_header: NoHeader = False,
    **given: Any,
) -> None:
    """Keep schedules, and do not deliver them until they are resumed.

    Answers for each: `paused`, `already_delivered` (see `gozoctl cancel`), or `not_found`. To
    pause what is paused changes nothing but the note.
    """

    def is_meant(schedule: Schedule) -> bool:
        return schedule.state not in (State.PAUSED, State.INVALID)

    meant = BulkSelection("pause", "paused", ids, subject, id_, all_, dry_run, yes, is_meant)

    async def work(session: Session) -> int:
        found = await meant.find(session)
        if found is None:
            return FAILED
        return meant.finish(session, await session.client.pause(*found, note=note))

    connected(ctx, given, work, header=not no_header)


@takes(OPTIONS)
def resume(
    ctx: typer.Context,
    ids: many.Ids = None,
    *,
    subject: many.Subject = None,
    id_: many.Glob = None,
    all_: many.All = False,
    dry_run: many.DryRun = False,
    yes: many.Yes = False,
    no_header: NoHeader = False,
    **given: Any,
) -> None:
    """Deliver paused schedules again.

    What fell due meanwhile is a matter of each schedule's misfire policy: by default it is sent
    once, at once. Answers for each: `resumed`, `already_delivered`, or `not_found`.
    """

    def is_meant(schedule: Schedule) -> bool:
        return schedule.state == State.PAUSED

    meant = BulkSelection("resume", "resumed", ids, subject, id_, all_, dry_run, yes, is_meant)

    async def work(session: Session) -> int:
        found = await meant.find(session)
        if found is None:
            return FAILED
        answers = await session.client.resume(*found)
        code = meant.finish(session, answers)
        if any(one.status == "resumed" for one in answers):
            await tell_if_nobody_delivers(session)
        return code

    connected(ctx, given, work, header=not no_header)


@takes(OPTIONS)
def trigger(
    ctx: typer.Context,
    ids: Annotated[
        list[str],
        typer.Argument(metavar="ID", help="What to deliver.", autocompletion=completing.ids),
    ],
    *,
    no_header: NoHeader = False,
    **given: Any,
) -> None:
    """Have schedules delivered now, and leave them as they are.

    Once each. That needs a daemon, and works for paused ones too. Answers for each: `triggered`
    once the server has the message, or a stream where that is asked for; `failed`,
    `already_delivered`, or `not_found`.
    """
    meant = BulkSelection("trigger", "triggered", ids)

    async def work(session: Session) -> int:
        return meant.finish(session, await session.client.trigger(*ids))

    connected(ctx, given, work, header=not no_header)
