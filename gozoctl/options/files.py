"""What a command reads from a file or from standard input, up to a limit."""

from __future__ import annotations

import sys
from pathlib import Path

from gozo.errors import SettingsError

STDIN = "-"
MOST = 64 * 1024 * 1024
"""Bytes: no message can be larger, and no file of schedules comes near it."""


def read_text(file: str) -> str:
    """Return what is in a file; a mark of its encoding, as of Windows, is no part of it.

    Raises:
        SettingsError: it cannot be read, is too large, or is not UTF-8.
    """
    try:
        return read_bytes(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file} is not UTF-8: save it as such") from error


def read_bytes(file: str, name: str = "") -> bytes:
    """Return what is in a file, which messages call `name` if not by its path.

    Raises:
        SettingsError: it cannot be read, or is too large.
    """
    name = name or file
    try:
        if file == STDIN:
            raw = sys.stdin.buffer.read(MOST + 1)
        else:
            with Path(file).open("rb") as opened:
                raw = opened.read(MOST + 1)
    except OSError as error:
        raise SettingsError(f"{name} cannot be read ({error.strerror}): give another") from error
    except ValueError as error:
        raise SettingsError(f"{name!r} cannot be read ({error}): give another") from error
    if len(raw) > MOST:
        raise SettingsError(
            f"{name} is larger than 64 MiB, the most that gozoctl reads: give a smaller one"
        )
    return raw
