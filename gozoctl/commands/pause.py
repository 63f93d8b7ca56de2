"""`gozoctl pause`: keeps schedules from being delivered until they are resumed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from gozo.cli.options import takes
from gozoctl.exit_codes import FAILED
from gozoctl.options.bulk import BulkOptions, BulkSelection, Ids
from gozoctl.output.schedules import State
from gozoctl.session import OPTIONS, NoHeader, Session, connected

if TYPE_CHECKING:
    from gozo.client import Schedule


@takes(OPTIONS)
def command(
    ctx: typer.Context,
    ids: Ids = None,
    *,
    note: Annotated[
        str,
        typer.Option(metavar="TEXT", help="The reason; `inspect` shows it.", show_default=False),
    ] = "",
    bulk: BulkOptions,
    no_header: NoHeader = False,
    **given: Any,
) -> None:
    """Pause schedules until they are resumed.

    A paused schedule is kept, but not delivered. Prints for each: `paused`, `already_delivered`
    (see `gozoctl cancel`) or `not_found`. Pausing a paused schedule changes only its note.
    """
    selection = BulkSelection("pause", "paused", ids, bulk, _can_be_paused)

    async def work(session: Session) -> int:
        found = await selection.find(session)
        if found is None:
            return FAILED
        return selection.finish(session, await session.client.pause(*found, note=note))

    connected(ctx, given, work, header=not no_header)


def _can_be_paused(schedule: Schedule) -> bool:
    return not schedule.is_run and schedule.state not in (State.PAUSED, State.INVALID)
