"""Text that a command reads from a file, or from standard input."""

from __future__ import annotations

import sys
from pathlib import Path

from gozo.errors import SettingsError

STDIN = "-"


def read_text(file: str) -> str:
    """Return what is in a file; a mark of its encoding, as of Windows, is no part of it.

    Raises:
        SettingsError: it cannot be read, or is not UTF-8.
    """
    try:
        raw = sys.stdin.buffer.read() if file == STDIN else Path(file).read_bytes()
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise SettingsError(f"{file} cannot be read ({error.strerror}): give another") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{file} is not UTF-8: save it as such") from error
    except ValueError as error:
        raise SettingsError(f"{file!r} cannot be read ({error}): give another") from error
