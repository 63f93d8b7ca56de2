"""`gozoctl reschedule`: changes when a schedule is due, and nothing else."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gozo.cli.options import takes
from gozoctl.options import completion, moments
from gozoctl.options.confirmation import TimeCheck
from gozoctl.options.timing import At, In, Timing, When, naming
from gozoctl.output.stored import print_stored
from gozoctl.session import OPTIONS, Session, connected, warn_if_no_leader


@takes(OPTIONS)
def command(
    ctx: typer.Context,
    id_: Annotated[
        str,
        typer.Argument(metavar="ID", help="Id of the schedule.", autocompletion=completion.ids),
    ],
    *,
    in_: In = None,
    at: At = None,
    when: When = None,
    time_check: TimeCheck,
    **given: Any,
) -> None:
    """Change the due time of a schedule, and nothing else."""
    timing = Timing(in_, at, when, ways=moments.WAYS[:3])

    async def work(session: Session) -> None:
        with naming(timing.given[0]):
            stored = await session.client.reschedule(id_, timing.expression)
        print_stored(session.out, stored)
        await warn_if_no_leader(session)

    connected(ctx, given, work, before=lambda out: time_check.agree(out, timing))
