"""`gozoctl apply`: makes schedules match files."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gozo.cli.options import takes
from gozo.errors import SettingsError
from gozoctl.exit_codes import DONE
from gozoctl.options.confirmation import PastOk
from gozoctl.options.manifests import Files, Prune, SetName, check_past, read_manifests
from gozoctl.output.printer import TableSpec
from gozoctl.session import OPTIONS, Session, connected, warn_if_no_leader

if TYPE_CHECKING:
    from gozo.client import Applied
    from gozo.client.models import Action

_DONE: dict[Action, str] = {
    "create": "created",
    "change": "changed",
    "adopt": "adopted",
    "leave": "unchanged",
    "past": "skipped because their time has passed",
    "remove": "deleted",
}


def _fields(one: Applied) -> tuple[str, ...]:
    return one.action, one.id, " ".join(one.keys)


def _record(one: Applied) -> dict[str, Any]:
    return {"action": one.action, "id": one.id, "keys": list(one.keys), "at_once": one.at_once}


def _name(one: Applied) -> str:
    return one.id


APPLIED: TableSpec[Applied] = TableSpec(("ACTION", "ID", "KEYS"), _fields, _fields, _record, _name)


@takes(OPTIONS)
def command(
    ctx: typer.Context,
    files: Files,
    *,
    set_: SetName = None,
    prune: Prune = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would change, and change nothing.")
    ] = False,
    past_ok: PastOk = False,
    **given: Any,
) -> None:
    """Create, update and (with --prune) delete schedules to match files.

    Prints the schedules that it creates, changes, adopts (adds to the set) and removes. Schedules
    that match their file stay as they are: a delay counts from when it was first applied. If a
    file contains a mistake, or the new time of an existing schedule has passed, nothing is changed.
    Concurrent runs wait for each other.
    """

    async def work(session: Session) -> int:
        try:
            manifests = read_manifests(session, files, set_)
        except SettingsError as error:
            raise SettingsError(f"{error}\nnothing was changed") from error
        wanted = [one for manifest in manifests for one in manifest.wanted]
        sets = set().union(*(manifest.sets for manifest in manifests)) if prune else set()
        done = await session.client.apply(
            wanted, prune=sets, dry_run=dry_run, past="send" if past_ok else "refuse"
        )
        out = session.out
        shown = done if out.is_json else [one for one in done if one.action != "leave"]
        out.all(APPLIED, shown)
        counts = Counter(one.action for one in done)
        words = [f"{counts[action]} {word}" for action, word in _DONE.items() if counts[action]]
        would = "dry run, nothing was changed; it would be: " if dry_run else ""
        out.say(would + (", ".join(words) or "no schedules"))
        if dry_run:
            return DONE if past_ok else check_past(session, done)
        if counts["create"] or counts["change"]:
            await warn_if_no_leader(session)
        return DONE

    connected(ctx, given, work)
