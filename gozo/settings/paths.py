"""Where the user's own files are (XDG Base Directory Specification)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def config_home(environment: Mapping[str, str]) -> Path | None:
    """Return the directory of the user's settings; None where the environment tells of none.

    A relative `XDG_CONFIG_HOME` is ignored, as the specification asks for.
    """
    chosen = Path(environment.get("XDG_CONFIG_HOME", ""))
    if chosen.is_absolute():
        return chosen
    home = Path(environment.get("HOME", ""))
    return home / ".config" if home.is_absolute() else None
