"""Delete markers as gozo writes them are read in one step, and as `parse_entry` reads them."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from gozo.protocol.headers import block
from gozo.schedule.model import Entry, Marker, Reason
from gozo.store.entry_codec import entry_headers, parse_entry
from gozo.store.marker_codec import (
    marker_headers,
    plain_marker,
)
from tests.support.store import some_index

SIZE = b"Nats-Msg-Size: 0\r\n\r\n"
"""What the server adds for those who read headers only."""

CALLS = 45
"""Of functions, built-in ones included, for a marker that is loaded: 67 where each is read as any
entry is, 27 where it is not."""


@pytest.mark.parametrize("seconds", [10, 0])
@pytest.mark.parametrize("expected", [None, 0, 123_456])
@pytest.mark.parametrize("reason", list(Reason))
def test_what_gozo_writes(reason: Reason, expected: int | None, seconds: int) -> None:
    """Each reason, with and without an end and a revision; one without a reason is not gozo's."""
    written = block(marker_headers(reason, seconds), expected)
    for headers in (written, written[:-2] + SIZE):
        found = parse_entry("a", headers, 1)
        assert isinstance(found, Marker)
        assert plain_marker(headers) == (None if reason is Reason.UNKNOWN else found)


@pytest.mark.parametrize(
    "headers",
    [
        None,
        b"",
        b"NATS/1.0\r\n\r\n",
        block(entry_headers(Entry("a", "to", "+1", 1, 1), b"f"), 0),
        b"NATS/1.0\r\nKV-Operation: DEL\r\n\r\n",
        b"NATS/1.0\r\nKV-Operation: PURGE\r\nGozo-Reason: delivered\r\n\r\n",
        b"NATS/1.0\r\nKV-Operation: DEL\r\nGozo-Reason: delivered\r\nNats-TTL: 1h\r\n\r\n",
        b"NATS/1.0\r\nKV-Operation: DEL\r\nGozo-Reason: delivered\r\nGozo-Id: a\r\n\r\n",
        b"NATS/1.0\r\nKV-Operation: DEL\r\nGozo-Reason: delivered\r\nNats-Msg-Size: 9\r\n\r\n",
        b"NATS/1.0\r\nKV-Operation: DEL\r\nGozo-Reason: delivered\r\n\r\nx",
    ],
)
def test_others(headers: bytes | None) -> None:
    """Whatever gozo does not write is read with care."""
    assert plain_marker(headers) is None


def test_a_load_does_not_parse_markers() -> None:
    """A marker costs a load few calls of functions: an hour's deliveries are hundred thousands."""
    index = some_index()
    headers = block(marker_headers(Reason.DELIVERED, 10), 17)[:-2] + SIZE
    index.take("first", 1, 1_000, headers)

    def load() -> None:
        for revision in range(2, 102):
            index.take(f"key-{revision}", revision, 1_000, headers)

    assert calls(load) / 100 < CALLS
    assert len(index.timetable.tombstones) == 101


def calls(work: Callable[[], None]) -> int:
    """Count the calls of functions that some work takes."""
    count = 0

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def test_by_client() -> None:
    """A client's marker is told from a daemon's, and read with the same reason and end."""
    written = block(marker_headers(Reason.CANCELLED, 600, b"0a1b"), 3)
    found = parse_entry("x", written, 0)
    assert isinstance(found, Marker)
    assert (found.reason, found.ttl_us, found.by_client) == (Reason.CANCELLED, 600_000_000, True)
    plain = parse_entry("x", block(marker_headers(Reason.CANCELLED, 600), 3), 0)
    assert plain == Marker(Reason.CANCELLED, 600_000_000)
