"""The three shells that gozo is completed in, each with nothing of this machine's settings."""

from __future__ import annotations

import sys
from pathlib import Path

from gozo.cli.completion import script
from tests.support.programs import require_file, require_program
from tests.support.readme import ROOT
from tests.support.terminal import Terminal

BASH_COMPLETION = Path("/usr/share/bash-completion/bash_completion")

SCRIPTS = {
    "bash": ".local/share/bash-completion/completions/{}",
    "zsh": "site-functions/_{}",
    "fish": ".local/share/fish/vendor_completions.d/{}.fish",
}
"""Where each shell looks for the script of a program, below the home directory."""

SETTINGS = {
    "bash": (
        ".bashrc",
        f"PS1='> '; bind 'set show-all-if-ambiguous on'; source {BASH_COMPLETION}\n",
    ),
    "zsh": (
        ".zshrc",
        "PS1='> '; fpath=(~/site-functions $fpath); autoload -Uz compinit; compinit -u -D\n",
    ),
    "fish": (
        ".config/fish/config.fish",
        "set fish_greeting; function fish_prompt; printf '> '; end\n",
    ),
}

PROGRAMS = {"gozo": "gozo", "gozoctl": "gozoctl", "planner": "tests.support.planner"}
"""What can be completed, and the module that runs."""


def start_shell(shell: str, home: Path) -> Terminal:
    """Start a shell in a terminal; `home` becomes its home and its working directory.

    Its scripts lie where packages put them, so the shell finds and loads them by itself.
    """
    path = require_program(shell, package=shell)
    if shell == "bash":
        require_file(BASH_COMPLETION, package="bash-completion")
    for program, module in PROGRAMS.items():
        _write(home / "bin" / program, f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        _write(home / SCRIPTS[shell].format(program), script(program, shell))
    name, settings = SETTINGS[shell]
    _write(home / name, settings)
    variables = {
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "PATH": f"{home / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "XDG_DATA_DIRS": f"{home / '.local/share'}:/usr/local/share:/usr/share",
    }
    terminal = Terminal([str(path), "-i"], variables, home)
    terminal.shows(">")
    return terminal


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
