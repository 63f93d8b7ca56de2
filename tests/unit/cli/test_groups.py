"""Options that a command takes as the fields of a dataclass, and commands that are loaded late."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from gozo.cli import usage
from gozo.cli.options import takes
from gozo.settings.options import OUTPUT


@dataclass(frozen=True, slots=True)
class Size:
    """Two options, and a field that is none."""

    width: Annotated[int, typer.Option(help="Width.")]
    height: Annotated[int | None, typer.Option("--high", help="Height.")] = None
    unit: str = "mm"


def test_the_fields_of_a_dataclass_become_options() -> None:
    """The command gets the object; other options and arguments are as without it."""
    seen: list[object] = []

    @takes(OUTPUT)
    def draw(name: str, *, size: Size, dry: bool = False, **given: Any) -> None:
        """Draw."""
        seen.append((name, size, dry, given))

    app = typer.Typer(cls=usage.Group, rich_markup_mode=None)
    app.command("draw", cls=usage.Command)(draw)
    app.command("other")(lambda: None)
    line = ["draw", "box", "--width", "3", "--high", "4", "-o", "json", "--dry"]
    assert CliRunner().invoke(app, line).exit_code == 0
    assert seen == [("box", Size(3, 4), True, {"output": "json"})]
    help_ = CliRunner().invoke(app, ["draw", "--help"]).output
    assert "--width" in help_
    assert "--high" in help_
    assert "unit" not in help_
    assert CliRunner().invoke(app, ["draw", "box"]).exit_code == 2  # --width has no default


def test_two_groups_cannot_have_the_same_option() -> None:
    """It is a mistake in the program, found when the command is declared."""

    def draw(*, inner: Size, outer: Size, **given: Any) -> None:
        """Draw."""

    with pytest.raises(ValueError, match="width"):
        takes(())(draw)


def test_a_command_imports_no_other() -> None:
    """Only the module of the command that runs is imported."""
    code = (
        "import sys; from gozoctl import app; sys.argv[1:] = ['list', '--help']; app.main(); "
        "print(*(one for one in sys.modules if one.startswith('gozoctl.commands.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1].split()
    assert set(loaded) == {f"gozoctl.commands.{one}" for one in ("config", "list", "list_watch")}
