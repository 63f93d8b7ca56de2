"""Converts a crontab to schedules: crontab(5) of Debian's cron and of cronie. Pure.

The command becomes the payload, for a worker that passes it to a shell:

    gozoctl exec cron -- /bin/sh
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from gozo.client.models import Wanted
from gozo.errors import RequestError, invalid_value
from gozo.schedule.cron import ZONE_NAME, read_zone
from gozo.schedule.expression import NAMES
from gozo.schedule.model import ScheduleSpec
from gozo.schedule.recurrence import expression

END = "END_OF_INPUT"
"""The delimiter of a command's input; extended if the input contains it."""

LONGEST_NAME = 64
"""Maximum characters of a program's name in an id."""

_VARIABLE = re.compile(r"""("[^"]*"|'[^']*'|[^\s=]+)\s*=\s*(.*)""")
_LINE = re.compile(r"(@\S+|-?[^\s@]\S*(?:\s+\S+){4})\s+(\S.*)")
_USER = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_-]*\$?)\s+(\S.*)")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_PERCENT = re.compile(r"(?<!\\)%")
_ZONE = "CRON_TZ"


@dataclass(slots=True)
class Imported:
    """The result of converting a crontab."""

    jobs: list[tuple[str, Wanted]] = field(default_factory=list)
    """The wanted schedules, each with its line."""
    warnings: list[str] = field(default_factory=list)
    """Messages about lines that could not be converted, each with its line number."""


def read(text: str, name: str, subject: str, zone: str, *, system: bool = False) -> Imported:
    """Read a crontab called `name`; its times are in `zone` unless it sets another.

    A `system` crontab, such as /etc/crontab, names the user after the times: the user becomes the
    last token of the subject.

    Raises:
        RequestError: `invalid_when`, if there is no such zone.
    """
    read_zone(zone)
    known: str | None = zone
    imported = Imported()
    ids: dict[str, int] = {}
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        try:
            if variable := _VARIABLE.fullmatch(line):
                known = _variable(variable)
                continue
            job = _job(line, subject, known, ids, system=system)
            imported.jobs.append((line, job))
            if not system and job.payload.startswith((b"root ", b"root\t")):
                imported.warnings.append(
                    f"{name}:{number}: its command is root: if that is a user, give --system"
                )
        except _BadZoneError as error:
            known = None
            imported.warnings.append(f"{name}:{number}: {error}")
        except _LeftOutError as error:
            imported.warnings.append(f"{name}:{number}: {error}")
        except RequestError as error:
            words = str(error).replace("Gozo-When", "time")
            imported.warnings.append(f"{name}:{number}: {words} (skipped)")
    return imported


class _LeftOutError(Exception):
    """A line that cannot be converted."""


class _BadZoneError(Exception):
    """An unknown time zone: the times that follow have no meaning."""


def _variable(match: re.Match[str]) -> str:
    """Read a variable; return the time zone that it sets."""
    name, value = _unquoted(match[1]), _unquoted(match[2])
    if name == _ZONE:
        try:
            read_zone(value)
        except RequestError as error:
            problem = f"{ZONE_NAME}; skipping what follows"
            raise _BadZoneError(invalid_value(_ZONE, value, problem)) from error
        return value
    raise _LeftOutError(
        f"the variable {name} is not converted: set it where gozoctl exec runs, or in the command"
    )


def _unquoted(text: str) -> str:
    text = text.strip()
    for quote in "\"'":
        if len(text) > 1 and text[0] == text[-1] == quote:
            return text[1:-1]
    return text


def _job(line: str, subject: str, zone: str | None, ids: dict[str, int], *, system: bool) -> Wanted:
    if zone is None:
        raise _LeftOutError("its time zone is unknown: skipped")
    match = _LINE.fullmatch(line)
    if match is None:
        raise _LeftOutError("it does not have five fields and a command: skipped")
    when, command = " ".join(match[1].removeprefix("-").split()), match[2]
    if when.lower() == "@reboot":
        raise _LeftOutError(
            "@reboot is not a time: skipped; start it as a service, such as a systemd unit"
        )
    if when.startswith("@") and when not in NAMES:
        raise _LeftOutError(f"{when} is not a time that gozo supports: skipped")
    expression(when)
    if system:
        user = _USER.fullmatch(command)
        if user is None:
            raise _LeftOutError("it names no user, or no command: skipped")
        subject, command = f"{subject}.{user[1]}", user[2]
    if command.startswith("%"):
        raise _LeftOutError("it has no command, only input for one: skipped")
    spec = ScheduleSpec(recurs=True, zone="" if zone == "UTC" else zone)
    return Wanted(_id(command, ids), subject, when, _script(command).encode(), spec=spec)


def _script(command: str) -> str:
    """Turn a command into a shell script: the text after the first % is its input."""
    command, *given = (part.replace("\\%", "%") for part in _PERCENT.split(command))
    if not given:
        return command + "\n"
    end = END
    while end in given:
        end += "_"
    lines = "".join(f"{one}\n" for one in given)
    return f"{{ {command}\n}} <<'{end}'\n{lines}{end}\n"


def _id(command: str, taken: dict[str, int]) -> str:
    """Return an id after the name of the program; a number distinguishes equal names.

    `taken` has each id in use, and the last number appended to it.
    """
    words = [word for word in command.split() if not _ASSIGNMENT.match(word)]
    name = PurePosixPath(words[0]).name if words else ""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:LONGEST_NAME] or "job"
    found, number = name, taken.get(name, 0)
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    taken |= {found: 1, name: max(number, 1)}
    return found
