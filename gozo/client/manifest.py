"""Schedules as a TOML file: reads, writes and compares them. Pure.

    set = "nightly"                  # default: the file's name

    [schedules.backup]
    subject = "jobs.backup"
    when = "2026-12-24T18:00:00Z"    # any expression of Gozo-When
    payload = "full"                 # or payload-base64, or payload-file
    headers = ["Content-Type: text/plain"]
    confirm = "reply"                # true is "stream"; or "claim"
    attempts = 3
    ack-wait = "1m"
    backoff = "1s,10s"               # or ["1s", "10s"]
    max-age = "10m"
    dead-letter = "jobs.failed"
    paused = true                    # false resumes it; default: unchanged
    note = "till Monday"
    protect = true                   # false ends that; default: unchanged
    set = "weekly"                   # instead of the file's

A file may also say what workers run: see `gozo.client.worker_tables`.

Files are only read: their owner's comments and order stay.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from gozo.client.arguments import DEAD_LETTER, spec_of
from gozo.client.comparison import is_paused, means
from gozo.client.confirming import KEYS as CONFIRM
from gozo.client.dotted import MOST_PARTS, line_of_long_key
from gozo.client.manifest_tables import (
    KEYS,
    PAYLOADS,
    SCHEDULES,
    SET,
    SPEC,
    TIMES,
    confirmed,
    dumped,
    pause_table,
    protect_table,
    schedule_table,
    set_table,
    toml_key,
    when_of,
)
from gozo.client.mistakes import WrongError, invalid, unknown
from gozo.client.models import Schedule, Wanted
from gozo.client.worker_tables import (
    COMMAND,
    KINDS,
    WORKER,
    Job,
    WorkerSettings,
    defaults,
    read_job,
    read_settings,
)
from gozo.errors import Refusal, RequestError, SettingsError, invalid_value
from gozo.protocol.admin import read_note
from gozo.schedule.model import ScheduleSpec

LONGEST_SET = 128
"""Maximum characters of a set's name."""

SET_NAME = f"expected 1 to {LONGEST_SET} printable characters, without spaces around them"
"""What a name must be, in messages."""

_KINDS: dict[type, str] = {
    str: "a string in quotation marks",
    list: "a list of strings such as 'Name: value'",
}
_KINDS |= {bool: "true or false", int: "a whole number"}
_KINDS_OF = {
    "confirm": 'true or false, or "stream", "reply" or "claim"',
    "backoff": 'a string such as "1s,10s", or a list of strings',
    **KINDS,
}
"""By key, for those of several types."""

_KEY_OF = {
    Refusal.NO_REPLY_SUBJECT: "subject",
    Refusal.FORBIDDEN_SUBJECT: "subject",
    Refusal.INVALID_WHEN: "when",
    Refusal.INVALID_HEADER: "headers",
    Refusal.UNKNOWN_HEADER: "headers",
    Refusal.TOO_LARGE: "payload",
    Refusal.INVALID_REQUEST: "attempts",
}

_ABOUT_HEADERS = frozenset({Refusal.INVALID_HEADER, Refusal.UNKNOWN_HEADER})
"""Refusals of a header in the file's `headers`, which are named as headers."""
_HEADERS = re.compile(rf"Gozo-({'|'.join((*TIMES, *CONFIRM))})\b(?!-)", re.IGNORECASE)
_CONFIRM = re.compile(r"'Gozo-Confirm: ([a-z]+)'")

_LONGEST_SHOWN = 80  # characters of a value that is not a plain one

KNOWN = (SCHEDULES, SET, WORKER)
"""The keys of a file outside its tables."""

ReadFile = Callable[[str], bytes]
"""Returns the content of a file named in a manifest, or raises `OSError`."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The content of one file."""

    name: str
    managed_by: str
    wanted: tuple[Wanted, ...]
    jobs: tuple[Job, ...] = ()
    """What workers run for those with a command."""
    worker: WorkerSettings = field(default_factory=WorkerSettings)

    @property
    def sets(self) -> set[str]:
        """Its own set, and all sets of its schedules."""
        return {self.managed_by, *(one.managed_by for one in self.wanted)}

    def place(self, id_: str, key: str = "") -> str:
        """Return the place of a schedule or key in the file, for messages."""
        return _place(self.name, id_, key)


