"""The files of schedules that `apply` and `diff` read, and the options for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gozo.errors import SettingsError, invalid_value
from gozoctl.exit_codes import DONE, USAGE
from gozoctl.options.files import STDIN, read_text
from gozoctl.session import Session

if TYPE_CHECKING:
    from gozo.client import Applied, Wanted
    from gozo.client.manifest import Manifest

Files = Annotated[
    list[str],
    typer.Argument(metavar="FILE", help="Files of schedules, in TOML; - is standard input."),
]
SetName = Annotated[
    str | None,
    typer.Option(
        "--set",
        metavar="NAME",
        help="Set of the schedules, instead of the one that a file names or is named after.",
        show_default=False,
    ),
]
Prune = Annotated[
    bool, typer.Option("--prune", help="Delete schedules of the set that are in no file.")
]


def check_past(session: Session, plan: Sequence[Applied]) -> int:
    """Report what `apply` would refuse because its time has passed; returns its exit code."""
    from gozo.client.apply import past_words  # noqa: PLC0415  # not needed for --help

    past = [one.id for one in plan if one.at_once]
    if past:
        session.out.fail(past_words(past))
    return USAGE if past else DONE


def read_manifests(session: Session, files: list[str], set_: str | None) -> list[Manifest]:
    """Read files.

    Raises:
        SettingsError: they contain mistakes; one line for each.
    """
    from gozo.client import manifest  # noqa: PLC0415  # not needed for --help

    if set_ is not None and not manifest.is_set_name(set_):
        raise SettingsError(invalid_value("--set", set_, manifest.SET_NAME))
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
            f"{one.place(wanted.id)}: the id is also in {seen[wanted.id]}"
            for wanted in one.wanted
            if wanted.id in seen
        ]
        seen |= {wanted.id: file for wanted in one.wanted}
        read.append(one)
    if problems:
        raise SettingsError("\n".join(problems))
    return read


def _read(file: str, set_: str | None, check: Callable[[Wanted], None], most: int) -> Manifest:
    """Read one file; payload files that it names may have `most` bytes."""
    from gozo.client import manifest  # noqa: PLC0415  # not needed for --help

    text = read_text(file)
    path = Path(file)
    name, folder = ("stdin", Path()) if file == STDIN else (path.stem, path.parent)

    def read_file(text: str) -> bytes:
        with (folder / text).open("rb") as opened:
            payload = opened.read(most + 1)
        if len(payload) > most:
            raise ValueError(f"larger than {most} bytes, the server's max_payload")
        return payload

    return manifest.parse(text, file, name, read_file, check, managed_by=set_)
