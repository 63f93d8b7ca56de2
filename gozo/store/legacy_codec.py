"""Reads entries of the original gozo, which stored schedules in their values. Pure."""

from __future__ import annotations

from typing import Any

import msgpack

from gozo.errors import RequestError
from gozo.protocol.ids import is_addressable, read_id
from gozo.schedule import expression as when
from gozo.schedule.model import MICROSECONDS, Entry, Marker
from gozo.store.entry_codec import BareEntryError, EntryError, parse_entry

MOST_ORIGINAL = 16
"""The most members of an entry of the original gozo that are read; it has three."""


def parse_original(key: str, value: bytes, stored_us: int) -> tuple[Entry, bytes]:
    """Read an entry of the original gozo: a MessagePack map of when, subject and payload.

    Its key is the id, unescaped. Returns the schedule and its payload.

    Raises:
        EntryError: it is not such an entry.
    """
    try:
        found = _flat_map(value)
        at, subject, payload = found["when"], found["subject"], found["payload"]
    except (ValueError, LookupError, TypeError, msgpack.UnpackException) as error:
        raise EntryError("it has no headers, and its value is not a schedule either") from error
    whole = type(at) is int and isinstance(subject, str) and isinstance(payload, bytes)
    if not whole or not 0 <= at * MICROSECONDS <= when.LAST_US:
        raise EntryError("it has no headers, and its value is not a schedule of the original gozo")
    if not is_addressable(key):
        raise EntryError(f"its key {key!r} cannot be an id")
    try:
        id_ = read_id(key.encode("utf-8", "surrogateescape"), "the id")
    except RequestError as error:
        raise EntryError(str(error)) from error
    entry = Entry(
        id_, subject, str(at), max(at * MICROSECONDS, stored_us), stored_us, size=len(payload)
    )
    return entry, payload


def _flat_map(value: bytes) -> dict[Any, Any]:
    """Read a MessagePack map of a few values, none of which is a map or an array itself."""
    unpacker = msgpack.Unpacker(max_array_len=0, max_map_len=0, max_buffer_size=len(value))
    unpacker.feed(value)
    size = unpacker.read_map_header()
    if size > MOST_ORIGINAL:
        raise ValueError(f"it is a map of {size}")
    found = {unpacker.unpack(): unpacker.unpack() for _ in range(size)}
    if unpacker.tell() != len(value):
        raise ValueError("there is trailing data")
    return found


def parse_whole(
    key: str, headers: bytes | None, value: bytes, stored_us: int
) -> tuple[Entry | Marker, bytes]:
    """Read an entry of any kind, given its value; return it and its payload.

    Raises:
        EntryError: it is neither a schedule nor a delete marker that this version knows.
    """
    try:
        return parse_entry(key, headers, stored_us, len(value)), value
    except BareEntryError:
        return parse_original(key, value, stored_us)
