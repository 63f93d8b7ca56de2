"""`gozoctl resume`: delivers paused schedules again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from gozo.cli.options import takes
from gozoctl.exit_codes import FAILED
from gozoctl.options.bulk import BulkOptions, BulkSelection, Ids
from gozoctl.output.schedules import State
from gozoctl.session import OPTIONS, NoHeader, Session, connected, warn_if_no_leader

if TYPE_CHECKING:
    from gozo.client import Schedule


@takes(OPTIONS)
def command(
    ctx: typer.Context,
    ids: Ids = None,
    *,
    bulk: BulkOptions,
    no_header: NoHeader = False,
    **given: Any,
) -> None:
    """Resume paused schedules.

    Each schedule's misfire policy decides about what fell due in the meantime; by default it is
    delivered once, immediately. Prints for each: `resumed`, `already_delivered` or `not_found`.
    """
    selection = BulkSelection("resume", "resumed", ids, bulk, _is_paused)

    async def work(session: Session) -> int:
        found = await selection.find(session)
        if found is None:
            return FAILED
        answers = await session.client.resume(*found)
        code = selection.finish(session, answers)
        if any(one.status == "resumed" for one in answers):
            await warn_if_no_leader(session)
        return code

    connected(ctx, given, work, header=not no_header)


def _is_paused(schedule: Schedule) -> bool:
    return schedule.state == State.PAUSED
