"""`gozoctl cancel`: deletes schedules before they are delivered."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gozo.cli.options import takes
from gozoctl.exit_codes import DONE, FAILED
from gozoctl.options.bulk import BulkOptions, BulkSelection, Ids
from gozoctl.session import OPTIONS, NoHeader, Session, connected


@takes(OPTIONS)
def command(
    ctx: typer.Context,
    ids: Ids = None,
    *,
    bulk: BulkOptions,
    ignore_missing: Annotated[
        bool,
        typer.Option("--ignore-missing", help="Exit 0 even if there was nothing to cancel."),
    ] = False,
    no_header: NoHeader = False,
    **given: Any,
) -> None:
    """Cancel schedules.

    Prints for each: `cancelled`, `already_delivered` or `not_found`. `cancelled` is final: it will
    not be delivered. Work that a receiver has begun goes on, and is not tried again. Daemons
    remember a delivery for ten minutes; one that started after it, for at least ten seconds.
    """
    selection = BulkSelection("cancel", "cancelled", ids, bulk)

    async def work(session: Session) -> int:
        found = await selection.find(session)
        if found is None:
            return FAILED
        code = selection.finish(session, await session.client.cancel(*found))
        return DONE if ignore_missing else code

    connected(ctx, given, work, header=not no_header)
