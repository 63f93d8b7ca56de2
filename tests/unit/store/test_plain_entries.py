"""Plain entries are read in a quicker way, with the same result."""

from __future__ import annotations

from itertools import permutations

from hypothesis import given
from hypothesis import strategies as st

from gozo.protocol.headers import block
from gozo.schedule.model import Entry
from gozo.store import entry_codec as entries
from gozo.store.entry_codec import entry_headers, glance, parse_entry, reserved_key

NOW_US = 1_795_000_000_000_000

WRITTEN = st.lists(
    st.sampled_from(
        [
            *(b"Gozo-Format: 1", b"Gozo-Format: 2", b"Gozo-Id: a-1", b"Gozo-Id: b", b"A: b"),
            *(b"Gozo-Id: a.1", b"Gozo-Id: a..1", b"Gozo-Id: =_1"),
            *(b"Gozo-Subject: to.there", b"gozo-subject: to", b"Gozo-When: +10.5"),
            *(b"Gozo-When: 1763871234", b"Gozo-When: @daily", b"Gozo-Due: 1763871234.000001"),
            *(b"Gozo-Created: 1763871230.000000", b"Gozo-Request: 0a-1", b"Gozo-Jitter: 1s"),
            *(b"Nats-Msg-Size: 7", b"Nats-TTL: 5s", b"Gozo-Extended: Yes"),
            b"Nats-Expected-Last-Subject-Sequence: 3",
        ]
    ),
    max_size=5,
    unique=True,
)
USUAL = (
    b"Nats-Expected-Last-Subject-Sequence: 3",
    *(b"Gozo-Format: 1", b"Gozo-Id: a-1", b"Gozo-When: 1763871235"),
    *(b"Gozo-Subject: to.there", b"Gozo-When: +10.5"),
    *(b"Gozo-Due: 1763871234.000001", b"Gozo-Created: 1763871230.000000"),
    *(b"Gozo-Request: 0a-1", b"Nats-Msg-Size: 7"),
)


@given(
    key=st.sampled_from(["a-1", "b", "a=20b", "=_1", "=_x", "a.1", ".a", "a.", "a..1"]),
    kept=st.sets(st.sampled_from(USUAL)),
    more=WRITTEN,
)
def test_a_plain_entry_is_read_as_any_other(key: str, kept: set[bytes], more: list[bytes]) -> None:
    """The quick way returns the same entry as the other."""
    for lines in ([line for line in USUAL if line in kept], more):
        block_ = b"".join(b"%b\r\n" % line for line in (b"NATS/1.0", *lines, b""))
        quick = entries._plain_entry(key, block_, NOW_US)
        glanced = glance(key, block_, NOW_US)
        if quick is None:
            assert glanced is None
        else:
            assert glanced == (quick.wake_us, quick.subject.encode(), quick.token, quick.size)
            # With an unknown header it is read the other way.
            other = parse_entry(key, block_[:-2] + b"gozo-nothing: 1\r\n\r\n", NOW_US)
            assert isinstance(other, Entry)
            assert other == quick._replace(unknown=b"Gozo-Nothing: 1\r\n")


def test_what_gozo_writes_is_read_in_the_quick_way() -> None:
    """So are entries written by clients, with their lines in any order."""
    for key, id_ in (("a-1", "a-1"), ("a.1", "a.1"), (reserved_key(), None)):
        entry = Entry(id_, "to.there", "+10", NOW_US, NOW_US, b"0a-1")
        assert entries._plain_entry(key, block(entry_headers(entry, b"0a-1"), 3), NOW_US) == entry
    for lines in permutations((b"Gozo-Subject: to.there\r\n", b"Gozo-When: +10\r\n")):
        assert entries._plain_entry("a-1", block(b"".join(lines)), NOW_US) is not None
