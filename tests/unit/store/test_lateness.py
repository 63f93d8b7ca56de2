"""Creates that were stored so late that they had been given up."""

import pytest

from gozo.leadership.tenure import TAKEOVER
from gozo.protocol.headers import block
from gozo.schedule.model import MICROSECONDS, Entry
from gozo.store.entry_codec import entry_headers, glance, parse_entry
from gozo.store.entry_tokens import dated, written_us
from gozo.store.lateness import Lateness

AT = 1_763_871_234.567  # seconds
AT_US = int(AT * MICROSECONDS)
TOKEN = b"0123456789-1a"
LIMIT = 10  # seconds
ENTRY = Entry("tea", "kitchen", "+3600", AT_US + 3_600 * MICROSECONDS, AT_US, TOKEN, size=0)


def test_an_entry_says_when_it_was_written() -> None:
    """Where nothing was stored before, to the millisecond; it remains one that is read quickly."""
    token = dated(TOKEN, AT)
    headers = block(entry_headers(ENTRY, token), 0)
    entry = parse_entry("tea", headers, AT_US)
    assert isinstance(entry, Entry)
    assert entry.token == token
    assert glance("tea", headers, AT_US) == (ENTRY.due_us, b"kitchen", token, 0)
    assert written_us(headers, token) == AT_US


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        *((dated(TOKEN, AT), 7), (dated(TOKEN, AT), None)),
        *((TOKEN, 0), (b"", 0), (b"0123456789abcdef", 0), (b"x-y-z", 0), (b"a-1-" + b"f" * 12, 0)),
        (b"550e8400-e29b-41d4-a716-446655440000", 0),
    ],
)
def test_an_entry_does_not_say_when(token: bytes, expected: int | None) -> None:
    """What replaces something, or was written by an older version or another client."""
    assert written_us(block(entry_headers(ENTRY, token), expected), token) == 0
    assert written_us(None, token) == 0


def test_late() -> None:
    """It is late once markers may be gone, unless it is what this very daemon waits for."""
    lateness = Lateness(LIMIT)
    token = dated(TOKEN, AT)
    headers = block(entry_headers(ENTRY, token), 0)
    latest = AT_US + LIMIT * MICROSECONDS
    assert not lateness.is_late("tea", AT_US - 60 * MICROSECONDS, headers, token)
    assert not lateness.is_late("tea", latest, headers, token)
    assert lateness.is_late("tea", latest + 1, headers, token)
    lateness.awaited_by.append(lambda key, given: (key, given) == ("tea", token))
    assert not lateness.is_late("tea", latest + 1, headers, token)


def test_late_under_a_key_that_only_its_writer_knows() -> None:
    """There, as soon as another replica may lead, and not while an answer still counts."""
    lateness = Lateness(LIMIT)
    token = dated(TOKEN, AT)
    headers = block(entry_headers(ENTRY, token), 0)
    assert not lateness.is_late(
        "=_1a", AT_US + int(lateness.in_time * MICROSECONDS), headers, token
    )
    led_us = AT_US + int((TAKEOVER - 1 - 2.5) * MICROSECONDS)
    assert lateness.is_late("=_1a", led_us, headers, token)
    assert not lateness.is_late("tea", led_us, headers, token)


def test_others_would_take_it_for_late() -> None:
    """Of what was in time the key and revision are told, if its date does not say so."""
    told: list[tuple[str, int]] = []
    lateness = Lateness(LIMIT)
    lateness.on_misdated.append(lambda *what: told.append(what))
    headers = block(entry_headers(ENTRY, dated(TOKEN, AT)), 0)
    latest = AT_US + LIMIT * MICROSECONDS
    lateness.check("tea", 5, latest, headers)
    lateness.check("tea", 6, latest + 1, headers)
    lateness.check("tea", 7, latest + 1, block(entry_headers(ENTRY, TOKEN), 0))
    assert told == [("tea", 6)]
