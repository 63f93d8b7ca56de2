"""`gozoctl import-crontab`: from a crontab to a file of schedules."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gozo.cli.options import tell
from gozo.errors import SettingsError, UnusableError
from gozo.settings import parsers as values
from gozoctl.exit_codes import DONE
from gozoctl.options.files import STDIN, read_text
from gozoctl.options.time_zones import local_zone, offered
from gozoctl.options.timing import zone_of
from gozoctl.session import finish

SUBJECT = "cron"


def import_crontab(
    file: Annotated[
        str,
        typer.Argument(metavar="FILE", help="A crontab; - is standard input, as of crontab -l."),
    ],
    *,
    subject: Annotated[
        str, typer.Option(metavar="SUBJECT", help="Where the commands are sent.")
    ] = SUBJECT,
    time_zone: Annotated[
        str | None,
        typer.Option(
            "--time-zone",
            "--tz",
            metavar="ZONE",
            help="The zone of its times, where it has no CRON_TZ; default: this machine's.",
            autocompletion=offered,
            show_default=False,
        ),
    ] = None,
    system: Annotated[
        bool,
        typer.Option(
            "--system",
            help="It names users, as /etc/crontab does: each becomes the end of the subject.",
        ),
    ] = False,
) -> None:
    """Turn a crontab into a file for `gozoctl apply`.

    Each command becomes the payload of a schedule, for `gozoctl exec cron -- /bin/sh`. What
    cannot be carried over is told on standard error, a line each. Needs no server.
    """

    def do() -> int:
        from gozo.client import crontab, manifest  # noqa: PLC0415  # not needed for --help

        try:
            values.read_subject(subject)
        except UnusableError as error:
            raise SettingsError(f"--subject {subject!r} {error}") from None
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
