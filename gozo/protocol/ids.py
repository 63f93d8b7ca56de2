"""Ids of schedules, and the keys that they become in the bucket. Pure."""

from __future__ import annotations

import re

from gozo.errors import Refusal, RequestError

LONGEST_ID = 1_024
"""Bytes of UTF-8."""

RESERVED = "=_"
"""The prefix of keys that no id can produce."""

_UNSAFE = re.compile(rb"[^A-Za-z0-9_\-/.]|^\.|\.\Z|(?<=\.)\.")
_PLAIN_ID = re.compile(r"[A-Za-z0-9_\-/]+\Z")
_ESCAPED = re.compile(rb"=([0-9A-F]{2})")


def escape_id(id_: str) -> str:
    """Turn an id into its key, reversibly.

    Escapes as `=` and two hex digits each byte of UTF-8 that a key cannot contain (ADR-8), `=`
    itself, and leading, trailing and doubled dots.
    """
    if _PLAIN_ID.match(id_):
        return id_
    return _UNSAFE.sub(lambda m: b"=%02X" % m[0][0], id_.encode()).decode("ascii")


def unescape_key(key: str) -> str:
    """Turn a key back into its id.

    Raises:
        ValueError: the key is not the canonical escape of any id.
    """
    if "=" not in key and _PLAIN_ID.match(key):
        return key
    id_ = ""
    if key.isascii():
        id_ = _ESCAPED.sub(lambda m: bytes([int(m[1], 16)]), key.encode()).decode()
    if not id_ or escape_id(id_) != key:
        raise ValueError(f"the key {key!r} is not the canonical escape of an id")
    return id_


def is_addressable(key: str) -> bool:
    """Return whether the server takes a key for itself alone when it reads or purges.

    The server stores a message published on `a.*` under that subject, but takes the subject for
    a pattern when it reads or purges. No subject has a space: see `printable_key`.
    """
    return " " not in key and not {"*", ">"} & set(key.split("."))


def read_id(value: bytes, header: str) -> str:
    """Read an id from a header.

    Raises:
        RequestError: `invalid_id`.
    """
    if not value:
        raise RequestError(Refusal.INVALID_ID, f"{header} is empty: omit it, or give an id")
    if len(value) > LONGEST_ID:
        raise RequestError(
            Refusal.INVALID_ID, f"{header} has {len(value)} bytes; the maximum is {LONGEST_ID}"
        )
    if b"\r" in value or b"\n" in value or b"\0" in value:
        raise RequestError(Refusal.INVALID_ID, f"{header} contains a line end or a zero byte")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise RequestError(
            Refusal.INVALID_ID, f"{header} is not UTF-8 at byte {error.start + 1}"
        ) from error
