"""`gozoctl config`: the user's defaults."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from gozo.cli import usage
from gozo.cli.program import program
from gozo.errors import SettingsError
from gozo.runtime.logs import visible
from gozo.settings import user_config
from gozo.settings.credentials import redacted
from gozoctl.exit_codes import DONE, FAILED
from gozoctl.session import finish

app = program()


def _keys() -> list[str]:
    return list(user_config.OPTIONS)


Key = Annotated[
    str,
    typer.Argument(metavar="KEY", help=f"One of {', '.join(_keys())}.", autocompletion=_keys),
]


@app.callback(invoke_without_command=True)
def show(ctx: typer.Context) -> None:
    """Show, set or remove the user's defaults.

    They take precedence over /etc/gozo.env; the command line, the environment and ./gozo.env take
    precedence over them.
    """
    if ctx.invoked_subcommand is None:

        def do() -> int:
            for key, text in _read().items():
                _write(f"{key} = {_shown(key, text)}")
            return DONE

        finish(do)


@app.command("set", cls=usage.Command)
def set_(
    key: Key, value: Annotated[str, typer.Argument(metavar="VALUE", help="The default.")]
) -> None:
    """Set a default."""
    _finish(lambda: user_config.change(_path(), key, value))


@app.command(cls=usage.Command)
def get(key: Key) -> None:
    """Print a default; exits 1 if it is not set."""

    def do() -> int:
        _check(key)
        text = _read().get(key)
        if text is None:
            return FAILED
        _write(text)
        return DONE

    finish(do)


@app.command(cls=usage.Command)
def unset(key: Key) -> None:
    """Remove a default."""
    _finish(lambda: user_config.change(_path(), key, None))


@app.command(cls=usage.Command)
def path() -> None:
    """Print the path of the file with the defaults."""
    _finish(lambda: _write(str(_path())))


def _finish(do: Callable[[], object]) -> None:
    def done() -> int:
        do()
        return DONE

    finish(done)


def _path() -> Path:
    found = user_config.path()
    if found is None:
        raise SettingsError("no directory for the user's defaults: set HOME or XDG_CONFIG_HOME")
    return found


def _read() -> dict[str, str]:
    try:
        return user_config.read(_path())
    except PermissionError:
        raise SettingsError(f"cannot read {_path()}: check its permissions") from None


def _check(key: str) -> None:
    if key not in user_config.OPTIONS:
        raise SettingsError(f"unknown default {key!r}: give one of {', '.join(_keys())}")


def _shown(key: str, text: str) -> str:
    return redacted(text) if key == "address" else text


def _write(text: str) -> None:
    sys.stdout.write(visible(text) + "\n")
