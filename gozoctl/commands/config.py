"""`gozoctl config` and `gozoctl completion`: the user's defaults, and the shell's."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gozo.cli import completion, usage
from gozo.errors import SettingsError
from gozo.runtime.logs import visible
from gozo.settings import user_config as userconfig
from gozo.settings.credentials import redacted
from gozoctl.exit_codes import DONE, FAILED
from gozoctl.session import finish

config = typer.Typer(
    cls=usage.Group,
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Shell(StrEnum):
    """The shells that can complete."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def _keys() -> list[str]:
    return list(userconfig.OPTIONS)


Key = Annotated[
    str,
    typer.Argument(metavar="KEY", help=f"One of {', '.join(_keys())}.", autocompletion=_keys),
]


@config.callback(invoke_without_command=True)
def show(ctx: typer.Context) -> None:
    """Show, set or remove the user's defaults.

    They go before /etc/gozo.env, and after the command line, the environment and ./gozo.env.
    """
    if ctx.invoked_subcommand is None:

        def do() -> int:
            for key, text in _read().items():
                _write(f"{key} = {_shown(key, text)}")
            return DONE

        finish(do)


@config.command("set", cls=usage.Command)
def set_(
    key: Key, value: Annotated[str, typer.Argument(metavar="VALUE", help="The default.")]
) -> None:
    """Set a default."""
    _finish(lambda: userconfig.change(_path(), key, value))


@config.command(cls=usage.Command)
def get(key: Key) -> None:
    """Print a default; exits 1 where there is none."""

    def do() -> int:
        _check(key)
        text = _read().get(key)
        if text is None:
            return FAILED
        _write(text)
        return DONE

    finish(do)


@config.command(cls=usage.Command)
def unset(key: Key) -> None:
    """Remove a default."""
    _finish(lambda: userconfig.change(_path(), key, None))


@config.command(cls=usage.Command)
def path() -> None:
    """Print where the defaults are kept."""
    _finish(lambda: _write(str(_path())))


def complete(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    """Print the script that completes gozoctl in a shell.

    For bash: `source <(gozoctl completion bash)`.
    """
    _finish(lambda: sys.stdout.write(completion.script("gozoctl", shell)))


def _finish(do: Callable[[], object]) -> None:
    def done() -> int:
        do()
        return DONE

    finish(done)


def _path() -> Path:
    found = userconfig.path()
    if found is None:
        raise SettingsError("there is no place for defaults: set HOME or XDG_CONFIG_HOME")
    return found


def _read() -> dict[str, str]:
    try:
        return userconfig.read(_path())
    except PermissionError:
        raise SettingsError(f"{_path()} may not be read: see to its permissions") from None


def _check(key: str) -> None:
    if key not in userconfig.OPTIONS:
        raise SettingsError(f"there is no default {key!r}: give one of {', '.join(_keys())}")


def _shown(key: str, text: str) -> str:
    return redacted(text) if key == "address" else text


def _write(text: str) -> None:
    sys.stdout.write(visible(text) + "\n")