def parse(
    text: str,
    name: str,
    default_set: str,
    read_file: ReadFile,
    check: Callable[[Wanted], None] = lambda wanted: None,
    *,
    managed_by: str | None = None,
) -> Manifest:
    """Read a file called `name`; `check` raises `RequestError` for what gozo would refuse.

    `managed_by` overrides the sets in the file; `default_set` applies if the file names none.

    Raises:
        SettingsError: something in it is invalid. The message has one line for each mistake, with
            file, table and key.
    """
    if (line := line_of_long_key(text)) is not None:
        raise SettingsError(
            f"{name}: line {line}: a key has more than {MOST_PARTS} parts: quote an id with dots: "
            f'[{SCHEDULES}."a.b"]'
        )
    try:
        content = tomllib.loads(text)
    except (
        ValueError,
        RecursionError,
    ) as error:  # a long number, or many brackets
        raise SettingsError(f"{name} is not TOML: {error}") from error
    problems = [f"{name}: {unknown(key, KNOWN)}" for key in content if key not in KNOWN]
    settings = _settings(content, name, problems)
    set_ = managed_by or content.get(SET, default_set)
    if not is_set_name(set_):
        problems.append(f"{name}: {invalid_value(SET, set_, SET_NAME)}")
        set_ = ""
    tables = content.get(SCHEDULES, {})
    if not isinstance(tables, dict):
        problems.append(f"{name}: {SCHEDULES} is not a table: write [schedules.ID] for each")
        tables = {}
    wanted: list[Wanted] = []
    jobs: list[Job] = []
    for id_, table in tables.items():
        try:
            one, job = _wanted(id_, table, set_, read_file)
            if managed_by:
                one = replace(one, managed_by=managed_by)
            check(one)
            wanted.append(one)
            jobs += [] if job is None else [job.within(settings)]
        except RequestError as error:
            problems.append(f"{_place(name, id_)}: {_in_keys(error)}")
        except WrongError as error:
            problems.append(f"{_place(name, id_, error.key)}: {error}")
    if problems:
        raise SettingsError("\n".join(problems))
    return Manifest(name, set_, tuple(wanted), tuple(jobs), settings)


def _settings(content: Mapping[str, Any], name: str, problems: list[str]) -> WorkerSettings:
    try:
        return read_settings(content.get(WORKER, {}))
    except WrongError as error:
        problems.append(f"{name}: [{WORKER}]: {error}")
        return WorkerSettings()


def is_set_name(name: object) -> bool:
    """Return whether a value is a valid name of a set."""
    return (
        isinstance(name, str)
        and 0 < len(name) <= LONGEST_SET
        and name.isprintable()
        and name == name.strip()
    )


def _wanted(
    id_: str, table: Any, managed_by: str, read_file: ReadFile
) -> tuple[Wanted, Job | None]:
    if not isinstance(table, dict):
        raise WrongError("", "it is not a table: write [schedules.ID] above its keys")
    for key, value in table.items():
        if key not in KEYS and isinstance(value, dict):
            dotted = toml_key(f"{id_}.{key}")
            raise WrongError(
                key, f"tables cannot be nested; quote an id with a dot: [{SCHEDULES}.{dotted}]"
            )
        if key not in KEYS:
            raise WrongError("", unknown(key, KEYS))
        kind = KEYS[key]
        texts = value if isinstance(value, list) else ()
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if type(value) not in kinds or not all(isinstance(text, str) for text in texts):
            shown = value if isinstance(value, (str, int, float)) else str(value)[:_LONGEST_SHOWN]
            raise invalid(key, shown, f"expected {_KINDS_OF.get(key) or _KINDS[kinds[0]]}")
    for key in ("subject", "when"):
        if key not in table:
            raise WrongError(key, "it is missing")
    if SET in table and not is_set_name(table[SET]):
        raise invalid(SET, table[SET], SET_NAME)
    spec = _spec(table)
    recurs = spec is not None and spec.recurs
    job = read_job(id_, table)
    given = defaults(recurs=recurs) if COMMAND in table else {}
    given |= {key: table[key] for key in CONFIRM if key in table}
    wanted = Wanted(
        id_,
        table["subject"],
        table["when"],
        _payload(table, read_file),
        tuple(_header(line) for line in table.get("headers", ())),
        spec=spec,
        managed_by=table.get(SET, managed_by),
        paused=table.get("paused"),
        note=_note(table),
        protect=table.get("protect"),
        **{key.replace("-", "_"): value for key, value in given.items()},
    )
    confirmed(wanted)
    return wanted, job


