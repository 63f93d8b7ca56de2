"""Usage lines, summaries of commands, and usage errors of both programs.

Typer's own differ from other manuals: it puts required arguments in braces, cuts summaries off
in mid-sentence, and does not show that an argument repeats.
"""

from __future__ import annotations

import re
from collections import UserDict
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.models import CommandInfo

LIST, SHOW = "list", "inspect"

ELSEWHERE = {"serve": "gozo", "check": "gozo"} | dict.fromkeys(
    (
        *("list", "inspect", "create", "cancel", "export", "apply", "diff", "import-crontab"),
        *("reschedule", "pause", "resume", "trigger", "next", "send", "listen", "events"),
        *("history", "runs", "exec", "worker", "status", "config"),
    ),
    "gozoctl",
)
"""The program of each command, for users who look for it in the other one."""

_ADDRESS = re.compile(r"[a-z]+://\S+", re.IGNORECASE)
_SENTENCE = re.compile(r".*?\.(?=\s|\Z)", re.DOTALL)
_NO_VALUE = (
    "-s is --secure here, and takes no value: give the address with -a, --address or --server"
)


def argument_word(parameter: Any, context: Any) -> str:
    """Return an argument as in a usage line: `ID`, `[PAYLOAD]`, `ID...`, `[ID]...`.

    The command line of another program is preceded by `--`.
    """
    word = str(parameter.make_metavar(context)).strip("[]{}<>.")
    word = word if parameter.required else f"[{word}]"
    word += "..." * (parameter.nargs == -1)
    return f"-- {word}" if takes_command([parameter]) else word


def takes_command(parameters: Iterable[Any]) -> bool:
    """Return whether the line ends with the command line of another program."""
    return any(one.param_type_name == "argument" and one.name == "command" for one in parameters)


def summary(help_: str | None) -> str:
    """Return the first sentence of a help text, whole."""
    paragraph = " ".join((help_ or "").partition("\n\n")[0].split())
    found = _SENTENCE.match(paragraph)
    return found[0] if found else paragraph


class Command(TyperCommand):
    """A command."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words of the usage line after the command's name."""
        arguments = [one for one in self.params if one.param_type_name == "argument"]
        return ["[OPTIONS]", *(argument_word(one, ctx) for one in arguments)]

    def get_short_help_str(self, limit: int = 45) -> str:
        """Return the summary; it is never cut off."""
        return summary(self.help)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the line; add to Typer's errors what to do."""
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter:
            raise
        except Exception as error:
            _complete(error, self.params, given)
            if hasattr(error, "message") and takes_command(self.params) and "--" not in given:
                error.message = f"{str(error.message).rstrip('.')}: put -- before the command"
            raise


class Later(TyperCommand):
    """A placeholder for a command that is imported and built when it is needed."""

    load: Callable[[], Callable[..., None]]
    """Returns the function of the command."""

    def build(self) -> Any:
        """Build the command."""
        return typer.main.get_command_from_info(
            CommandInfo(self.name, cls=Command, callback=self.load(), hidden=self.hidden),
            pretty_exceptions_short=False,
            rich_markup_mode=None,
        )


def add(
    app: typer.Typer,
    name: str,
    load: Callable[[], Callable[..., None]],
    *,
    hidden: bool = False,
) -> None:
    """Add a command to a program; `load` is called for its function when it is needed.

    Importing and building all commands would take most of the time of a short run.
    """
    stub = type("Later", (Later,), {"load": staticmethod(load)})
    app.command(name, cls=stub, hidden=hidden)(_nothing)


def _nothing() -> None: ...


class _Commands(UserDict[str, Any]):
    """Commands by name."""

    def __getitem__(self, name: str) -> Any:
        found = super().__getitem__(name)
        if isinstance(found, Later):
            found = self[name] = found.build()
        return found


class Group(TyperGroup):
    """A program, or a command with subcommands."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = _Commands(self.commands)

    def get_short_help_str(self, limit: int = 45) -> str:
        """Return the summary; it is never cut off."""
        return summary(self.help)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the line up to the name of the command."""
        if not ctx.resilient_parsing:
            _check_secure(ctx, list(args))
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            _complete(error, self.params, given)
            raise

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        """Find the command; `get` means `list`, or `inspect` if ids follow."""
        name, *rest = args
        if name == "get" and name not in self.commands and {LIST, SHOW} <= self.commands.keys():
            shows = ctx.resilient_parsing or self._names_something(ctx, rest)
            args = [SHOW if shows else LIST, *rest]
        elif not ctx.resilient_parsing and name not in self.commands and ctx.params.get("secure"):
            ctx.fail(f"No such command {name!r}. If it is an address: {_NO_VALUE}.")
        elif not ctx.resilient_parsing and ctx.parent is None and name not in self.commands:
            program = ELSEWHERE.get(name, ctx.info_name)
            if program != ctx.info_name:
                ctx.fail(f"No such command {name!r}. Use '{program} {name}'.")
        return super().resolve_command(ctx, args)

    def _names_something(self, ctx: Any, args: list[str]) -> bool:
        """Return whether any word on the line is neither an option nor the value of one."""
        line = list(args)
        return bool(
            self.commands[LIST].make_context(LIST, line, parent=ctx, resilient_parsing=True).args
        )


def _check_secure(ctx: Any, args: list[str]) -> None:
    """Refuse `-s nats://...`: in other programs, `-s` takes the address.

    The error does not quote the address, which may contain a password.
    """
    before = ""
    for one in args:
        if one == "--":
            return
        if before == "-s" and _ADDRESS.match(one):
            ctx.fail(f"{_NO_VALUE}.")
        before = one


def _complete(error: Any, parameters: Iterable[Any], args: list[str]) -> None:
    """Add what to do to errors that users of the `nats` program are likely to make."""
    if getattr(error, "option_name", "") == "--json":
        error.possibilities = ["--output json"] * any(one.name == "output" for one in parameters)
    message = str(getattr(error, "message", ""))
    values = [value for option, value in pairwise(args) if option == "-s"]
    if "extra argument" in message and any(value in message for value in values):
        error.message = f"{message.rstrip('.')}. If that is an address: {_NO_VALUE}."


def help_(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="COMMAND", help="Command to explain.", show_default=False),
    ] = None,
) -> None:
    """Print the help of a command, as its --help does."""
    assert ctx.parent is not None
    context: Any = ctx.parent
    for name in names or ():
        if not hasattr(context.command, "resolve_command"):
            context.fail(f"The command {context.command.name!r} has no subcommands.")
        found, command, _ = context.command.resolve_command(context, [name])
        context = command.make_context(found, [], parent=context, resilient_parsing=True)
    typer.echo(context.get_help())
