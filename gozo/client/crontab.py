"""A crontab as schedules: crontab(5) of Debian's cron and of cronie to what is wanted. Pure.

The command becomes the payload, for a worker that gives it to a shell:

    gozoctl exec cron -- /bin/sh
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from gozo.client.models import Wanted
from gozo.errors import RequestError
from gozo.schedule.cron import read_zone
from gozo.schedule.expression import NAMES
from gozo.schedule.model import ScheduleSpec
from gozo.schedule.recurrence import expression

END = "END_OF_INPUT"
"""Ends the input of a command, or a longer word that begins so."""

LONGEST_NAME = 64
"""Characters of a program's name that become an id."""

_VARIABLE = re.compile(r"""("[^"]*"|'[^']*'|[^\s=]+)\s*=\s*(.*)""")
_LINE = re.compile(r"(@\S+|-?[^\s@]\S*(?:\s+\S+){4})\s+(\S.*)")
_USER = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_-]*\$?)\s+(\S.*)")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_PERCENT = re.compile(r"(?<!\\)%")
_ZONE = "CRON_TZ"


@dataclass(slots=True)
class Imported:
    """What a crontab came to."""

    jobs: list[tuple[str, Wanted]] = field(default_factory=list)
    """What is wanted, each with the line that it comes from."""
    warnings: list[str] = field(default_factory=list)
    """What could not be carried over, each with the number of its line."""


def read(text: str, name: str, subject: str, zone: str, *, system: bool = False) -> Imported:
    """Read a crontab called `name`; its times are those of `zone` until it says otherwise.

    A `system` crontab, such as /etc/crontab, names the user after the times: who it is becomes
    the last token of the subject.

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
            imported.warnings.append(f"{name}:{number}: {error} (left out)")
    return imported


class _LeftOutError(Exception):
    """A line that cannot be carried over."""


class _BadZoneError(Exception):
    """A zone that is not known: what its times mean is not known either."""


def _variable(match: re.Match[str]) -> str:
    """Take a variable; return the zone that it sets."""
    name, value = _unquoted(match[1]), _unquoted(match[2])
    if name == _ZONE:
        try:
            read_zone(value)
        except RequestError as error:
            raise _BadZoneError(
                f"{_ZONE} {value!r} is no time zone: what follows is left out"
            ) from error
        return value
    raise _LeftOutError(
        f"the variable {name} is not carried over: set it where gozoctl exec runs, or in the "
        "command"
    )


def _unquoted(text: str) -> str:
    text = text.strip()
    for quote in "\"'":
        if len(text) > 1 and text[0] == text[-1] == quote:
            return text[1:-1]
    return text


def _job(line: str, subject: str, zone: str | None, ids: dict[str, int], *, system: bool) -> Wanted:
    if zone is None:
        raise _LeftOutError("its time zone is not known: left out")
    match = _LINE.fullmatch(line)
    if match is None:
        raise _LeftOutError("it has no five times, or no command: left out")
    when, command = " ".join(match[1].removeprefix("-").split()), match[2]
    if when.lower() == "@reboot":
        raise _LeftOutError(
            "@reboot is no time: left out; let the system's own services start it, such as systemd"
        )
    if when.startswith("@") and when not in NAMES:
        raise _LeftOutError(f"{when} is no time of a crontab that gozo knows: left out")
    expression(when)
    if system:
        user = _USER.fullmatch(command)
        if user is None:
            raise _LeftOutError("it names no user, or no command: left out")
        subject, command = f"{subject}.{user[1]}", user[2]
    if command.startswith("%"):
        raise _LeftOutError("it has no command, only input for one: left out")
    spec = ScheduleSpec(recurs=True, zone="" if zone == "UTC" else zone)
    return Wanted(_id(command, ids), subject, when, _script(command).encode(), spec=spec)


def _script(command: str) -> str:
    """Turn a command into what a shell is to read: from the first % on it is input."""
    command, *given = (part.replace("\\%", "%") for part in _PERCENT.split(command))
    if not given:
        return command + "\n"
    end = END
    while end in given:
        end += "_"
    lines = "".join(f"{one}\n" for one in given)
    return f"{{ {command}\n}} <<'{end}'\n{lines}{end}\n"


def _id(command: str, taken: dict[str, int]) -> str:
    """Call a job as its program is called; the second of a name is numbered.

    `taken` has each name that is taken, and the last number that it was given.
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
