"""The IANA name of this machine's time zone, and all such names.

A schedule stores the name of a zone, and /etc/localtime, which the C library reads, does not
contain it. Systems keep the name in `TZ` (tzset(3)), in the target of /etc/localtime
(localtime(5)), or in Debian's /etc/timezone.
"""

from __future__ import annotations

import os
import zoneinfo
from collections.abc import Mapping
from pathlib import Path

from gozo.errors import RequestError, SettingsError
from gozo.schedule.cron import read_zone

LOCALTIME, TIMEZONE = Path("/etc/localtime"), Path("/etc/timezone")

_HOPS = 10  # links to follow at most
_FOLDER = "zoneinfo/"
_UNKNOWN = "cannot find the name of this machine's time zone ({}): use --time-zone"


def local_zone(
    environment: Mapping[str, str] = os.environ,
    localtime: Path = LOCALTIME,
    timezone: Path = TIMEZONE,
) -> str:
    """Return the name of this machine's time zone; UTC if none is set, as in tzset(3).

    Raises:
        SettingsError: one is set, but its name is unknown.
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
        raise SettingsError(_UNKNOWN.format(f"{localtime} is not a link to a zone"))
    return found


def offered(incomplete: str) -> list[str]:
    """Offer names of time zones."""
    return sorted(one for one in zoneinfo.available_timezones() if one.startswith(incomplete))


def _linked(path: Path) -> str | None:
    """Return the name of the zone that a chain of links leads to; the first of several."""
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
    """Return the zone named by a text or by a path below `zoneinfo`; None if unknown."""
    name = text.rpartition(_FOLDER)[2].removeprefix("posix/")
    try:
        read_zone(name)
    except RequestError:
        return None
    return name