def _spec(table: Mapping[str, Any]) -> ScheduleSpec | None:
    given = {f"Gozo-{key.title()}": str(table[key]) for key in SPEC if key in table}
    for key in ("start", "until"):
        if table.get(key, "").startswith("+"):
            problem = "it would mean another time on each day; expected a moment"
            raise invalid(key, table[key], problem)
    return spec_of(given, table["when"], 0)


def _note(table: Mapping[str, Any]) -> str:
    if "note" in table and not table.get("paused"):
        raise WrongError("note", "a note says why a schedule is paused: add paused = true")
    try:
        return read_note(table.get("note", ""))
    except RequestError as error:
        raise WrongError("note", str(error)) from error


def _payload(table: Mapping[str, Any], read_file: ReadFile) -> bytes:
    given = [key for key in PAYLOADS if key in table]
    if len(given) > 1:
        raise WrongError(given[1], f"the payload is already in {given[0]}: remove one of the two")
    for key in given:
        text: str = table[key]
        try:
            if key == "payload-base64":
                return base64.b64decode(text, validate=True)
            return read_file(text) if key == "payload-file" else text.encode()
        except binascii.Error as error:
            raise invalid(key, text[:_LONGEST_SHOWN], f"expected base64 ({error})") from error
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise invalid(key, text, f"it cannot be read ({why})") from error
    return b""


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name.strip():
        raise invalid("headers", line, "expected 'Name: value'")
    return name.strip(), value.strip(" \t")


def _in_keys(error: RequestError) -> str:
    """Word a refusal with keys instead of headers; it begins with the key that is wrong."""
    words = str(error)
    if error.code not in _ABOUT_HEADERS:
        words = _CONFIRM.sub(r'confirm = "\1"', words)
        words = _HEADERS.sub(lambda header: header[1].lower(), words)
    if words.startswith(f"the {DEAD_LETTER} "):
        return f"dead-letter: {words}"
    first = words.removeprefix("invalid ").split(" ")[0].strip("':")
    key = "" if first in KEYS else _KEY_OF.get(error.code, "")
    return f"{key}: {words}" if key else words


def _place(name: str, id_: str, key: str = "") -> str:
    return f"{name}: [{SCHEDULES}.{toml_key(id_)}]" + (f": {key}" if key else "")


def write(schedules: Iterable[Schedule]) -> str:
    """Write schedules with ids and payloads as a file.

    The set is named once if all have the same, otherwise in each table. A delay is written as the
    moment to which it resolved, since the file may be applied at any time, and to another bucket.
    """
    found = list(schedules)
    sets = {schedule.managed_by for schedule in found}
    content: dict[str, Any] = {SET: sets.pop()} if len(sets) == 1 and sets != {""} else {}
    content[SCHEDULES] = {
        str(one.id): schedule_table(one, when_of(one))
        | ({} if SET in content else set_table(one.managed_by))
        | pause_table(is_paused(one) or None, one.reason)
        | protect_table(one.protected or None)
        for one in found
    }
    return dumped(content)


def difference(
    id_: str, old: Schedule | None, new: Wanted | None, names: tuple[str, str]
) -> list[str]:
    """Return the differences as diff(1) prints them, with `names` for the two sides."""
    before = after = None
    moves = old is not None and new is not None and old.managed_by != new.managed_by
    if new is not None:
        after = schedule_table(new, new.when) | pause_table(new.paused, new.note)
        after |= protect_table(new.protect) | set_table(new.managed_by if moves else "")
    if old is not None:
        before = schedule_table(old, new.when if new and means(new.when, old) else when_of(old))
        if is_paused(old) if new is None else new.paused is not None:
            before |= pause_table(is_paused(old), old.reason)
        if old.protected if new is None else new.protect is not None:
            before |= protect_table(old.protected)
        before |= set_table(old.managed_by if moves else "")
    lines = difflib.unified_diff(_lines(id_, before), _lines(id_, after), *names, n=99, lineterm="")
    return list(lines)


def _lines(id_: str, table: dict[str, Any] | None) -> list[str]:
    return [] if table is None else dumped({SCHEDULES: {id_: table}}).splitlines()
