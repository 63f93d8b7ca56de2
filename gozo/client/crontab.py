"""Converts a crontab to schedules with commands: crontab(5) of Debian's cron and of cronie. Pure.

Each line becomes a schedule, and the command that workers run for it: see `worker_tables`. This
module reads the lines; `crontab_file` writes the file.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from gozo.client.models import Wanted
from gozo.client.worker_tables import Job
from gozo.errors import RequestError, invalid_value
from gozo.schedule.cron import ZONE_NAME, read_zone
from gozo.schedule.expression import NAMES
from gozo.schedule.model import MICROSECONDS, Misfire, ScheduleSpec
from gozo.schedule.recurrence import expression

LONGEST_NAME = 64
"""Maximum characters of a program's name in an id."""

USERS = frozenset({"root", "nobody", "www-data", "apache", "postgres"})
"""Users of most hosts that are not programs: as the first word of a command, one is a column."""

MOST_DELAY = 7 * 24 * 60
"""The largest RANDOM_DELAY that is converted, in minutes."""

_VARIABLE = re.compile(r"""("[^"]*"|'[^']*'|[^\s=]+)\s*=\s*(.*)""")
_LINE = re.compile(r"(@\S+|-?[^\s@]\S*(?:\s+\S+){4})\s+(\S.*)")
_USER = re.compile(r"(\w[\w.@+-]*\$?)\s+(\S.*)")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PERCENT = re.compile(r"(?<!\\)%")
_DAY = r"(?:sun|mon|tue|wed|thu|fri|sat)"
_TIME = re.compile(rf"(?:[*?]\S*|(?:\d+|{_DAY})(?:[-/,#~](?:\d+|{_DAY}))*)", re.IGNORECASE)
_FLOCK = re.compile(r"(?:\S*/)?flock\s")
_ZONE, _MAILTO, _DELAY = "CRON_TZ", "MAILTO", "RANDOM_DELAY"

_FLOCK_COMMENT = 'flock: overlap = "skip" also keeps this from running beside itself, on all hosts.'


def is_user(name: str) -> bool:
    """Return whether this can be the name of a user in a crontab."""
    match = _USER.fullmatch(f"{name} x")
    return match is not None and match[1] == name


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a crontab comes from, and where its schedules go."""

    name: str
    """The file, for messages."""
    host: str
    """The name of the host, or of the file that several hosts work on."""
    user: str = ""
    """Whose crontab it is; empty: each line has a user, as in /etc/crontab."""
    file: str = ""
    """The name of the file in which each line has a user."""
    shared: bool = False
    """Whether several hosts work on it."""
    subject: str = "cron"
    """The first tokens of all subjects."""
    zone: str = "UTC"
    """The time zone, unless the crontab sets another."""
    misfire: Misfire = Misfire.SKIP
    """What to do with missed occurrences."""
    users: Collection[str] = USERS
    """Names of users that cannot be programs."""

    @property
    def set(self) -> str:
        """The set of the schedules."""
        rest = self.user or f"system.{_clean(self.file)}"
        return f"{self.subject}.{self.host}.{rest}"


@dataclass(frozen=True, slots=True)
class Converted:
    """A schedule, and the command for it."""

    wanted: Wanted
    job: Job
    overlap: str = ""
    """How it overlaps, where the line says so."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the file: comments, and what stands below them."""

    comments: tuple[str, ...]
    converted: Converted | None = None
    is_remark: bool = False
    """Whether it is a comment of the crontab itself."""


@dataclass(slots=True)
class Imported:
    """The result of converting a crontab."""

    origin: Origin
    parts: list[Part] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """Messages about lines that could not be converted, each with its line number."""

    @property
    def converted(self) -> list[Converted]:
        """The schedules."""
        return [part.converted for part in self.parts if part.converted is not None]


@dataclass(frozen=True, slots=True)
class _Variables:
    """What the variables before a line say."""

    zone: str | None
    """None: an unknown one was set, so that times have no meaning."""
    environment: dict[str, str] = field(default_factory=dict)
    mailto: str | None = None
    delay: int = 0
    """Minutes."""


def read(text: str, origin: Origin) -> Imported:
    """Read a crontab.

    Raises:
        RequestError: `invalid_when`, if there is no such zone.
    """
    read_zone(origin.zone)
    variables = _Variables(origin.zone)
    imported = Imported(origin)
    ids: dict[str, int] = {}
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line:
            continue
        if line.startswith("#"):
            imported.parts.append(Part((line.lstrip("#").strip(),), is_remark=True))
            continue
        try:
            if variable := _VARIABLE.fullmatch(line):
                variables = _changed(variables, variable)
            else:
                converted = _convert(line, origin, variables, ids)
                comments = (line, _FLOCK_COMMENT) if converted.overlap else (line,)
                imported.parts.append(Part(comments, converted))
            continue
        except _BadZoneError as error:
            variables = replace(variables, zone=None)
            problem = str(error)
        except _LeftOutError as error:
            problem = str(error)
        except RequestError as error:
            problem = str(error).replace("Gozo-When", "time")
        imported.parts.append(Part((line, f"Not converted: {problem}.")))
        imported.warnings.append(f"{origin.name}:{number}: {problem} (skipped)")
    return imported


