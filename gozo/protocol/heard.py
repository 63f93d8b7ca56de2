"""A message as a replica hears it, and the digest by which other replicas know it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import NamedTuple

DIGEST = 8
"""Bytes of a digest."""

OVERHEAD = 600
"""Bytes of memory that a waiting request takes besides its own."""


_HASH = blake2b(digest_size=DIGEST)  # to be copied, which is quicker than making one


class Heard(NamedTuple):
    """A message to act on; a tuple, because millions are made."""

    act: Act
    received_us: int
    reply: bytes
    headers: bytes | None
    payload: bytes
    digest: bytes
    """What tells it from others, on every replica alike."""
    size: int
    """Bytes of memory that it takes, roughly."""
    position: int
    """Its number among all that were heard here."""


def hear(
    act: Act,
    position: int,
    received_us: int,
    subject: bytes,
    reply: bytes,
    headers: bytes | None,
    payload: bytes,
) -> Heard:
    """Take down a message that came on a subject."""
    whole = b"\n".join((subject, reply, headers or b"", payload))
    digest = _HASH.copy()
    digest.update(whole)
    size = len(payload) + (len(headers) if headers else 0) + OVERHEAD
    heard = (act, received_us, reply, headers, payload, digest.digest(), size, position)
    return _MAKE(Heard, heard)


Act = Callable[[Heard], None]

_MAKE = tuple.__new__  # what `Heard(...)` calls, by a function of its own
