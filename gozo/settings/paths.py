"""Paths of files that options name, and of the user's files (XDG Base Directory Specification)."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from gozo.errors import UnusableError


def config_home(environment: Mapping[str, str]) -> Path | None:
    """Return the user's configuration directory; None if the environment names none.

    A relative `XDG_CONFIG_HOME` is ignored, as the specification requires.
    """
    chosen = Path(environment.get("XDG_CONFIG_HOME", ""))
    if chosen.is_absolute():
        return chosen
    home = Path(environment.get("HOME", ""))
    return home / ".config" if home.is_absolute() else None


def read_file(text: str) -> Path:
    """Read the path of an existing, readable file."""
    path = read_path(text)
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise UnusableError(
            f"it cannot be read ({error.strerror}); expected the path of a file"
        ) from None
    if stat.S_ISDIR(mode):
        raise UnusableError("it is a directory; expected the path of a file")
    if not os.access(path, os.R_OK):
        raise UnusableError(
            "it cannot be read (permission denied); make it readable for gozo's user"
        )
    return path


def read_path(text: str) -> Path:
    """Read a path, whether it exists or not; `~` is the home directory."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UnusableError(
            "it begins with ~, but the home directory is unknown; give the full path"
        ) from None
