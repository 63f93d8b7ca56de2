"""`gozoctl diff`: shows what `gozoctl apply` would change."""

from __future__ import annotations

from typing import Any

import typer

from gozo.cli.options import takes
from gozoctl.exit_codes import DONE, FAILED, USAGE
from gozoctl.options.manifests import Files, Prune, SetName, check_past, read_manifests
from gozoctl.options.selection import read_whole
from gozoctl.session import OPTIONS, Session, connected

SAME_ACTIONS = ("leave", "past")
"""Actions of `apply` that change nothing."""


@takes(OPTIONS)
def command(
    ctx: typer.Context, files: Files, *, set_: SetName = None, prune: Prune = False, **given: Any
) -> None:
    """Show what `gozoctl apply` would change.

    Prints the differences between the bucket and the files, sets included, as diff(1) does. Exits
    0 if there are none, 1 if there are any, 2 or more on an error.
    """

    async def work(session: Session) -> int:
        from gozo.client import manifest  # noqa: PLC0415  # not needed for --help

        manifests = read_manifests(session, files, set_)
        wanted = {one.id: (one, m.name) for m in manifests for one in m.wanted}
        sets = set().union(*(m.sets for m in manifests)) if prune else set()
        plan = await session.client.apply(
            [one for one, _ in wanted.values()], prune=sets, dry_run=True
        )
        differs = [one.id for one in plan if one.action not in SAME_ACTIONS]
        for id_, old in zip(differs, await read_whole(session.client, differs), strict=True):
            new, name = wanted.get(id_, (None, files[0]))
            for line in manifest.difference(id_, old, new, (session.client.settings.bucket, name)):
                session.out.write(line)
        check_past(session, plan)
        return FAILED if differs else DONE

    connected(ctx, given, work, failed=USAGE)
