"""Headers to objects and back; ids to keys and back."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gozo.errors import Refusal, RequestError
from gozo.protocol import (
    RESERVED,
    EntryError,
    block,
    delivery,
    entry_headers,
    escape_id,
    fields,
    marker_headers,
    parse_entry,
    parse_request,
    unescape_key,
)
from gozo.schedule import CancelRequest, Entry, Marker, Reason, ScheduleRequest
from gozo.when import LAST_US

NOW_US = 1_763_871_234_000_000
IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80)
KEY = re.compile(r"[-/_=.a-zA-Z0-9]+")


def headers(**given: str) -> bytes:
    """Return a header block; `Gozo_When="+1"` stands for `Gozo-When: +1`."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items())
    return f"NATS/1.0\r\n{lines}\r\n".encode()


def parse(block_: bytes | None, reply: bytes = b"to", payload: bytes = b"") -> object:
    """Parse a request that was received at `NOW_US`."""
    return parse_request(reply, block_, payload, NOW_US)


@given(id_=IDS)
def test_any_id_there_and_back(id_: str) -> None:
    """Every id becomes a valid key that is not reserved, and comes back from it."""
    key = escape_id(id_)
    assert KEY.fullmatch(key)
    assert not key.startswith((".", RESERVED))
    assert not key.endswith(".")
    assert ".." not in key
    assert unescape_key(key) == id_


@given(one=IDS, other=IDS)
def test_no_two_ids_to_one_key(one: str, other: str) -> None:
    """Different ids have different keys."""
    assert (escape_id(one) == escape_id(other)) == (one == other)


@given(text=st.text(st.sampled_from("ab.=_2ED~"), max_size=12))
def test_only_canonical_keys_are_keys(text: str) -> None:
    """A key that no id produces is not taken for one."""
    try:
        id_ = unescape_key(text)
    except ValueError:
        return
    assert escape_id(id_) == text


@pytest.mark.parametrize("id_", ["order-1", "jobs/nightly_2", "a.b.c", "Z"])
def test_an_ordinary_id_is_its_own_key(id_: str) -> None:
    """What a key can hold stays readable."""
    assert escape_id(id_) == id_


def test_names_match_whatever_their_case() -> None:
    """Header names are the same in any case, as clients normalise them differently."""
    for name in ("gozo-when", "GOZO-WHEN", "Gozo-When", "gOzO-wHeN"):
        request = parse(f"NATS/1.0\r\n{name}:+1\r\ngozo-ID:\t x \r\n\r\n".encode())
        assert isinstance(request, ScheduleRequest)
        assert (request.id, request.due_us) == ("x", NOW_US + 1_000_000)


def test_cancel_needs_no_reply_subject() -> None:
    """A cancel is an id and nothing else."""
    assert parse(headers(Gozo_Del_Id="x"), reply=b"") == CancelRequest("x")


@pytest.mark.parametrize(
    ("block_", "code"),
    [
        (None, Refusal.INVALID_REQUEST),
        (b"NATS/1.0", Refusal.INVALID_REQUEST),
        (b"NATS/1.0\r\n\r\n", Refusal.INVALID_REQUEST),
        (headers(Gozo_Id="x"), Refusal.INVALID_REQUEST),
        (headers(Gozo_When="+1", Gozo_Del_Id="x"), Refusal.INVALID_REQUEST),
        (headers(Gozo_When="+1", gozo_when="+2"), Refusal.INVALID_REQUEST),
        (headers(Gozo_When=""), Refusal.INVALID_WHEN),
        (headers(Gozo_When="soon"), Refusal.INVALID_WHEN),
        (headers(Gozo_When="+1", Gozo_Id=""), Refusal.INVALID_ID),
        (headers(Gozo_When="+1", Gozo_Id="x" * 1025), Refusal.INVALID_ID),
        (headers(Gozo_Del_Id=""), Refusal.INVALID_ID),
        (b"NATS/1.0\r\nGozo-When: +1\r\nGozo-Id: \xff\r\n\r\n", Refusal.INVALID_ID),
        (b"NATS/1.0\r\nGozo-When: +1\r\nGozo-Id: a\nb\r\n\r\n", Refusal.INVALID_ID),
        (b"NATS/1.0\r\nGozo-When: \xff\r\n\r\n", Refusal.INVALID_WHEN),
    ],
)
def test_bad_requests_are_refused(block_: bytes | None, code: Refusal) -> None:
    """Each bad request has its code."""
    with pytest.raises(RequestError) as refused:
        parse(block_)
    assert refused.value.code is code


