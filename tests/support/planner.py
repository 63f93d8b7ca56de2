"""A small program with commands and ids, for what gozo's own command line does not have (yet).

`planner cancel` prints the arguments that it got, so that a test sees what a completed line
really means to a shell.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated

import typer

from gozo.cli import completion

IDS = {
    "backup:daily": "in 3 h",
    "backup:weekly": "in 2 d: on Sunday",
    "key=value": "in 1 min",
    "two words": "now",
    "don't": "now",
    "$(touch stolen)`touch stolen`": "now",
    "run\\$(touch stolen)": "now",
    'back\\slash"quote': "now",
    "a:b=c:d": "in 4 s",
}

app = typer.Typer(name="planner", add_completion=False, rich_markup_mode=None)


class Output(StrEnum):
    """How answers are written."""

    TABLE = "table"
    JSON = "json"
    JSON_LINES = "jsonl"


def ids(incomplete: str) -> Iterable[tuple[str, str]]:
    """Offer the ids that begin so."""
    return [(id_, left) for id_, left in IDS.items() if id_.startswith(incomplete)]


@app.callback()
def root(address: Annotated[str, typer.Option("--address", "-a", metavar="LIST")] = "") -> None:
    """Plan things.

    Everything that can be planned, and `more`.
    """


@app.command()
def cancel(
    wanted: Annotated[list[str], typer.Argument(metavar="ID", autocompletion=ids)],
    output: Annotated[Output, typer.Option("--output", "-o", help="Form of the answer.")],
    file: Annotated[str, typer.Option("--file", metavar="FILE")] = "",
    folder: Annotated[str, typer.Option("--folder", metavar="DIRECTORY")] = "",
) -> None:
    """Cancel plans, by their ids."""
    typer.echo(f"cancelled: {wanted!r} {output} {file} {folder}")


@app.command("list")
def list_(limit: Annotated[int, typer.Option(help="How many at most.")] = 10) -> None:
    """List plans, soonest first."""


configuration = typer.Typer(help="Show and set defaults.")
app.add_typer(configuration, name="config")


@configuration.command("set")
def set_(name: str, value: Annotated[str, typer.Argument()] = "") -> None:
    """Set one default."""


@configuration.command("path")
def path() -> None:
    """Print where the file is."""


if __name__ == "__main__":
    text = completion.answer(app, "planner")
    if text is None:
        app(prog_name="planner")
    else:
        sys.stdout.write(text)
