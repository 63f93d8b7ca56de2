"""The time zone of this machine, by its IANA name, and the names that there are.

A zone's rules are found by its name only: what the C library reads from /etc/localtime does
not say what it is called. So the name is looked for where systems keep it: in `TZ` (tzset(3)),
in where /etc/localtime points to (localtime(5)), and in Debian's /etc/timezone.
"""

from __future__ import annotations

import os
import zoneinfo
from collections.abc import Mapping
from pathlib import Path

from gozo.errors import RequestError, SettingsError
from gozo.schedule.cron import read_zone

LOCALTIME, TIMEZONE = Path("/etc/localtime"), Path("/etc/timezone")

_HOPS = 10  # links that may follow each other
_FOLDER = "zoneinfo/"
_UNKNOWN = "this machine's time zone has no name that is known ({}): give --time-zone"


def local_zone(
    environment: Mapping[str, str] = os.environ,
    localtime: Path = LOCALTIME,
    timezone: Path = TIMEZONE,
) -> str:
    """Return the name of this machine's time zone; UTC where none is set, as in tzset(3).

    Raises:
        SettingsError: one is set, and its name is not known.
    """
    text = environment.get("TZ")
    if text == "":
        return "UTC"
    if text is not None:
        name = _name(text.removeprefix(":"))
        if name is None:
            raise SettingsError(_UNKNOWN.format(f"TZ is {text!r}"))
        return name
    if not localtime.exists() and not localtime.is_symlink():
        return "UTC"
    found = _linked(localtime) or _written(timezone)
    if found is None:
        raise SettingsError(_UNKNOWN.format(f"{localtime} is no link to one"))
    return found


def offered(incomplete: str) -> list[str]:
    """Offer names of time zones."""
    return sorted(one for one in zoneinfo.available_timezones() if one.startswith(incomplete))


def _linked(path: Path) -> str | None:
    """Return the name of the zone that a link points to, the first of several."""
    for _ in range(_HOPS):
        if not path.is_symlink():
            return None
        target = path.readlink()
        name = _name(str(target)) if _FOLDER in str(target) else None
        if name is not None:
            return name
        path = path.parent / target
    return None


def _written(path: Path) -> str | None:
    try:
        return _name(path.read_text("utf-8").strip())
    except (OSError, ValueError):
        return None


def _name(text: str) -> str | None:
    """Return the name in a text or in a path below `zoneinfo`; None where it is none."""
    name = text.rpartition(_FOLDER)[2].removeprefix("posix/")
    try:
        read_zone(name)
    except RequestError:
        return None
    return name