def test_ids_may_have_1024_bytes() -> None:
    """The bound counts bytes of UTF-8."""
    request = parse(headers(Gozo_When="+1", Gozo_Id="\u00e4" * 512))
    assert isinstance(request, ScheduleRequest)
    with pytest.raises(RequestError, match="1026 bytes"):
        parse(headers(Gozo_When="+1", Gozo_Id="\u00e4" * 513))


@given(data=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    """No header block makes it fail in another way."""
    for block_ in (data, b"NATS/1.0\r\n" + data, b"NATS/1.0\r\nGozo-When: " + data + b"\r\n\r\n"):
        with contextlib.suppress(RequestError):
            assert isinstance(parse(block_), ScheduleRequest | CancelRequest)


def test_deliveries_have_exactly_these_headers() -> None:
    """Clients rely on these headers, and on there being no others."""
    with_id = delivery("to", "a b", b"payload")
    assert fields(with_id.headers) == [(b"gozo-reply", b"Yes"), (b"gozo-id", b"a b")]
    assert with_id.headers == b"NATS/1.0\r\nGozo-Reply: Yes\r\nGozo-Id: a b\r\n\r\n"
    assert delivery("to", None, b"").headers == b"NATS/1.0\r\nGozo-Reply: Yes\r\n\r\n"


@given(
    id_=st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs"]), min_size=1, max_size=40),
    due_us=st.integers(0, LAST_US),
    received_us=st.integers(0, LAST_US),
)
def test_entries_there_and_back(id_: str, due_us: int, received_us: int) -> None:
    """What is stored says the same when it is read."""
    request = ScheduleRequest(id_, "to.there", "+1.5", due_us, received_us, b"")
    stored = block(entry_headers(request, b"token"), 7)
    assert (b"nats-expected-last-subject-sequence", b"7") in fields(stored)
    assert parse_entry(escape_id(id_), stored, 0) == Entry(
        id_, "to.there", due_us, "+1.5", received_us, b"token"
    )


def test_entries_without_id_have_reserved_keys() -> None:
    """A schedule without an id is stored under a key that no id has, and read without one."""
    request = ScheduleRequest(None, "to", "+1", 2, 1, b"")
    entry = parse_entry(f"{RESERVED}abc", block(entry_headers(request, b"t")), 0)
    assert isinstance(entry, Entry)
    assert entry.id is None


def test_relative_times_count_from_storing() -> None:
    """An entry without a due time is due relative to when the server stored it."""
    entry = parse_entry("x", headers(Gozo_When="+2", Gozo_Subject="to"), NOW_US)
    assert isinstance(entry, Entry)
    assert entry.due_us == NOW_US + 2_000_000


@pytest.mark.parametrize("ttl", [True, False])
def test_markers_say_why(*, ttl: bool) -> None:
    """A delete marker tells the reason, and how long it stays."""
    marker = parse_entry("x", block(marker_headers(Reason.CANCELLED, ttl=ttl), 3), NOW_US)
    assert marker == Marker(Reason.CANCELLED, 600_000_000 if ttl else 0)
    foreign = parse_entry("x", headers(KV_Operation="PURGE"), NOW_US)
    assert foreign == Marker(Reason.UNKNOWN, 0)


@pytest.mark.parametrize(
    ("key", "block_", "newer"),
    [
        ("x", None, False),
        ("x", headers(Gozo_Format="2"), True),
        ("x", headers(Gozo_Format="one", Gozo_When="1", Gozo_Subject="to"), False),
        ("x", headers(Gozo_When="1"), False),
        ("x", headers(Gozo_Subject="to"), False),
        ("x", headers(Gozo_Subject="to", Gozo_Due="soon"), False),
        ("x", headers(Gozo_Subject="to", Gozo_Due="253402300800"), False),
        ("x", headers(Gozo_Subject="to", Gozo_When="1", Gozo_Id="y"), False),
        ("=61", headers(Gozo_Subject="to", Gozo_When="1"), False),
        ("a..b", headers(Gozo_Subject="to", Gozo_When="1"), False),
        ("\u00e4", headers(Gozo_Subject="to", Gozo_When="1"), False),
        ("a=0D=0ANats-Rollup=3A=20all", headers(Gozo_Subject="to", Gozo_When="1"), False),
        ("a" * 1025, headers(Gozo_Subject="to", Gozo_When="1"), False),
        ("=FF", headers(Gozo_Subject="to", Gozo_When="1"), False),
        ("=_x", headers(Gozo_Subject="to", Gozo_When="1", Gozo_Id="x"), False),
    ],
)
def test_unreadable_entries_are_told_apart(key: str, block_: bytes | None, newer: bool) -> None:
    """An entry that is not gozo's, or of a later version, is recognised, with a reason."""
    with pytest.raises(EntryError) as unreadable:
        parse_entry(key, block_, NOW_US)
    assert unreadable.value.newer is newer
    assert str(unreadable.value)
