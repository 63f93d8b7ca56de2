"""`gozoctl export`, `apply` and `diff`: schedules as a file, which is the truth."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gozo.cli.options import takes
from gozo.errors import SettingsError
from gozoctl.exit_codes import DONE, FAILED, USAGE
from gozoctl.options.files import STDIN, read_text
from gozoctl.options.selection import OnlySubject
from gozoctl.output.printer import TableSpec
from gozoctl.session import OPTIONS, Session, connected, tell_if_nobody_delivers

if TYPE_CHECKING:
    from gozo.client import Applied, Schedule, Wanted
    from gozo.client.manifest import Manifest
    from gozo.client.models import Action

AT_ONCE = 200  # schedules read at the same time
SAME_ACTIONS = ("leave", "past")
"""Of which `diff` shows nothing: `apply` would do nothing."""

_DONE: dict[Action, str] = {
    "create": "created",
    "change": "changed",
    "adopt": "adopted",
    "leave": "left as they are",
    "past": "left out, since their time has passed",
    "remove": "removed",
}


def _fields(one: Applied) -> tuple[str, ...]:
    return one.action, one.id, " ".join(one.keys)


def _record(one: Applied) -> dict[str, Any]:
    return {"action": one.action, "id": one.id, "keys": list(one.keys), "at_once": one.at_once}


def _name(one: Applied) -> str:
    return one.id


APPLIED: TableSpec[Applied] = TableSpec(("ACTION", "ID", "KEYS"), _fields, _fields, _record, _name)

Files = Annotated[
    list[str],
    typer.Argument(metavar="FILE", help="Files of schedules, in TOML; - is standard input."),
]
SetName = Annotated[
    str | None,
    typer.Option(
        "--set",
        metavar="NAME",
        help="The set that they belong to, in the place of what a file says or is called.",
        show_default=False,
    ),
]
Prune = Annotated[
    bool, typer.Option("--prune", help="Remove what belongs to the set and is in no file.")
]


@takes(OPTIONS)
def export(
    ctx: typer.Context,
    *,
    subject: OnlySubject = None,
    set_: Annotated[
        str | None,
        typer.Option("--set", metavar="NAME", help="Only what belongs to this set."),
    ] = None,
    **given: Any,
) -> None:
    """Write schedules as a file for `gozoctl apply`.

    It goes to standard output, with the set of each schedule. A delay is written as the moment
    at which it is due.
    """

    async def work(session: Session) -> None:
        from gozo.client import manifest  # noqa: PLC0415  # not needed for --help

        found = [
            one
            async for one in session.client.list(subject=subject)
            if set_ is None or one.managed_by == set_
        ]
        if not found:
            session.out.say(
                "there are no such schedules" if set_ or subject else "there are no schedules"
            )
        good = sorted(one.id for one in found if one.id is not None and one.state != "invalid")
        if len(good) != len(found):
            session.out.say(f"left out: {len(found) - len(good)} that are invalid or without an id")
        whole = [one for one in await _whole(session, good) if one is not None]
        sys.stdout.buffer.write(manifest.write(whole).encode())
        sys.stdout.buffer.flush()

    connected(ctx, given, work)


@takes(OPTIONS)
def apply(
    ctx: typer.Context,
    files: Files,
    *,
    set_: SetName = None,
    prune: Prune = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")
    ] = False,
    past_ok: Annotated[
        bool,
        typer.Option("--past-ok", help="Send changed schedules at once if their time has passed."),
    ] = False,
    **given: Any,
) -> None:
    """Make schedules be as files say.

    Prints what it creates, changes, adopts (belongs to the set from now on) and removes. What
    is as the file says is left alone: a delay counts from when it was first applied. If
    anything in a file is wrong, or an existing schedule would be sent at once since its new time
    has passed, nothing is done. Others who apply at the same time wait.
    """

    async def work(session: Session) -> int:
        manifests = _manifests(session, files, set_)
        wanted = [one for manifest in manifests for one in manifest.wanted]
        sets = set().union(*(manifest.sets for manifest in manifests)) if prune else set()
        done = await session.client.apply(
            wanted, prune=sets, dry_run=dry_run, past="send" if past_ok else "refuse"
        )
        out = session.out
        shown = done if out.is_json else [one for one in done if one.action != "leave"]
        out.all(APPLIED, shown)
        counts = Counter(one.action for one in done)
        said = [f"{counts[action]} {word}" for action, word in _DONE.items() if counts[action]]
        would = "nothing is done; it would be: " if dry_run else ""
        out.say(would + (", ".join(said) or "there are no schedules"))
        if dry_run:
            return DONE if past_ok else _tell_past(session, done)
        if counts["create"] or counts["change"]:
            await tell_if_nobody_delivers(session)
        return DONE

    connected(ctx, given, work)


@takes(OPTIONS)
def diff(
    ctx: typer.Context, files: Files, *, set_: SetName = None, prune: Prune = False, **given: Any
) -> None:
    """Show what `gozoctl apply` would change.

    Prints what differs between the bucket and the files as diff(1) does, sets included. Exits 0
    if nothing differs, 1 if anything does, 2 or more on an error.
    """

    async def work(session: Session) -> int:
        from gozo.client import manifest  # noqa: PLC0415  # not needed for --help

        manifests = _manifests(session, files, set_)
        wanted = {one.id: (one, m.name) for m in manifests for one in m.wanted}
        sets = set().union(*(m.sets for m in manifests)) if prune else set()
        plan = await session.client.apply(
            [one for one, _ in wanted.values()], prune=sets, dry_run=True
        )
        differs = [one.id for one in plan if one.action not in SAME_ACTIONS]
        for id_, old in zip(differs, await _whole(session, differs), strict=True):
            new, name = wanted.get(id_, (None, files[0]))
            for line in manifest.difference(id_, old, new, (session.client.settings.bucket, name)):
                session.out.write(line)
        _tell_past(session, plan)
        return FAILED if differs else DONE

    connected(ctx, given, work, failed=USAGE)


def _tell_past(session: Session, plan: Sequence[Applied]) -> int:
    """Say what `apply` would refuse to send at once; returns the exit code that it would have."""
    from gozo.client.apply import past_words  # noqa: PLC0415  # not needed for --help

    past = [one.id for one in plan if one.at_once]
    if past:
        session.out.fail(past_words(past))
    return USAGE if past else DONE


async def _whole(session: Session, ids: list[str]) -> list[Schedule | None]:
    """Read schedules with their payloads; None for each that is gone."""
    found: list[Schedule | None] = []
    for start in range(0, len(ids), AT_ONCE):
        some = ids[start : start + AT_ONCE]
        found += await asyncio.gather(*(session.client.get(id_) for id_ in some))
    return found


def _manifests(session: Session, files: list[str], set_: str | None) -> list[Manifest]:
    """Read files.

    Raises:
        SettingsError: something in them is wrong; each mistake has a line.
    """
    from gozo.client import manifest  # noqa: PLC0415  # not needed for --help

    if set_ is not None and not manifest.is_set_name(set_):
        raise SettingsError(f"--set {set_!r} is no name of a set: give a word")
    read: list[Manifest] = []
    problems: list[str] = []
    seen: dict[str, str] = {}
    for file in files:
        try:
            one = _read(file, set_, session.client.check, session.client.server.max_payload)
        except SettingsError as error:
            problems.append(str(error))
            continue
        problems += [
            f"{one.place(wanted.id)}: the id is in {seen[wanted.id]} as well"
            for wanted in one.wanted
            if wanted.id in seen
        ]
        seen |= {wanted.id: file for wanted in one.wanted}
        read.append(one)
    if problems:
        raise SettingsError("\n".join(problems) + "\nnothing was changed")
    return read


def _read(file: str, set_: str | None, check: Callable[[Wanted], None], most: int) -> Manifest:
    """Read one file; payloads that it names are of `most` bytes."""
    from gozo.client import manifest  # noqa: PLC0415  # not needed for --help

    text = read_text(file)
    path = Path(file)
    name, folder = ("stdin", Path()) if file == STDIN else (path.stem, path.parent)

    def read_file(text: str) -> bytes:
        with (folder / text).open("rb") as opened:
            payload = opened.read(most + 1)
        if len(payload) > most:
            raise ValueError(f"it has more than {most} bytes, the server's max_payload")
        return payload

    return manifest.parse(text, file, name, read_file, check, managed_by=set_)