class _LeftOutError(Exception):
    """A line that cannot be converted."""


class _BadZoneError(Exception):
    """An unknown time zone: the times that follow have no meaning."""


def _changed(variables: _Variables, match: re.Match[str]) -> _Variables:
    """Return the variables with one more, as a line sets it."""
    name, value = _unquoted(match[1]), _unquoted(match[2])
    if name == _ZONE:
        try:
            read_zone(value)
        except RequestError as error:
            problem = f"{ZONE_NAME}; lines that follow have no time"
            raise _BadZoneError(invalid_value(_ZONE, value, problem)) from error
        return replace(variables, zone=value)
    if name == _MAILTO:
        if value.startswith("-") or not value.isprintable():
            raise _LeftOutError(invalid_value(_MAILTO, value, "expected an address"))
        return replace(variables, mailto=value)
    if name == _DELAY:
        if not re.fullmatch("[0-9]{1,5}", value) or int(value) > MOST_DELAY:
            raise _LeftOutError(
                invalid_value(_DELAY, value, f"expected minutes, up to {MOST_DELAY}")
            )
        return replace(variables, delay=int(value))
    if name == "LOGNAME":
        raise _LeftOutError("cron does not let LOGNAME be set either")
    if not _NAME.fullmatch(name) or "\0" in value:
        raise _LeftOutError(f"{name!r} is not the name of a variable in shells")
    return replace(variables, environment=variables.environment | {name: value})


def _unquoted(text: str) -> str:
    text = text.strip()
    for quote in "\"'":
        if len(text) > 1 and text[0] == text[-1] == quote:
            return text[1:-1]
    return text


def _convert(line: str, origin: Origin, variables: _Variables, ids: dict[str, int]) -> Converted:
    if variables.zone is None:
        raise _LeftOutError("its time zone is unknown")
    when, user, command = _columns(line, origin)
    expression(when)
    command, payload = _split(command)
    name = _id(f"{origin.host}.{user}", _clean(origin.file), command, ids)
    spec = ScheduleSpec(
        recurs=True,
        zone="" if variables.zone == "UTC" else variables.zone,
        jitter_us=variables.delay * 60 * MICROSECONDS,
        misfire=origin.misfire,
    )
    subject = f"{origin.subject}.{name}"
    job = Job(
        name,
        subject,
        command,
        host="" if origin.shared else origin.host,
        user=user,
        environment=variables.environment,
        input=bool(payload),
        mailto=variables.mailto,
    )
    overlap = "skip" if _FLOCK.match(_without_assignments(command)) else ""
    return Converted(Wanted(name, subject, when, payload.encode(), spec=spec), job, overlap)


def _columns(line: str, origin: Origin) -> tuple[str, str, str]:
    """Split a line into its time, its user, and its command with the input."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise _LeftOutError("it does not have five fields and a command")
    when, command = " ".join(match[1].removeprefix("-").split()), match[2]
    if when.lower() == "@reboot":
        raise _LeftOutError("@reboot is not a time; start it as a service, such as a systemd unit")
    if when.startswith("@") and when not in NAMES:
        raise _LeftOutError(f"{when} is not a time that gozo supports")
    if not when.startswith("@"):
        _check_fields(command)
    user, named = origin.user, _USER.fullmatch(command)
    if not user:
        if named is None:
            raise _LeftOutError("it names no user, or no command")
        user, command = named[1], named[2]
    elif named is not None and named[1] in origin.users:
        raise _LeftOutError(
            f"its command begins with the user {named[1]}: give --system if each line names a user"
        )
    if command.startswith(("*", "%")):
        what = "only input for one" if command[0] == "%" else "but *, which cron refuses"
        raise _LeftOutError(f"it has no command, {what}")
    return when, user, command


def _check_fields(command: str) -> None:
    """Refuse a line whose command begins with a further field of a time."""
    first = command.split(maxsplit=1)[0]
    if _TIME.fullmatch(first):
        raise _LeftOutError(
            f"its command would be {first}: a crontab has five fields before the command, and no "
            "seconds or years"
        )


def _split(command: str) -> tuple[str, str]:
    """Split a command at the first %; what follows is its input, where % is a line end."""
    command, *given = (part.replace("\\%", "%") for part in _PERCENT.split(command))
    payload = "\n".join(given)
    return command, payload + ("" if payload.endswith("\n") or not payload else "\n")


def _without_assignments(command: str) -> str:
    words = command.split(" ")
    while words and _ASSIGNMENT.match(words[0]):
        del words[0]
    return " ".join(words)


def _id(owner: str, file: str, command: str, taken: dict[str, int]) -> str:
    """Return an id after the owner, the file and the program; a number makes it unique.

    `taken` has each id in use, and the last number appended to it.
    """
    words = [word for word in command.split() if not _ASSIGNMENT.match(word)]
    name = _clean(PurePosixPath(words[0]).name if words else "") or "job"
    wanted = f"{owner}.{file}.{name}" if file else f"{owner}.{name}"
    found, number = wanted, taken.get(wanted, 0)
    while found in taken:
        number += 1
        found = f"{wanted}-{number}"
    taken |= {found: 1, wanted: max(number, 1)}
    return found


def _clean(name: str) -> str:
    """Return a name as a part of ids and subjects."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:LONGEST_NAME]
