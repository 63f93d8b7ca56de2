"""The user's own defaults: `gozo/config.toml` in the user's configuration directory.

Every command reads it; `gozoctl config` writes it with `change`, which keeps all values but not
comments.
"""

from __future__ import annotations

import os
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gozo.errors import SettingsError, invalid_value
from gozo.settings.options import CONNECTION, OUTPUT
from gozo.settings.paths import config_home

OPTIONS = {
    option.name: option
    for option in (*CONNECTION, *OUTPUT)
    if option.name in ("address", "context", "bucket", "request-subject", "output")
}
"""The options that can have a default, by their key in the file."""


def path(environment: Mapping[str, str] | None = None) -> Path | None:
    """Return the path of the file, whether it exists or not; None without a home directory."""
    home = config_home(os.environ if environment is None else environment)
    return home / "gozo" / "config.toml" if home is not None else None


def read(file: Path) -> dict[str, str]:
    """Return the defaults in a file; none if it is missing or empty.

    Raises:
        PermissionError: it exists and may not be read.
        SettingsError: it is malformed, or has an unknown key.
    """
    defaults: dict[str, str] = {}
    for key, text in _read_all(file).items():
        if key not in OPTIONS:
            raise SettingsError(
                f"{file} has the unknown key {key!r}: remove it; known keys are {_listed()}"
            )
        if not isinstance(text, str):
            problem = "expected a string in quotation marks"
            raise SettingsError(invalid_value(f"{key} in {file}", None, problem))
        defaults[key] = text
    return defaults


def change(file: Path, key: str, text: str | None) -> None:
    """Set a default; remove it if `text` is None.

    Replaces the file atomically; only its owner may read it.

    Raises:
        SettingsError: the key is unknown, the value is invalid, or the file is malformed or cannot
            be written.
    """
    try:
        content = _read_all(file)
        if text is None:
            content.pop(key, None)
        elif key not in OPTIONS:
            raise SettingsError(f"unknown default {key!r}: give {_listed()}")
        else:
            OPTIONS[key].parse(text, key)
            content[key] = text
        _write(file.resolve(), content)  # a symbolic link stays one: its target is replaced
    except OSError as error:
        raise SettingsError(
            f"{file} cannot be changed ({error.strerror}): check its permissions"
        ) from error


def _read_all(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except PermissionError:
        raise
    except OSError as error:
        raise SettingsError(
            f"{file} cannot be read ({error.strerror}): fix or remove it"
        ) from error
    except UnicodeDecodeError:
        raise SettingsError(f"{file} is not UTF-8: save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        _, _, place = str(error).rpartition(" (")  # what precedes may quote the file
        raise SettingsError(f"{file} is not TOML ({place.rstrip(')')}): fix it there") from None


def _write(file: Path, content: Mapping[str, Any]) -> None:
    import tomli_w  # noqa: PLC0415  # most commands only read

    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as new:
            new.write(tomli_w.dumps(content))
            new.flush()
            os.fsync(new.fileno())
        Path(name).replace(file)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _listed() -> str:
    *first, last = OPTIONS
    return f"{', '.join(first)} or {last}"
