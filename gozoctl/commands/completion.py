"""`gozoctl completion`: prints completion scripts for shells."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from gozo.cli import completion
from gozoctl.exit_codes import DONE
from gozoctl.session import finish


class Shell(StrEnum):
    """The shells with a completion script."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def command(
    shell: Annotated[Shell, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    """Print the completion script for a shell.

    For bash: `source <(gozoctl completion bash)`.
    """

    def do() -> int:
        sys.stdout.write(completion.script("gozoctl", shell))
        return DONE

    finish(do)
