"""The command line of `gozoctl`: the root command, its options, and the commands' names."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from gozo import __version__
from gozo.cli import completion, usage
from gozo.cli.options import takes
from gozoctl.commands import apply as applying
from gozoctl.commands import config as configuring
from gozoctl.commands import create as changing
from gozoctl.commands import events, history, status
from gozoctl.commands import exec as executing
from gozoctl.commands import import_crontab as importing
from gozoctl.commands import inspect as inspecting
from gozoctl.commands import list as listing
from gozoctl.commands import next as coming
from gozoctl.commands import pause as pausing
from gozoctl.commands import send as testing
from gozoctl.session import OPTIONS

app = typer.Typer(
    name="gozoctl",
    cls=usage.Group,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _answer_version(context: typer.Context, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:  # that is how a line is read to complete it
        typer.echo(f"gozoctl {__version__}")
        raise typer.Exit


@app.callback()
@takes(OPTIONS)
def root(
    ctx: typer.Context,
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_answer_version, is_eager=True
        ),
    ] = False,
    **given: Any,
) -> None:
    """See and change the schedules of gozo.

    Options may stand before the command's name or after it. Values come from the command line,
    else from the variable in brackets in the environment, else from that variable in
    ./gozo.env, else from the user's defaults (see `gozoctl config`), else from the variable in
    /etc/gozo.env. Keep secrets in the environment or in a file: a command line can be read by
    others.
    """
    ctx.obj = given


COMMANDS: dict[str, Callable[..., None]] = {
    "list": listing.list_,
    "inspect": inspecting.inspect,
    "create": changing.create,
    "cancel": changing.cancel,
    "export": applying.export,
    "apply": applying.apply,
    "diff": applying.diff,
    "import-crontab": importing.import_crontab,
    "reschedule": changing.reschedule,
    "pause": pausing.pause,
    "resume": pausing.resume,
    "trigger": pausing.trigger,
    "next": coming.next_,
    "send": testing.send,
    "listen": testing.listen,
    "events": events.events,
    "history": history.history,
    "exec": executing.exec_,
    "status": status.status,
    "completion": configuring.complete,
}
ALIASES = {
    "ls": "list",
    "info": "inspect",
    "show": "inspect",
    "describe": "inspect",
    "add": "create",
    "rm": "cancel",
    "delete": "cancel",
}
"""For hands that are used to other command lines; `get` is one of `usage.Group`."""

for _name, _command in COMMANDS.items():
    usage.add(app, _name, _command)
app.add_typer(configuring.config, name="config")
for _alias, _name in ALIASES.items():
    usage.add(app, _alias, COMMANDS[_name], hidden=True)
usage.add(app, "help", usage.help_, hidden=True)


def _open_streams() -> None:
    """Put nothing in the place of streams that the caller has closed (`>&-`)."""
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
