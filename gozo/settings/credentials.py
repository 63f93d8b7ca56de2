"""Hides secrets in messages, and reads seeds and credentials files."""

from __future__ import annotations

import base64
import binascii
import re
from itertools import pairwise
from pathlib import Path

from gozo.errors import UnusableError
from gozo.settings.paths import read_file

_SCHEME_AND_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)?(?:.*@)?(.*)", re.DOTALL)
_NO_PORT = re.compile(r":(?!//)(?![0-9]*(?:[,/]|\Z))[^,/:\[\]]+(?=[,/]|\Z)")
_SEED = re.compile(r"S[A-Z2-7]{57}")
_SEED_FILE = 65_536  # bytes read of a file that should contain a seed
_JWT = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+){2}")
_CREDENTIALS_FILE = 1 << 20  # bytes read of a credentials file
_SEED_PREFIX = 18 << 3  # of nkeys: the letter S
_USER_PREFIX = 20 << 3  # of nkeys: the letter U


def hidden(_text: str) -> None:
    """Return what messages show of a secret: nothing."""


def redacted(address: str) -> str:
    """Return an address without its user, password or token, for logs and messages.

    Hides everything up to the last `@`; without one, anything but a number in place of the port.
    """
    match = _SCHEME_AND_USER.fullmatch(address)
    if match is None or "@" not in address:
        return _NO_PORT.sub(":***", address)
    return f"{match[1] or ''}***@{match[2]}"


def seed_of(nkey: str) -> str:
    """Return the seed that `--nkey` means: the value itself, or the seed in the file it names.

    The file may have other lines as well, like those written by `nsc`.

    Raises:
        UnusableError: there is no seed. The message never contains the value.
    """
    if _SEED.fullmatch(nkey.strip()):
        return _checked_seed(nkey.strip())
    try:
        path = read_file(nkey.strip())
        with path.open("rb") as file:
            lines = file.read(_SEED_FILE).decode("ascii", "replace").splitlines()
    except (UnusableError, OSError):
        raise UnusableError(
            "expected a user seed (SU...) or a readable file; it is not shown, since it may be a "
            "mistyped seed"
        ) from None
    for line in lines:
        if _SEED.fullmatch(line.strip()):
            return _checked_seed(line.strip())
    raise UnusableError(f"the file {str(path)!r} does not contain a seed (SU...)")


def credentials_of(path: Path) -> tuple[str, str]:
    """Return the JWT and the seed in a credentials file, as written by nsc.

    nats-py would loop forever on a file without a JWT.

    Raises:
        UnusableError: one of them is missing or invalid. The message never contains it.
    """
    try:
        with path.open("rb") as file:
            lines = file.read(_CREDENTIALS_FILE).decode("utf-8", "replace").splitlines()
    except OSError as error:
        raise UnusableError(
            f"it cannot be read ({error.strerror}); expected the path of a file"
        ) from None
    found = {}
    for head in ("BEGIN NATS USER JWT", "BEGIN USER NKEY SEED"):
        after = (line.strip() for before, line in pairwise(lines) if head in before)
        found[head] = next(after, "")
        if not found[head] or found[head].startswith("-----"):
            raise UnusableError(
                f"the file has no '{head}'; expected a credentials file created by nsc"
            )
    jwt, seed = found.values()
    if not _JWT.fullmatch(jwt):
        raise UnusableError("it contains an invalid JWT; copy the file again")
    if not _SEED.fullmatch(seed):
        raise UnusableError("it contains an invalid seed; copy the file again")
    return jwt, _checked_seed(seed)


def _checked_seed(seed: str) -> str:
    """Check prefix and checksum, as nkeys.go does; Python's nkeys skips the checksum."""
    raw = base64.b32decode(seed + "=" * (-len(seed) % 8))
    if binascii.crc_hqx(raw[:-2], 0) != int.from_bytes(raw[-2:], "little"):
        raise UnusableError("the seed is mistyped (wrong checksum); copy it again")
    role = (raw[0] & 7) << 5 | (raw[1] & 248) >> 3
    if raw[0] & 248 != _SEED_PREFIX or role != _USER_PREFIX:
        raise UnusableError("it is not the seed of a user; expected one that begins with SU")
    return seed
