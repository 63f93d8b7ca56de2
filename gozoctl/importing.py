"""`gozoctl import-crontab`: from a crontab to a file of schedules."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from gozo import values
from gozo.commandline import tell
from gozo.errors import RequestError, SettingsError
from gozoctl.exit_codes import DONE
from gozoctl.session import finish

STDIN = "-"
SUBJECT = "cron"
ZONES = "/zoneinfo/"
"""What goes before the name of a zone where /etc/localtime leads to."""


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
            metavar="NAME",
            help="The zone of its times, where it has no CRON_TZ; this machine's if not given.",
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
        except values.UnusableError as error:
            raise SettingsError(f"--subject {subject!r} {error}") from None
        try:
            read = crontab.read(
                _text(file),
                "crontab" if file == STDIN else file,
                subject,
                time_zone or _here(),
                system=system,
            )
        except RequestError as error:
            raise SettingsError(
                f"--time-zone {time_zone!r} is no time zone: give a name such as Europe/Malta"
            ) from error
        for warning in read.warnings:
            tell(f"gozoctl: {warning}")
        sys.stdout.buffer.write(manifest.write_commented(read.jobs).encode())
        sys.stdout.buffer.flush()
        return DONE

    finish(do)


def _text(file: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if file == STDIN else Path(file).read_bytes()
        return raw.decode()
    except OSError as error:
        raise SettingsError(f"{file} cannot be read ({error.strerror}): give another") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file} is not UTF-8: save it as such") from error


def _here() -> str:
    """Return the name of this machine's time zone, which cron goes by.

    Raises:
        SettingsError: it has none that is known.
    """
    if name := os.environ.get("TZ", "").removeprefix(":"):
        return name.partition(ZONES)[2] or name
    _, found, name = str(Path("/etc/localtime").resolve()).partition(ZONES)
    if found:
        return name
    try:
        return Path("/etc/timezone").read_text("utf-8").strip() or "UTC"
    except OSError:
        raise SettingsError(
            "this machine does not say which time zone it is in: give --time-zone"
        ) from None
