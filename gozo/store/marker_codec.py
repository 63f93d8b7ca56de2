"""Converts delete markers of the bucket from headers to objects and back. Pure."""

from __future__ import annotations

import re
from functools import lru_cache

from gozo.schedule.model import MICROSECONDS, Marker, Reason

MARKER_SECONDS = 600
"""The life of a delete marker if the size of the bucket is not known."""

_PLAIN_MARKER = re.compile(
    rb"NATS/1\.0\r\n(?:Nats-Expected-Last-Subject-Sequence: [0-9]++\r\n)?"
    rb"KV-Operation: DEL\r\nGozo-Reason: ([a-z]++)\r\n(?:Nats-TTL: ([0-9]{1,9}+)s\r\n)?"
    rb"(?:Nats-Msg-Size: 0\r\n)?\r\n\Z"
)
"""A delete marker as gozo writes it; see `marker_headers`."""
_TTL = re.compile(rb"([0-9]{1,9})s?\Z")


def marker_headers(reason: Reason, seconds: int, token: bytes = b"") -> bytes:
    """Return the header lines of a delete marker that lives for some seconds; 0: forever.

    A `token` marks it as written by a client, so that a daemon publishes an event.
    """
    lines = b"KV-Operation: DEL\r\nGozo-Reason: %b\r\n" % reason.encode()
    if token:
        lines += b"Gozo-Request: %b\r\n" % token
    return lines + b"Nats-TTL: %ds\r\n" % seconds if seconds else lines


def plain_marker(headers: bytes | None) -> Marker | None:
    """Read a delete marker as gozo writes it; None if it is anything else.

    After many deliveries most messages of a bucket are such markers. This is much faster than
    `parse_entry`.
    """
    match = _PLAIN_MARKER.match(headers or b"")
    return None if match is None else _marker_of(*match.groups())


@lru_cache(maxsize=256)
def _marker_of(reason: bytes, seconds: bytes | None) -> Marker:
    given = {b"gozo-reason": reason}
    return read_marker(given if seconds is None else given | {b"nats-ttl": seconds})


def read_marker(given: dict[bytes, bytes]) -> Marker:
    """Read a delete marker from its headers, names in lower case."""
    try:
        reason = Reason(given.get(b"gozo-reason", b"").decode("ascii"))
    except ValueError:
        reason = Reason.UNKNOWN
    ttl = _TTL.match(given.get(b"nats-ttl", b""))
    ttl_us = int(ttl[1]) * MICROSECONDS if ttl else 0
    return Marker(reason, ttl_us, by_client=b"gozo-request" in given)
