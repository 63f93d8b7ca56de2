"""The wording of mistakes in files of schedules. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from gozo.errors import GozoError, invalid_value


class WrongError(GozoError):
    """A mistake in a table; `key` is named before the message, unless it is empty."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def unknown(key: str, known: Iterable[str]) -> str:
    """Return the message about an unknown key."""
    known = tuple(known)
    near = difflib.get_close_matches(key, known, 1)
    cure = f"did you mean {near[0]!r}?" if near else f"known keys are {', '.join(known)}"
    return f"unknown key {key!r}: {cure}"


def invalid(key: str, value: object, problem: str) -> WrongError:
    """Return the error about an invalid value."""
    return WrongError("", invalid_value(key, value, problem))
