"""Where the values of options come from: the command line, the environment, two files.

The first source with a value wins: the command line, the process's environment, `./gozo.env`,
`/etc/gozo.env`. An empty value counts as not set, wherever it stands.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gozo.errors import SettingsError
from gozo.logs import EventLogger
from gozo.options import Option

FILES = (Path("gozo.env"), Path("/etc/gozo.env"))
"""Files of settings, in this order."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where values may come from, the first before the others."""

    command_line: Mapping[str, str | bool | None] = field(repr=False)
    """By the options' identifiers; what was not given is missing, None or empty."""
    environment: Mapping[str, str] = field(repr=False)
    files: tuple[tuple[str, Mapping[str, str]], ...] = field(repr=False)
    """The variables of each file that was read, with the name of the file."""
    unreadable: tuple[str, ...] = ()
    """Files that are there and may not be read."""

    @classmethod
    def load(
        cls,
        command_line: Mapping[str, str | bool | None],
        environment: Mapping[str, str] | None = None,
        paths: Sequence[Path] = FILES,
    ) -> Sources:
        """Read the files; without an `environment` the process's own is taken.

        Raises:
            SettingsError: a file is not UTF-8, is malformed or cannot be read for another
                reason than permissions.
        """
        files: list[tuple[str, Mapping[str, str]]] = []
        unreadable: list[str] = []
        for path in paths:
            shown = str(path) if path.is_absolute() else f"./{path}"
            try:
                files.append((shown, _variables(path.read_bytes(), shown)))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except PermissionError:
                unreadable.append(shown)
            except OSError as error:
                raise SettingsError(
                    f"{shown} cannot be read ({error.strerror}): mend it or remove it"
                ) from error
        environment = os.environ if environment is None else environment
        return cls(command_line, environment, tuple(files), tuple(unreadable))

    def find(self, option: Option) -> tuple[str, str] | None:
        """Return the first value of an option, and the name of where it stands."""
        given = self.command_line.get(option.identifier)
        if isinstance(given, bool):
            return "yes" if given else "no", f"--{option.name}"
        if given:
            return given, f"--{option.name}"
        if text := self.environment.get(option.variable):
            return text, option.variable
        for name, variables in self.files:
            if text := variables.get(option.variable):
                return text, f"{option.variable} in {name}"
        return None

    def warn(self, log: EventLogger) -> None:
        """Log which files are there and were not read."""
        for name in self.unreadable:
            log.warning("settings.unreadable", file=name, reason="permission denied")


def _variables(content: bytes, name: str) -> dict[str, str]:
    """Return the variables of a file; a `$` in a value is an ordinary character.

    Raises:
        SettingsError: with the line, and never with what stands there: it may be a secret.
    """
    from dotenv.parser import parse_stream  # noqa: PLC0415  # only where there is a file

    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{name}, line {line}: not UTF-8: save the file as such") from None
    variables: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(text, newline="")):
        if binding.error:
            before = binding.original.string
            blank = before[: len(before) - len(before.lstrip())]
            line = binding.original.line + blank.count("\n")
            raise SettingsError(
                f"{name}, line {line}: not of the form NAME=value: mend it, and close each "
                "quotation mark"
            )
        if binding.key is not None and binding.value:
            variables[binding.key] = binding.value
        elif binding.key is not None:
            variables.pop(binding.key, None)
    return variables
