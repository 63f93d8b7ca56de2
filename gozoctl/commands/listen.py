"""`gozoctl listen`: prints messages as they arrive."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from gozo.cli.options import takes
from gozoctl.exit_codes import DONE, NO_ANSWER
from gozoctl.options import completion
from gozoctl.output.arrivals import ARRIVALS, arrival
from gozoctl.output.printer import Lines
from gozoctl.session import OPTIONS, NoHeader, Session, connected, while_read


@takes(OPTIONS)
def command(
    ctx: typer.Context,
    subject: Annotated[
        str,
        typer.Argument(
            metavar="SUBJECT",
            help="Subject to listen on; * and > are wildcards.",
            autocompletion=completion.subjects,
        ),
    ],
    *,
    count: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Exit after N messages.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Exit after this time.", min=0.0)
    ] = None,
    no_header: NoHeader = False,
    **given: Any,
) -> None:
    """Print messages as they arrive, and how late they are.

    Lateness is in milliseconds by this machine's clock, and `-` for messages that do not say when
    they were due. Exits 5 if --timeout expires before --count messages, or any, have arrived.
    """

    async def work(session: Session) -> int:
        lines = Lines(session.out, ARRIVALS)
        got = 0
        try:
            with while_read():
                async with asyncio.timeout(timeout), session.client.listen(subject) as messages:
                    session.out.say(f"listening on {subject}")
                    lines.begin()
                    session.out.flush()
                    async for message in messages:
                        lines.put(arrival(message))
                        session.out.flush()
                        got += 1
                        if got == count:
                            return DONE
        except TimeoutError:
            if got == 0 or count is not None:
                wanted = f"{got} of {count}" if count else "no"
                session.out.fail(f"received {wanted} messages within {timeout:g} s")
                return NO_ANSWER
        return DONE

    connected(ctx, given, work, header=not no_header)
