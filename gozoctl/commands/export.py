"""`gozoctl export`: writes schedules as a file."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from gozo.cli.options import takes
from gozoctl.options.selection import OnlySubject, read_whole
from gozoctl.session import OPTIONS, Session, connected


@takes(OPTIONS)
def command(
    ctx: typer.Context,
    *,
    subject: OnlySubject = None,
    set_: Annotated[
        str | None,
        typer.Option("--set", metavar="NAME", help="Only schedules of this set."),
    ] = None,
    **given: Any,
) -> None:
    """Write schedules as a file for `gozoctl apply`.

    Prints them on standard output, each with its set. A delay becomes the moment at which the
    schedule is due.
    """

    async def work(session: Session) -> None:
        from gozo.client import manifest  # noqa: PLC0415  # not needed for --help

        found = [
            one
            async for one in session.client.list(subject=subject)
            if not one.is_run and (set_ is None or one.managed_by == set_)
        ]
        if not found:
            session.out.say(f"no {'matching ' if set_ or subject else ''}schedules")
        good = sorted(one.id for one in found if one.id is not None and one.state != "invalid")
        if len(good) != len(found):
            session.out.say(f"ignoring {len(found) - len(good)} that are invalid or have no id")
        whole = [one for one in await read_whole(session.client, good) if one is not None]
        sys.stdout.buffer.write(manifest.write(whole).encode())
        sys.stdout.buffer.flush()

    connected(ctx, given, work)
