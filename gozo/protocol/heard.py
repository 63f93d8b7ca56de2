"""A message as a replica hears it, and the digest by which other replicas know it. Pure."""

from __future__ import annotations

from enum import StrEnum
from hashlib import blake2b
from typing import NamedTuple

DIGEST = 8
"""Bytes of a digest."""

OVERHEAD = 600
"""Bytes of memory that a waiting request takes besides its own."""


_HASH = blake2b(digest_size=DIGEST)  # to be copied, which is quicker than making one


class Verb(StrEnum):
    """What a message asks for: its subject says it."""

    REQUEST = "request"
    """A message on the request subject itself; calls come on `<request subject>.admin.<verb>`."""
    CANCEL = "cancel"
    RESCHEDULE = "reschedule"
    PAUSE = "pause"
    RESUME = "resume"
    TRIGGER = "trigger"
    OUTCOME = "outcome"


class Heard(NamedTuple):
    """A message to act on; a tuple, because millions are made."""

    verb: Verb
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


class HeardCount:
    """How many messages this replica has heard: the position of the last one."""

    __slots__ = ("value",)

    def __init__(self, value: int = 0) -> None:
        self.value = value


def hear(
    verb: Verb,
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
    heard = (verb, received_us, reply, headers, payload, digest.digest(), size, position)
    return _MAKE(Heard, heard)


_MAKE = tuple.__new__  # what `Heard(...)` calls, by a function of its own
