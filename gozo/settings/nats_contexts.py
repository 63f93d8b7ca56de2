"""The contexts of the NATS CLI: files with the address of a server and credentials.

`nats context` keeps each in `nats/context/NAME.json` in the user's configuration directory. gozo
only reads them, and only the one given by `--context`: never the selected one. Format and rules
are those of jsm.go, `natscontext`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gozo.errors import SettingsError, UnusableError, invalid_value
from gozo.settings import parsers
from gozo.settings.credentials import seed_of
from gozo.settings.paths import config_home

DEFAULT_URL = "nats://localhost:4222"
"""The address of a context that has none."""

_OPTIONS = {
    "url": "address",
    "user": "user",
    "password": "password",
    "creds": "jwt",
    "nkey": "nkey",
    "token": "token",
    "cert": "cert",
    "key": "key",
    "ca": "ca",
    "inbox_prefix": "inbox-prefix",
}
"""The option that each field of a file sets."""

_PATHS = ("creds", "nkey", "cert", "key", "ca")
_OTHERS = (
    "jetstream_domain",
    "jetstream_api_prefix",
    "user_jwt",
    "user_seed",
)
_LOGINS = ("user", "creds", "user_jwt", "nkey", "token")
"""The ways to authenticate; if there are several, the NATS CLI uses the first."""

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})", re.ASCII)
_FORBIDDEN = ("..", "/", "\\")


@dataclass(frozen=True, slots=True)
class Context:
    """The content of one file."""

    name: str
    options: Mapping[str, str] = field(repr=False)
    """Values of options, by the options' names."""
    fields: Mapping[str, str]
    """For each of those options, its field in the file."""
    js_prefix: str = "$JS.API"
    user_jwt: str | None = field(default=None, repr=False)
    user_seed: str | None = field(default=None, repr=False)
    tls_first: bool = False


def read_name(text: str) -> str:
    """Read the name of a context."""
    if any(one in text for one in _FORBIDDEN) or not text.isprintable():
        raise UnusableError("expected a name without .., / and \\")
    return text


def names() -> list[str]:
    """Return the names of all contexts."""
    folder = _folder(os.environ)
    found = folder.glob("*.json") if folder is not None else ()
    return sorted(path.stem for path in found)


def load(name: str, environment: Mapping[str, str]) -> Context:
    """Read a context.

    Raises:
        SettingsError: it does not exist, or cannot be used.
    """
    folder = _folder(environment)
    if folder is None:
        raise SettingsError(
            f"the context {name!r} cannot be found, since the home directory is unknown: "
            "set HOME or XDG_CONFIG_HOME"
        )
    path = folder / f"{name}.json"
    content = _content(path, name)
    texts = {key: _text(content, key, path) for key in (*_OPTIONS, *_OTHERS)}
    first = next((key for key in _LOGINS if texts[key]), None)
    for key in _LOGINS:
        if key != first and (key, first) != ("nkey", "user_jwt"):
            texts[key] = ""
    for key in _PATHS:
        texts[key] = _VARIABLE.sub(lambda m: environment.get(m[1] or m[2], ""), texts[key])
    seed = texts["user_seed"]
    if texts["user_jwt"]:
        seed, texts["nkey"] = seed or texts["nkey"], ""
        if not seed:
            raise SettingsError(f"{path} has a user_jwt but no user_seed: add it there")
    texts["url"] = texts["url"] or DEFAULT_URL
    tls_first = content.get("tls_first") or False
    if not isinstance(tls_first, bool):
        problem = "expected true or false"
        raise SettingsError(invalid_value(f"tls_first in {path}", tls_first, problem))
    return Context(
        name=name,
        options={option: texts[key] for key, option in _OPTIONS.items() if texts[key]},
        fields={option: f"{key} in {path}" for key, option in _OPTIONS.items()},
        js_prefix=_js_prefix(texts, path),
        user_jwt=texts["user_jwt"] or None,
        user_seed=_seed(seed, path) if texts["user_jwt"] else None,
        tls_first=tls_first,
    )


def _folder(environment: Mapping[str, str]) -> Path | None:
    home = config_home(environment)
    return home / "nats" / "context" if home is not None else None


def _content(path: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise SettingsError(
            f"there is no context {name!r}, {path} is missing: 'nats context ls' lists all contexts"
        ) from None
    except OSError as error:
        raise SettingsError(
            f"the context {name!r} cannot be read ({path}: {error.strerror}): fix or remove it"
        ) from None
    except ValueError:  # its message could quote a secret
        raise SettingsError(
            f"the context {name!r} is malformed, {path} is not JSON: fix it with 'nats context'"
        ) from None
    if not isinstance(content, dict):
        raise SettingsError(
            f"the context {name!r} is malformed, {path} is not a JSON object: fix it with "
            "'nats context'"
        )
    return content


def _text(content: Mapping[str, Any], key: str, path: Path) -> str:
    text = content.get(key) or ""
    if not isinstance(text, str) or not parsers.is_utf8(text):
        problem = "expected a string; fix it with 'nats context'"
        raise SettingsError(invalid_value(f"{key} in {path}", None, problem))
    return text.strip()


def _js_prefix(texts: Mapping[str, str], path: Path) -> str:
    domain = _subject(texts, "jetstream_domain", path)
    if domain:
        return f"$JS.{domain}.API"
    return _subject(texts, "jetstream_api_prefix", path) or "$JS.API"


def _subject(texts: Mapping[str, str], key: str, path: Path) -> str:
    text = texts[key].removesuffix(".")
    if not text:
        return ""
    try:
        parsers.read_subject(text.removeprefix("$"))  # a prefix of the API may begin with $
    except UnusableError as error:
        raise SettingsError(invalid_value(f"{key} in {path}", texts[key], error)) from None
    return text


def _seed(nkey: str, path: Path) -> str:
    try:
        return seed_of(nkey)
    except UnusableError as error:
        raise SettingsError(invalid_value(f"user_seed in {path}", None, error)) from None
