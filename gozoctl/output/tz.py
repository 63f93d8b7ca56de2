"""Whether the C library understands `TZ` (tzset(3)): it takes UTC for what it does not.

A text is the name of a file of rules, or rules themselves, such as `CET-1CEST,M3.5.0,M10.5.0/3`.
A colon may stand before it. No text at all is UTC.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from gozo.errors import SettingsError

FOLDERS = ("/usr/share/zoneinfo", "/share/zoneinfo", "/etc/zoneinfo", "/var/db/timezone/zoneinfo")
"""Where the files are for glibc, musl and macOS."""

_MAGIC = b"TZif"  # tzfile(5)
_NAME = r"(?:[A-Za-z]{3,}|<[A-Za-z0-9+-]{3,}>)"
_CLOCK = r"[+-]?(?:2[0-4]|[01]?[0-9])(?::[0-5]?[0-9]){0,2}"
_DAY = r"(?:M(?:1[0-2]|0?[1-9])\.[1-5]\.[0-6]|J?[0-9]{1,3})"
_CHANGE = rf",{_DAY}(?:/[+-]?[0-9]{{1,3}}(?::[0-5]?[0-9]){{0,2}})?"
_RULES = re.compile(rf"{_NAME}{_CLOCK}(?:{_NAME}(?:{_CLOCK})?(?:{_CHANGE}{_CHANGE})?)?")


class LocalZoneError(SettingsError):
    """There is no telling what this machine's clocks show."""


def check(environment: Mapping[str, str] = os.environ, folders: Iterable[str] = FOLDERS) -> None:
    """Make sure that local times are those of the zone that is set.

    Raises:
        LocalZoneError: `TZ` is set to something else, so they would be those of UTC.
    """
    text = environment.get("TZ", "")
    name = text.removeprefix(":")
    if not name or _RULES.fullmatch(name):
        return
    folders = (environment.get("TZDIR") or "", *folders)
    if not any(_has_rules(Path(folder, name)) for folder in folders if folder):
        raise LocalZoneError(
            f"TZ is {text!r}, which is no time zone that this machine knows, so local times would "
            "be those of UTC: set it to a name such as Europe/Malta (with tzdata installed), or "
            "unset it"
        )


def _has_rules(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except (OSError, ValueError):
        return False
