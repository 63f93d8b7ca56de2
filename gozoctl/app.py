"""The command line of `gozoctl`: the root command, its options, and the names of all commands."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import typer

from gozo.cli import completion, usage
from gozo.cli.options import takes
from gozo.cli.program import Version, program
from gozoctl.commands import config
from gozoctl.session import OPTIONS

app = program("gozoctl", no_args_is_help=True)


@app.callback()
@takes(OPTIONS)
def root(
    ctx: typer.Context,
    *,
    _version: Version = False,
    **given: Any,
) -> None:
    """Show and change the schedules of gozo.

    Options may precede or follow the command. Each value is taken from the first of these that has
    one: the command line, the variable in brackets in the environment, ./gozo.env, the user's
    defaults (see `gozoctl config`), /etc/gozo.env. Keep secrets in the environment or in a file:
    other users can read command lines.
    """
    ctx.obj = given


COMMANDS = (
    *("list", "inspect", "create", "cancel", "export", "apply", "diff", "import-crontab"),
    *("reschedule", "pause", "resume", "trigger", "next", "send", "listen", "events"),
    *("history", "runs", "exec", "worker", "status", "completion"),
)
"""Each is the function `command` of the module in `gozoctl.commands` that is named like it."""
ALIASES = {
    "ls": "list",
    "info": "inspect",
    "show": "inspect",
    "describe": "inspect",
    "add": "create",
    "rm": "cancel",
    "delete": "cancel",
}
"""Names that other command lines use; `usage.Group` adds `get`."""


def _load(name: str) -> Callable[..., None]:
    """Import a command."""
    module = import_module(f"gozoctl.commands.{name.replace('-', '_')}")
    command: Callable[..., None] = module.command
    return command


for _name in COMMANDS:
    usage.add(app, _name, partial(_load, _name))
app.add_typer(config.app, name="config")
for _alias, _name in ALIASES.items():
    usage.add(app, _alias, partial(_load, _name), hidden=True)
usage.add(app, "help", lambda: usage.help_, hidden=True)


def _open_streams() -> None:
    """Replace streams that the caller has closed (`>&-`) by /dev/null."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))


def main() -> int:
    """Run the command line of this process, and return the exit code."""
    _open_streams()
    answer = completion.answer(app, "gozoctl")
    if answer is not None:
        sys.stdout.write(answer)
        return 0
    try:
        app(prog_name="gozoctl")
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    return 0
