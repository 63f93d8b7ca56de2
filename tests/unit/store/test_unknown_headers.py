"""Entries with headers that this version does not know."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gozo.protocol.deliveries import delivery
from gozo.protocol.header_names import names
from gozo.protocol.headers import block
from gozo.schedule.model import Entry
from gozo.store.entry_codec import entry_headers, parse_entry

NOW_US = 1_763_871_234_000_000


def test_an_entry_with_an_unknown_header_is_delivered_all_the_same() -> None:
    """The header has no other effect than that its name is reported, shortened."""
    lines = b"Gozo-When: @daily\r\nGozo-Subject: to\r\nGozo-Count: 3\r\nGozo-Created: 1\r\n"
    unknown = b"GOZO-untill: 5\r\ngozo-foo-bar: 1m\r\ngozo-" + b"a" * 100 + b": x\r\n"
    plain = parse_entry("a", block(lines), NOW_US)
    entry = parse_entry("a", block(lines + unknown), NOW_US)
    assert isinstance(entry, Entry)
    assert entry._replace(unknown=b"") == plain
    assert names(entry.unknown) == ("Gozo-Untill", "Gozo-Foo-Bar", f"Gozo-A{'a' * 54}...")
    assert delivery(entry, b"").headers == delivery(entry._replace(unknown=b""), b"").headers


RESTS = st.binary(max_size=20).filter(lambda rest: b"\r\n" not in rest)


@given(st.lists(RESTS.map(lambda rest: b"Gozo-X%b\r\n" % rest), max_size=4))
def test_whatever_an_unknown_header_says_is_kept(lines: list[bytes]) -> None:
    """It has no effect, however often the entry is stored again."""
    given_ = b"".join((b"Gozo-When: +10\r\nGozo-Subject: to\r\n", *lines))
    entry = parse_entry("a", block(given_), NOW_US)
    assert isinstance(entry, Entry)
    again = parse_entry("a", block(entry_headers(entry, b"0-1")), NOW_US)
    assert again == entry._replace(token=b"0-1")
