"""Log lines of a daemon, read back as events with fields."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

LINE = re.compile(r"(?P<time>\S+Z) +(?P<level>[a-z]+) +(?P<name>[a-z_.]+)(?P<fields>(?: .*)?)")
FIELD = re.compile(r'(?P<key>\w+)=(?P<value>"(?:[^"\\]|\\.)*"|\S*)')


@dataclass(frozen=True, slots=True)
class Event:
    """One line such as `2026-11-23T09:31:33.123Z info daemon.ready role=leader`."""

    name: str
    level: str
    fields: dict[str, str]
    line: str


def parse_event(line: str) -> Event | None:
    """Return the event that a line tells, or None where it is something else."""
    match = LINE.fullmatch(line)
    if match is None:
        return None
    fields = {found["key"]: _unquoted(found["value"]) for found in FIELD.finditer(match["fields"])}
    return Event(match["name"], match["level"], fields, line)


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value[1:-1]
