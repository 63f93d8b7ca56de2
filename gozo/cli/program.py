"""What makes a program: its root command, and `--version`."""

from __future__ import annotations

from typing import Annotated

import typer

from gozo import __version__
from gozo.cli import usage


def program(name: str | None = None, *, no_args_is_help: bool = False) -> typer.Typer:
    """Return an empty program, or, without a name, an empty command with subcommands."""
    return typer.Typer(
        name=name,
        cls=usage.Group,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=no_args_is_help,
        context_settings={"help_option_names": ["-h", "--help"]},
    )


def _answer_version(context: typer.Context, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:  # completion parses a line resiliently
        typer.echo(f"{context.info_name} {__version__}")
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", help="Print the version.", callback=_answer_version, is_eager=True),
]
"""The option of a root command."""
