"""The sources of option values: the command line, the environment, files.

The first source with a value wins: the command line, the process's environment, `./gozo.env`,
the user's `config.toml`, `/etc/gozo.env`. An empty value counts as not set, except for a
repeatable option on the command line, where it is an error.

`./gozo.env` depends on the working directory. So it is read only if no other user can have
written it, and its values are marked: `gozo.settings.resolve` never sends credentials from
another source to an address from it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gozo.errors import SettingsError
from gozo.runtime.logs import EventLogger
from gozo.settings import user_config
from gozo.settings.options import Option

LOCAL = Path("gozo.env")
SYSTEM = Path("/etc/gozo.env")
"""Files of variables; the user's `config.toml` ranks between them."""

LARGEST = 1024 * 1024  # bytes: no file of variables is larger
OTHERS_WRITE = 0o022  # permission bits: writable by group or others
ROOT = 0  # trusted by every user

_BEFORE_FILES = 2  # sources: the command line and the environment

STEP = 4
"""Distance between the ranks of two sources; a context ranks in between."""


@dataclass(frozen=True, slots=True)
class Found:
    """A value of an option in one of the sources."""

    text: str = field(repr=False)
    origin: str
    """The name of the source in messages."""
    rank: int
    """The lowest wins: 0 for the command line, `STEP` more for each further source."""
    is_local: bool = False
    """Whether it is from `./gozo.env`, or from a context that this file names."""


@dataclass(frozen=True, slots=True)
class File:
    """A file that was read."""

    name: str
    values: Mapping[str, str] = field(repr=False)
    """By variable; by option name if `by_option`."""
    by_option: bool = False
    is_local: bool = False
    """Whether it is `./gozo.env`."""

    def look(self, option: Option) -> tuple[str, str] | None:
        """Return an option's value and the name of its source."""
        for key in (option.name,) if self.by_option else option.variables:
            if text := self.values.get(key):
                return text, f"{key} in {self.name}"
        return None


@dataclass(frozen=True, slots=True)
class Sources:
    """The sources of values, in order of precedence."""

    command_line: Mapping[str, str | bool | list[str] | None] = field(repr=False)
    """By option identifier; an option that was not given is missing, None or empty."""
    environment: Mapping[str, str] = field(repr=False)
    files: tuple[File, ...] = ()
    ignored: tuple[tuple[str, str], ...] = ()
    """Existing files that are ignored, each with the reason."""

    @classmethod
    def load(
        cls,
        command_line: Mapping[str, str | bool | list[str] | None],
        environment: Mapping[str, str] | None = None,
        *,
        local: Path | None = LOCAL,
        system: Path = SYSTEM,
    ) -> Sources:
        """Read the files; `environment` defaults to that of the process.

        If `local` is None, no file of the working directory is read.

        Raises:
            SettingsError: a file is not UTF-8 or malformed, or cannot be read for a reason
                other than permissions.
        """
        environment = os.environ if environment is None else environment
        defaults = user_config.path(environment)
        files: list[File] = []
        ignored: list[tuple[str, str]] = []
        for path in (local, defaults, system):
            if path is None:
                continue
            shown = str(path) if path.is_absolute() else f"./{path}"
            try:
                if path is defaults:
                    files.append(File(shown, user_config.read(path), by_option=True))
                elif path is local:
                    files.append(File(shown, _variables(_owned(path), shown), is_local=True))
                else:
                    files.append(File(shown, _variables(path.read_bytes(), shown)))
            except (FileNotFoundError, NotADirectoryError):
                continue
            except PermissionError:
                ignored.append((shown, "permission denied"))
            except _NotOursError as error:
                ignored.append((shown, str(error)))
            except OSError as error:
                raise SettingsError(
                    f"{shown} cannot be read ({error.strerror}): fix or remove it"
                ) from error
        return cls(command_line, environment, tuple(files), tuple(ignored))

    def find(self, option: Option) -> Found | None:
        """Return the first value of an option."""
        for rank, where in enumerate(self._look(option)):
            if where is not None:
                file = self.files[rank - _BEFORE_FILES] if rank >= _BEFORE_FILES else None
                is_local = file is not None and file.is_local
                return Found(*where, rank * STEP, is_local)
        return None

    def _look(self, option: Option) -> Iterator[tuple[str, str] | None]:
        given = self.command_line.get(option.identifier)
        if isinstance(given, bool):
            given = "yes" if given else "no"
        is_given = bool(given)
        if isinstance(given, list):
            # An empty value among these, or alone, is reported as an error.
            given = ",".join(given)
        yield (given or "", f"--{option.name}") if is_given else None
        set_ = (name for name in option.variables if self.environment.get(name))
        yield next(((self.environment[name], name) for name in set_), None)
        for file in self.files:
            yield file.look(option)

    def warn(self, log: EventLogger) -> None:
        """Log the files that are ignored."""
        for name, reason in self.ignored:
            log.warning("settings.ignored", file=name, reason=reason)


class _NotOursError(Exception):
    """Another user can have written the file; the message says why, and what to do."""


def _owned(path: Path) -> bytes:
    """Return the content of a file that only this user, or root, can have written.

    The directory is not checked: other users who can write there can replace the file only by
    one that they own.

    Raises:
        _NotOursError: another user owns it or may write it, or owns a symbolic link to it.
        OSError: it cannot be read.
    """
    ours = (os.geteuid(), ROOT)
    not_ours = "it belongs to another user: remove it, or change its owner with chown"
    if path.lstat().st_uid not in ours:
        raise _NotOursError(not_ours)
    # O_NONBLOCK: it may be a FIFO without a writer. The open file is checked, not the path.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123
        status = os.fstat(file.fileno())
        if status.st_uid not in ours:
            raise _NotOursError(not_ours)
        if status.st_mode & OTHERS_WRITE:
            raise _NotOursError("others can write it: run chmod go-w on it")
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise _NotOursError(f"it is larger than {LARGEST} bytes")
    return content


def _variables(content: bytes, name: str) -> dict[str, str]:
    """Return the variables of a file; a `$` in a value has no special meaning.

    Raises:
        SettingsError: names the line, but never quotes it: it may contain a secret.
    """
    from dotenv.parser import parse_stream  # noqa: PLC0415  # only where there is a file

    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{name}, line {line}: not UTF-8: save the file as UTF-8") from None
    variables: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(text, newline="")):
        if binding.error:
            before = binding.original.string
            blank = before[: len(before) - len(before.lstrip())]
            line = binding.original.line + blank.count("\n")
            raise SettingsError(
                f"{name}, line {line}: not of the form NAME=value: fix it, and close each "
                "quotation mark"
            )
        if binding.key is not None and binding.value:
            variables[binding.key] = binding.value
        elif binding.key is not None:
            variables.pop(binding.key, None)
    return variables
