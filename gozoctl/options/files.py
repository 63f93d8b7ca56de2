"""Reads files and standard input, up to a limit."""

from __future__ import annotations

import sys
from pathlib import Path

from gozo.errors import SettingsError

STDIN = "-"
MOST = 64 * 1024 * 1024
"""Bytes: no message can be larger, and no file of schedules comes close."""


def read_text(file: str) -> str:
    """Return the text of a file, without a byte order mark.

    Raises:
        SettingsError: it cannot be read, is too large, or is not UTF-8.
    """
    try:
        return read_bytes(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file} is not UTF-8: convert it") from error


def read_bytes(file: str, name: str = "") -> bytes:
    """Return the content of a file; messages call it `name`, or else by its path.

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
        raise SettingsError(
            f"cannot read {name} ({error.strerror}): check its path and permissions"
        ) from error
    except ValueError as error:
        raise SettingsError(f"cannot read {name!r} ({error}): check its path") from error
    if len(raw) > MOST:
        raise SettingsError(
            f"{name} is larger than 64 MiB, the maximum that gozoctl reads: use a smaller file"
        )
    return raw
