"""What the command lines of gozo's programs have in common: the options, and words for people.

Every program takes the options of the tables in `gozo.settings.options`, before the name of a
command or after it.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, TypeVar

import typer

from gozo.runtime import logs
from gozo.settings.options import Option

Given = dict[str, str | bool | list[str] | None]
"""What stood on a command line, by the options' identifiers."""

Command = TypeVar("Command", bound=Callable[..., None])


def takes(options: Iterable[Option]) -> Callable[[Command], Command]:
    """Give a command the options of a table, after the parameters of its own.

    The command receives them as keyword arguments: a text, a flag, or None where not given. They
    are neither checked here nor looked up in the environment: `gozo.settings.sources` does that, so
    that every source is treated alike.
    """

    def give(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
        added = [_parameter(option) for option in options]
        vars(command)["__signature__"] = signature.replace(parameters=[*own, *added])
        return command

    return give


def _parameter(option: Option) -> inspect.Parameter:
    names = [f"--{option.name}/--no-{option.name}" if option.is_flag else f"--{option.name}"]
    names += [f"--{alias}" for alias in option.aliases]
    if option.letter:
        names.append(f"-{option.letter}")
    known = " or ".join(option.variables)
    if option.default and not option.is_secret:
        known = f"{known}; default: {option.default}"
    declared = typer.Option(
        *names,
        help=f"{option.help}.  [{known}]",  # two spaces, as Typer has it
        metavar=option.metavar or None,
        show_default=False,
        autocompletion=option.offers,
    )
    kind: type = bool if option.is_flag else str
    if option.repeats:
        kind = list[str]
    return inspect.Parameter(
        option.identifier,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, declared],
    )


def merged(before: Mapping[str, str | bool | list[str] | None] | None, after: Given) -> Given:
    """Return what stood before a command's name and after it; an empty text sets nothing."""
    both = dict(before or {})
    for name, one in after.items():
        first = both.get(name)
        if isinstance(one, list) and isinstance(first, list):
            both[name] = first + one
        elif one not in (None, ""):
            both[name] = one
    return both


def tell(message: str) -> None:
    """Write a message for people to stderr; it may hold what a server or a file said."""
    for line in message.splitlines():
        sys.stderr.write(logs.visible(line) + "\n")
    sys.stderr.flush()
