"""The tree of commands of a program, walked from its root."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
import typer.main

from gozo.settings.options import CONNECTION


def commands(app: typer.Typer) -> Iterator[tuple[str, Any]]:
    """Return each command with its name below the program's: the root's is empty."""
    yield from _below("", typer.main.get_command(app))


def clashes(app: typer.Typer) -> list[str]:
    """Return where a command uses the name or the letter of a connection option for another."""
    meanings = {f"--{option.name}": option.identifier for option in CONNECTION}
    meanings |= {f"--no-{option.name}": option.identifier for option in CONNECTION}
    meanings |= {f"-{option.letter}": option.identifier for option in CONNECTION if option.letter}
    meanings |= {f"--{alias}": one.identifier for one in CONNECTION for alias in one.aliases}
    return [
        f"{name}: {spelling} is {meanings[spelling]}, not {parameter.name}"
        for name, command in commands(app)
        for parameter in command.params
        for spelling in (*parameter.opts, *parameter.secondary_opts)
        if meanings.get(spelling, parameter.name) != parameter.name
    ]


def _below(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for child, inner in getattr(command, "commands", {}).items():
        yield from _below(f"{name} {child}".strip(), inner)
