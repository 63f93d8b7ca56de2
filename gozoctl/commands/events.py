"""`gozoctl events`: prints events as they happen."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gozo.cli.options import takes
from gozoctl.exit_codes import DONE
from gozoctl.options.selection import OfSchedule
from gozoctl.output.events import EVENTS, LINES
from gozoctl.output.printer import Lines
from gozoctl.session import OPTIONS, NoHeader, Session, connected, while_read


@takes(OPTIONS)
def command(
    ctx: typer.Context,
    id_: OfSchedule = None,
    *,
    count: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Exit after N events.")
    ] = None,
    no_header: NoHeader = False,
    **given: Any,
) -> None:
    """Print what happens to schedules, as it happens.

    Needs daemons that run with `gozo serve --events`. They report schedules that were accepted,
    delivered, started and completed by receivers, retried, given up, missed, skipped, refused,
    cancelled, rescheduled, paused, resumed, triggered or found invalid, and which daemon leads.
    """

    async def work(session: Session) -> int:
        lines = Lines(session.out, LINES if session.out.is_for_people else EVENTS)
        got = 0
        with while_read():
            async with session.client.events(id_) as following:
                session.out.say("listening for events")
                lines.begin()
                session.out.flush()
                async for event in following:
                    lines.put(event)
                    session.out.flush()
                    got += 1
                    if got == count:
                        break
        return DONE

    connected(ctx, given, work, header=not no_header)
