"""What the command lines of both programs share: their options, and messages to the user.

Both take the options of the tables in `gozo.settings.options`, before or after the name of a
command.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Annotated, Any, TypeVar, cast, get_origin, get_type_hints

import typer

from gozo.runtime import logs
from gozo.settings.options import Option

Given = dict[str, str | bool | list[str] | None]
"""The values on a command line, by the options' identifiers."""

Command = TypeVar("Command", bound=Callable[..., None])


def takes(options: Iterable[Option]) -> Callable[[Command], Command]:
    """Give a command the options of a table, after its own parameters.

    The command receives them as keyword arguments: a text, a list, a flag, or None if not given.
    They are neither checked here nor looked up in the environment: `gozo.settings` does that, so
    that all sources are treated alike.

    A parameter whose type is a dataclass is a group of options: each annotated field becomes an
    option, and the command receives the object.
    """

    def give(command: Command) -> Command:
        signature = inspect.signature(command, eval_str=True)
        parameters: list[inspect.Parameter] = []
        groups: dict[str, type[Any]] = {}
        for one in signature.parameters.values():
            if is_dataclass(one.annotation):
                groups[one.name] = cast("type[Any]", one.annotation)
                parameters += _of_group(groups[one.name])
            elif one.kind is not one.VAR_KEYWORD:
                parameters.append(one)
        parameters += map(_parameter, options)

        @functools.wraps(command)
        def run(**values: Any) -> None:
            for name, group in groups.items():
                own = (one.name for one in _of_group(group))
                values[name] = group(**{field: values.pop(field) for field in own})
            command(**values)

        vars(run)["__signature__"] = signature.replace(parameters=parameters)
        return cast("Command", run)

    return give


def _of_group(group: type[Any]) -> Iterator[inspect.Parameter]:
    """Return a parameter for each annotated field of a dataclass; the others are not options."""
    hints = get_type_hints(group, include_extras=True)
    for one in fields(group):
        if get_origin(hints[one.name]) is Annotated:
            yield inspect.Parameter(
                one.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=_default(one),
                annotation=hints[one.name],
            )


def _default(field: Field[Any]) -> Any:
    return inspect.Parameter.empty if field.default is MISSING else field.default


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
    """Merge the options given before and after a command's name; those after it win.

    An empty text after it replaces nothing, and lists are joined.
    """
    both = dict(before or {})
    for name, one in after.items():
        first = both.get(name)
        if isinstance(one, list) and isinstance(first, list):
            both[name] = first + one
        elif one not in (None, ""):
            both[name] = one
    return both


def tell(message: str) -> None:
    """Write a message to stderr, escaped: it may quote a server or a file."""
    for line in message.splitlines():
        sys.stderr.write(logs.visible(line) + "\n")
    sys.stderr.flush()
