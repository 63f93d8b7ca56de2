"""`gozoctl import-crontab`: turns a crontab into a file of schedules and their commands."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gozo.cli.options import takes, tell
from gozo.errors import SettingsError, UnusableError, invalid_value
from gozo.schedule.model import Misfire
from gozo.settings import parsers
from gozoctl.exit_codes import DONE, FAILED
from gozoctl.options.files import STDIN, read_text
from gozoctl.options.time_zones import local_zone, offered
from gozoctl.options.timing import zone_of
from gozoctl.session import finish

if TYPE_CHECKING:
    from gozo.client.crontab import Origin

SUBJECT = "cron"
SYSTEM = "crontab"
"""The name of a file in which each line has a user, if it comes on standard input."""

FIRST_PERSON = 1000
"""The first uid of people, login.defs(5): accounts below are often called as their programs."""


@dataclass(frozen=True, slots=True)
class Place:
    """The options that say whose crontab it is, and where its commands run."""

    host: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Host that runs the commands; default: this one.",
            show_default=False,
        ),
    ] = None
    shared: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Let several hosts share the commands, under this name."),
    ] = None
    user: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="User whose crontab it is; default: the one who runs this.",
            show_default=False,
        ),
    ] = None
    system: Annotated[
        bool, typer.Option("--system", help="Read a user on each line, as in /etc/crontab.")
    ] = False
    subject: Annotated[str, typer.Option(metavar="SUBJECT", help="First part of all subjects.")] = (
        SUBJECT
    )

    def origin(self, file: str, zone: str, misfire: Misfire) -> Origin:
        """Return where a crontab comes from, and where its schedules go.

        Raises:
            SettingsError: an option is invalid, or contradicts another.
        """
        from gozo.client import crontab  # noqa: PLC0415  # not needed for --help

        if self.host is not None and self.shared is not None:
            raise SettingsError(
                "--shared is for several hosts, and --host for one: give only one of them"
            )
        if self.user is not None and self.system:
            raise SettingsError(
                "--system reads a user on each line, and --user is for all: give only one of them"
            )
        if self.user is not None and not crontab.is_user(self.user):
            raise SettingsError(invalid_value("--user", self.user, "expected the name of a user"))
        host = self.shared or self.host or socket.gethostname()
        which = "--shared" if self.shared else "--host"
        for option, text in (("--subject", self.subject), (which, host)):
            try:
                parsers.read_subject(text)
            except UnusableError as error:
                raise SettingsError(invalid_value(option, text, error)) from None
        return crontab.Origin(
            name="crontab" if file == STDIN else file,
            host=host,
            user="" if self.system else self.user or _owner(file),
            file=(SYSTEM if file == STDIN else Path(file).name) if self.system else "",
            shared=self.shared is not None,
            subject=self.subject,
            zone=zone,
            misfire=misfire,
            users=crontab.USERS | set(_people()),
        )


@takes(())
def command(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="Crontab to read; - is standard input, for crontab -l."
        ),
    ],
    *,
    place: Place,
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

    `apply` stores the schedules, and `worker` runs the commands on their hosts. Lines that cannot
    be converted are comments in the file and errors on standard error; the exit code is then 1.
    Needs no server.
    """

    def do() -> int:
        from gozo.client import crontab, crontab_file  # noqa: PLC0415  # not needed for --help

        if time_zone is not None:
            zone_of(time_zone)
        origin = place.origin(file, time_zone or local_zone(), misfire)
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
