"""`python -m completions` writes the scripts anew, after a change in `gozo.cli.completion`."""

from __future__ import annotations

from pathlib import Path

from gozo.cli.completion import SHELLS, script

PROGRAMS = ("gozo", "gozoctl")
NAMES = {"bash": "{}", "zsh": "_{}", "fish": "{}.fish"}
"""What each shell calls the script of a program."""


def scripts() -> dict[Path, str]:
    """Return what each file here has to hold."""
    folder = Path(__file__).parent
    return {
        folder / shell / NAMES[shell].format(program): script(program, shell)
        for shell in SHELLS
        for program in PROGRAMS
    }


if __name__ == "__main__":
    for path, text in scripts().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
