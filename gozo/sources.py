"""Where the values of options come from: the command line, the environment, files.

The first source with a value wins: the command line, the process's environment, `./gozo.env`,
the user's `config.toml`, `/etc/gozo.env`. An empty value counts as not set, wherever it stands,
but for an option that repeats, on the command line: there it is a mistake.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gozo import userconfig
from gozo.errors import SettingsError
from gozo.logs import EventLogger
from gozo.options import Option

LOCAL = Path("gozo.env")
SYSTEM = Path("/etc/gozo.env")
"""Files of variables; the user's `config.toml` goes between them."""

STEP = 4
"""Between the ranks of two sources, so that what a source refers to has a place below it."""


@dataclass(frozen=True, slots=True)
class Found:
    """A value of an option, as it stands somewhere."""

    text: str = field(repr=False)
    origin: str
    """What messages call the place."""
    rank: int
    """The lower one wins: 0 for the command line, then `STEP` more for each source."""


@dataclass(frozen=True, slots=True)
class File:
    """A file that was read."""

    name: str
    values: Mapping[str, str] = field(repr=False)
    """By variables; by the names of options where `by_option`."""
    by_option: bool = False

    def look(self, option: Option) -> tuple[str, str] | None:
        """Return an option's value and what it is called here."""
        for key in (option.name,) if self.by_option else option.variables:
            if text := self.values.get(key):
                return text, f"{key} in {self.name}"
        return None


@dataclass(frozen=True, slots=True)
class Sources:
    """Where values may come from, the first before the others."""

    command_line: Mapping[str, str | bool | list[str] | None] = field(repr=False)
    """By the options' identifiers; what was not given is missing, None or empty."""
    environment: Mapping[str, str] = field(repr=False)
    files: tuple[File, ...] = ()
    unreadable: tuple[str, ...] = ()
    """Files that are there and may not be read."""

    @classmethod
    def load(
        cls,
        command_line: Mapping[str, str | bool | list[str] | None],
        environment: Mapping[str, str] | None = None,
        *,
        local: Path = LOCAL,
        system: Path = SYSTEM,
    ) -> Sources:
        """Read the files; without an `environment` the process's own is taken.

        Raises:
            SettingsError: a file is not UTF-8, is malformed or cannot be read for another
                reason than permissions.
        """
        environment = os.environ if environment is None else environment
        defaults = userconfig.path(environment)
        files: list[File] = []
        unreadable: list[str] = []
        for path in (local, defaults, system):
            if path is None:
                continue
            shown = str(path) if path.is_absolute() else f"./{path}"
            try:
                if path is defaults:
                    files.append(File(shown, userconfig.read(path), by_option=True))
                else:
                    files.append(File(shown, _variables(path.read_bytes(), shown)))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except PermissionError:
                unreadable.append(shown)
            except OSError as error:
                raise SettingsError(
                    f"{shown} cannot be read ({error.strerror}): mend it or remove it"
                ) from error
        return cls(command_line, environment, tuple(files), tuple(unreadable))

    def find(self, option: Option) -> Found | None:
        """Return the first value of an option."""
        for rank, where in enumerate(self._look(option)):
            if where is not None:
                return Found(*where, rank * STEP)
        return None

    def _look(self, option: Option) -> Iterator[tuple[str, str] | None]:
        given = self.command_line.get(option.identifier)
        if isinstance(given, bool):
            given = "yes" if given else "no"
        is_given = bool(given)
        if isinstance(given, list):
            # An empty one among these, or alone, is a mistake and is told as one.
            given = ",".join(given)
        yield (given or "", f"--{option.name}") if is_given else None
        set_ = (name for name in option.variables if self.environment.get(name))
        yield next(((self.environment[name], name) for name in set_), None)
        for file in self.files:
            yield file.look(option)

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
