"""`gozoctl create`: stores a schedule."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gozo.cli.options import takes
from gozoctl.options.confirmation import TimeCheck
from gozoctl.options.message import Message, Payload, read_payload
from gozoctl.options.timing import Timing, naming
from gozoctl.output.stored import print_stored
from gozoctl.session import OPTIONS, Session, connected, warn_if_no_leader


@takes(OPTIONS)
def command(
    ctx: typer.Context,
    id_: Annotated[str, typer.Argument(metavar="ID", help="Id of the schedule.")],
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="Subject to deliver to.")],
    text: Payload = None,
    *,
    timing: Timing,
    payload: Annotated[str | None, typer.Option(metavar="TEXT", help="The payload.")] = None,
    file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Read the payload from a file; - is standard input."),
    ] = None,
    message: Message,
    no_replace: Annotated[
        bool, typer.Option("--no-replace", help="Fail if there is a schedule with this id.")
    ] = False,
    protect: Annotated[
        bool,
        typer.Option(
            "--protect",
            help="Refuse requests that replace or cancel it; administrators still can.",
        ),
    ] = False,
    time_check: TimeCheck,
    **given: Any,
) -> None:
    """Create a schedule; no daemon needs to be running.

    Prints the id once the schedule is stored. It will be delivered when it is due, or as soon as a
    daemon runs; with --cron, --every or a recurring expression in --when, again and again.
    """

    async def work(session: Session) -> None:
        with naming(timing.given[0]):
            stored = await session.client.schedule(
                subject,
                read_payload(text, payload, file),
                when=timing.expression,
                id=id_,
                headers=message.headers,
                replace=not no_replace,
                protect=protect,
                **(timing.options() | message.options()),
            )
        print_stored(session.out, stored, timing.zone)
        await warn_if_no_leader(session)

    connected(ctx, given, work, before=lambda out: time_check.agree(out, timing, text, message))
