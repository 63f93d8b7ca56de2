"""`gozoctl trigger`: delivers schedules now, once more."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gozo.cli.options import takes
from gozoctl.options import completion
from gozoctl.options.bulk import BulkSelection
from gozoctl.session import OPTIONS, NoHeader, Session, connected


@takes(OPTIONS)
def command(
    ctx: typer.Context,
    ids: Annotated[
        list[str],
        typer.Argument(
            metavar="ID", help="Ids of the schedules to deliver.", autocompletion=completion.ids
        ),
    ],
    *,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Trigger even if an occurrence is running, retried or waiting."
        ),
    ] = False,
    no_header: NoHeader = False,
    **given: Any,
) -> None:
    """Deliver schedules now, once, without changing them.

    Needs a daemon; works for paused schedules too. Prints for each: `triggered` once the server has
    the message, or a stream if the schedule asks for confirmation; `failed`, `already_delivered` or
    `not_found`.

    If receivers have to confirm the schedule (`Gozo-Confirm: reply` or `claim`), `triggered` means
    that an extra run has begun, which is retried like any other. It is refused with exit code 1
    while an occurrence of the schedule is running, retried or waiting, unless forced; with
    `Gozo-Overlap: queue`, a forced run waits for its turn. If the schedule is over and only such an
    occurrence is left, it is refused in any case.
    """
    selection = BulkSelection("trigger", "triggered", ids)

    async def work(session: Session) -> int:
        return selection.finish(session, await session.client.trigger(*ids, force=force))

    connected(ctx, given, work, header=not no_header)
