"""The user's own defaults: `gozo/config.toml` in the directory of the user's settings.

Every command reads it; `change` writes it, for `gozoctl config`. What was written by hand keeps
its meaning then, but not its comments.
"""

from __future__ import annotations

import os
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gozo.errors import SettingsError
from gozo.settings.options import CONNECTION, OUTPUT
from gozo.settings.paths import config_home

OPTIONS = {
    option.name: option
    for option in (*CONNECTION, *OUTPUT)
    if option.name in ("address", "context", "bucket", "request-subject", "output")
}
"""What can have a default, by the key in the file."""


def path(environment: Mapping[str, str] | None = None) -> Path | None:
    """Return where the file is, or would be; None where the user has no home directory."""
    home = config_home(os.environ if environment is None else environment)
    return home / "gozo" / "config.toml" if home is not None else None


def read(file: Path) -> dict[str, str]:
    """Return the defaults in a file; there are none where it is missing or says nothing.

    Raises:
        PermissionError: it is there and may not be read.
        SettingsError: it is malformed, or has a key that is not known.
    """
    defaults: dict[str, str] = {}
    for key, text in _read_all(file).items():
        if key not in OPTIONS:
            raise SettingsError(
                f"{file} has the unknown key {key!r}: remove it, known are {_listed()}"
            )
        if not isinstance(text, str):
            raise SettingsError(f"{key} in {file} is not a text: put it in quotation marks")
        defaults[key] = text
    return defaults


def change(file: Path, key: str, text: str | None) -> None:
    """Set a default, or remove it where `text` is None.

    The file is replaced as a whole, so that nobody ever reads half of it, and only its owner
    may read it.

    Raises:
        SettingsError: the key is not known, the value cannot be used, or the file is malformed
            or cannot be written.
    """
    try:
        content = _read_all(file)
        if text is None:
            content.pop(key, None)
        elif key not in OPTIONS:
            raise SettingsError(f"there is no default {key!r}: give {_listed()}")
        else:
            OPTIONS[key].parse(text, key)
            content[key] = text
        _write(file.resolve(), content)  # where it is a link, what it leads to is written
    except OSError as error:
        raise SettingsError(
            f"{file} cannot be changed ({error.strerror}): see to its permissions"
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
            f"{file} cannot be read ({error.strerror}): mend it or remove it"
        ) from error
    except UnicodeDecodeError:
        raise SettingsError(f"{file} is not UTF-8: save it as such") from None
    except tomllib.TOMLDecodeError as error:
        _, _, place = str(error).rpartition(" (")  # what goes before may repeat what stands there
        raise SettingsError(f"{file} is not TOML ({place.rstrip(')')}): mend it there") from None


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
