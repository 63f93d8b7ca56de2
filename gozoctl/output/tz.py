"""Checks whether the C library understands `TZ` (tzset(3)), which otherwise means UTC to it.

The value is the name of a zoneinfo file or a rule such as `CET-1CEST,M3.5.0,M10.5.0/3`; a colon
may precede it. An empty value means UTC.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from gozo.errors import SettingsError, invalid_value

FOLDERS = ("/usr/share/zoneinfo", "/share/zoneinfo", "/etc/zoneinfo", "/var/db/timezone/zoneinfo")
"""The folders of zoneinfo files of glibc, musl and macOS."""

_MAGIC = b"TZif"  # tzfile(5)
_NAME = r"(?:[A-Za-z]{3,}|<[A-Za-z0-9+-]{3,}>)"
_CLOCK = r"[+-]?(?:2[0-4]|[01]?[0-9])(?::[0-5]?[0-9]){0,2}"
_DAY = r"(?:M(?:1[0-2]|0?[1-9])\.[1-5]\.[0-6]|J?[0-9]{1,3})"
_CHANGE = rf",{_DAY}(?:/[+-]?[0-9]{{1,3}}(?::[0-5]?[0-9]){{0,2}})?"
_RULES = re.compile(rf"{_NAME}{_CLOCK}(?:{_NAME}(?:{_CLOCK})?(?:{_CHANGE}{_CHANGE})?)?")


class LocalZoneError(SettingsError):
    """This machine's local time is unknown."""


def check(environment: Mapping[str, str] = os.environ, folders: Iterable[str] = FOLDERS) -> None:
    """Check that local times are those of the time zone that is set.

    Raises:
        LocalZoneError: `TZ` is invalid, so local times would be UTC.
    """
    text = environment.get("TZ", "")
    name = text.removeprefix(":")
    if not name or _RULES.fullmatch(name):
        return
    folders = (environment.get("TZDIR") or "", *folders)
    if not any(_has_rules(Path(folder, name)) for folder in folders if folder):
        problem = (
            "this machine knows no such time zone, and local times would be UTC; set it to a name "
            "such as Europe/Malta (with tzdata installed), or unset it"
        )
        raise LocalZoneError(invalid_value("TZ", text, problem))


def _has_rules(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except (OSError, ValueError):
        return False
