"""`gozoctl import-crontab`: turns a crontab into a file of schedules."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gozo.cli.options import tell
from gozo.errors import SettingsError, UnusableError, invalid_value
from gozo.settings import parsers
from gozoctl.exit_codes import DONE
from gozoctl.options.files import STDIN, read_text
from gozoctl.options.time_zones import local_zone, offered
from gozoctl.options.timing import zone_of
from gozoctl.session import finish

SUBJECT = "cron"


def command(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="Crontab to read; - is standard input, for crontab -l."
        ),
    ],
    *,
    subject: Annotated[
        str, typer.Option(metavar="SUBJECT", help="Subject to send the commands to.")
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
    system: Annotated[
        bool,
        typer.Option(
            "--system",
            help="Read a user on each line, as in /etc/crontab, and append it to the subject.",
        ),
    ] = False,
) -> None:
    """Turn a crontab into a file for `gozoctl apply`.

    Each command becomes the payload of a schedule, for `gozoctl exec cron -- /bin/sh`. Lines that
    cannot be converted are reported on standard error. Needs no server.
    """

    def do() -> int:
        from gozo.client import crontab, manifest  # noqa: PLC0415  # not needed for --help

        try:
            parsers.read_subject(subject)
        except UnusableError as error:
            raise SettingsError(invalid_value("--subject", subject, error)) from None
        if time_zone is not None:
            zone_of(time_zone)
        read = crontab.read(
            read_text(file),
            "crontab" if file == STDIN else file,
            subject,
            time_zone or local_zone(),
            system=system,
        )
        for warning in read.warnings:
            tell(f"gozoctl: {warning}")
        sys.stdout.buffer.write(manifest.write_commented(read.jobs).encode())
        sys.stdout.buffer.flush()
        return DONE

    finish(do)
