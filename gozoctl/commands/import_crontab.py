"""`gozoctl import-crontab`: turns a crontab into a file of schedules and their commands."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from gozo.cli.options import tell
from gozo.errors import SettingsError, UnusableError, invalid_value
from gozo.schedule.model import Misfire
from gozo.settings import parsers
from gozoctl.exit_codes import DONE, FAILED
from gozoctl.options.files import STDIN, read_text
from gozoctl.options.time_zones import local_zone, offered
from gozoctl.options.timing import zone_of
from gozoctl.session import finish

SUBJECT = "cron"
SYSTEM = "crontab"
"""The name of a file in which each line has a user, if it comes on standard input."""

FIRST_PERSON = 1000
"""The first uid of people, login.defs(5): accounts below are often called as their programs."""


def command(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="Crontab to read; - is standard input, for crontab -l."
        ),
    ],
    *,
    host: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Host that runs the commands; default: this one.",
            show_default=False,
        ),
    ] = None,
    shared: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Let several hosts share the commands, under this name."),
    ] = None,
    user: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="User whose crontab it is; default: the one who runs this.",
            show_default=False,
        ),
    ] = None,
    system: Annotated[
        bool, typer.Option("--system", help="Read a user on each line, as in /etc/crontab.")
    ] = False,
    subject: Annotated[
        str, typer.Option(metavar="SUBJECT", help="First part of all subjects.")
    ] = SUBJECT,
    time_zone: Annotated[
        str | None,
        typer.Option(
            "--time-zone",
            "--tz",
            metavar="ZONE",
            help="Time zone of lines without CRON_TZ; default: this machine's.",
            autocompletion=offered,
            show_default=False,
        ),
    ] = None,
    misfire: Annotated[
        Misfire, typer.Option(help="What to do with missed runs; cron skips them.")
    ] = Misfire.SKIP,
) -> None:
    """Turn a crontab into a file for `gozoctl apply` and `gozoctl worker`.

    `apply` stores the schedules, and `worker` on each host runs the commands of its tables. Lines
    that cannot be converted are comments in the file and errors on standard error; the exit code
    is then 1. Needs no server.
    """

    def do() -> int:
        from gozo.client import crontab, crontab_file  # noqa: PLC0415  # not needed for --help

        if host is not None and shared is not None:
            raise SettingsError("--shared is for no host in particular: give it or --host")
        if user is not None and system:
            raise SettingsError("--system reads a user on each line: give it or --user")
        if user is not None and not crontab.is_user(user):
            raise SettingsError(invalid_value("--user", user, "expected the name of a user"))
        if time_zone is not None:
            zone_of(time_zone)
        name = shared or host or socket.gethostname()
        for option, text in (("--subject", subject), ("--shared" if shared else "--host", name)):
            try:
                parsers.read_subject(text)
            except UnusableError as error:
                raise SettingsError(invalid_value(option, text, error)) from None
        origin = crontab.Origin(
            name="crontab" if file == STDIN else file,
            host=name,
            user="" if system else user or _owner(file),
            file=(SYSTEM if file == STDIN else Path(file).name) if system else "",
            shared=shared is not None,
            subject=subject,
            zone=time_zone or local_zone(),
            misfire=misfire,
            users=crontab.USERS | set(_people()),
        )
        imported = crontab.read(read_text(file), origin)
        for warning in imported.warnings:
            tell(f"gozoctl: {warning}")
        sys.stdout.buffer.write(crontab_file.write(imported).encode())
        sys.stdout.buffer.flush()
        return FAILED if imported.warnings else DONE

    finish(do)


def _owner(file: str) -> str:
    """Return whose crontab a file is: where cron keeps them, each has the name of its user."""
    path = Path(file).resolve()
    if file != STDIN and "spool" in path.parts:
        return path.name
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        raise SettingsError("the user who runs this has no name: give --user") from None


def _people() -> list[str]:
    """Return the users of this host that are people, and not called as a program."""
    found = [one.pw_name for one in pwd.getpwall() if one.pw_uid >= FIRST_PERSON]
    return [name for name in found if shutil.which(name) is None]
