"""Headers to objects and back; ids to keys and back."""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import replace

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gozo.errors import Refusal, RequestError
from gozo.protocol import requests as protocol
from gozo.protocol.admin import parse_note
from gozo.protocol.deliveries import delivery
from gozo.protocol.headers import FIRST_LINE, block, fields, pack, split, unpack
from gozo.protocol.ids import RESERVED, escape_id, unescape_key
from gozo.protocol.receipts import refusal_receipt, shortened
from gozo.protocol.requests import dated, parse_request
from gozo.schedule.expression import LAST_US
from gozo.schedule.model import (
    LONGEST_REASON,
    MICROSECONDS,
    NEVER,
    CancelRequest,
    Entry,
    Marker,
    Misfire,
    Reason,
    ScheduleRequest,
    ScheduleSpec,
    State,
)
from gozo.schedule.recurrence import due_at, onward, paused
from gozo.schedule.retry import retried
from gozo.store import entry_codec as entries
from gozo.store.entry_codec import (
    EntryError,
    check_room,
    entry_headers,
    headers_size,
    parse_entry,
)
from gozo.store.legacy_codec import parse_original
from gozo.store.marker_codec import marker_headers

NOW_US = 1_763_871_234_000_000
IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=80)
KEY = re.compile(r"[-/_=.a-zA-Z0-9]+")
DONE = {"Gozo_Count": "3", "Gozo_Occurred": "3"}


def headers(**given: str) -> bytes:
    """Return a header block; `Gozo_When="+1"` stands for `Gozo-When: +1`."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items())
    return f"NATS/1.0\r\n{lines}\r\n".encode()


def parse(block_: bytes | None, reply: bytes = b"to", payload: bytes = b"") -> object:
    """Parse a request that was received at `NOW_US`."""
    request = parse_request(reply, block_, payload, NOW_US)
    return dated(request) if isinstance(request, ScheduleRequest) else request


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
        assert (request.id, request.entry.due_us) == ("x", NOW_US + 1_000_000)


def test_what_a_plain_request_makes_is_whole() -> None:
    """It is made in a shorter way than by the names."""
    headers = b"NATS/1.0\r\nGozo-When: +1\r\nGozo-Id: a\r\n\r\n"
    request = parse_request(b"to", headers, b"x", 5)
    assert request == ScheduleRequest(Entry("a", "to", "+1", 1_000_005, 5), b"x")
    assert isinstance(request, ScheduleRequest)
    assert len(request) == len(ScheduleRequest._fields)
    assert len(request.entry) == len(Entry._fields)


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
        (headers(Gozo_When="@daily"), Refusal.INVALID_REQUEST),
        (headers(Gozo_When="* * * * * 8", Gozo_Id="x"), Refusal.INVALID_WHEN),
        (headers(Gozo_When="+1", Gozo_Untill="+2"), Refusal.UNKNOWN_HEADER),
        (headers(Gozo_Del_Id="x", Gozo_Nothing="1"), Refusal.UNKNOWN_HEADER),
        (b"NATS/1.0\r\nGozo-When: +1\r\nGozo-Count 5\r\n\r\n", Refusal.UNKNOWN_HEADER),
    ],
)
def test_bad_requests_are_refused(block_: bytes | None, code: Refusal) -> None:
    """Each bad request has its code."""
    with pytest.raises(RequestError) as refused:
        parse(block_)
    assert refused.value.code is code


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            {"Gozo_Time_Zone": "Europe/Valetta"},
            "invalid Gozo-Time-Zone 'Europe/Valetta': expected UTC or a name",
        ),
        ({"Gozo_Time_Zone": "europe/malta"}, "case-sensitive"),
        ({"Gozo_Time_Zone": "localtime"}, "invalid Gozo-Time-Zone 'localtime': expected"),
        ({"Gozo_When": "@every 5s", "Gozo_Time_Zone": "UTC"}, "is for cron expressions only"),
        ({"Gozo_When": "+5", "Gozo_Until": "+9"}, "Gozo-Until is for recurring schedules only"),
        (
            {"Gozo_When": "+5", "Gozo_Misfire": "all"},
            "'Gozo-Misfire: all' is for recurring",
        ),
        ({"Gozo_When": "+5", "Gozo_Misfire_Grace": "5s"}, "needs 'Gozo-Misfire: skip'"),
        ({"Gozo_Misfire": "twice"}, "invalid Gozo-Misfire 'twice': expected once, all or skip"),
        ({"Gozo_Misfire_Grace": "-5s"}, "invalid Gozo-Misfire-Grace '-5s': expected seconds"),
        ({"Gozo_Jitter": "a while"}, "invalid Gozo-Jitter 'a while': expected seconds"),
        (
            {"Gozo_Count": "0"},
            "invalid Gozo-Count '0': expected a whole number from 1 to 999999999",
        ),
        (
            {"Gozo_Count": "two"},
            "invalid Gozo-Count 'two': expected a whole number from 1 to 999999999",
        ),
        ({"Gozo_Count": "1000000000"}, "from 1 to 999999999"),
        ({"Gozo_Start": "@daily"}, "invalid Gozo-Start '@daily': expected epoch seconds"),
        ({"Gozo_Start": "+9", "Gozo_Until": "+8"}, "Gozo-Until is before Gozo-Start"),
        ({"Gozo_Until": "+8"}, "is never due before Gozo-Until"),
    ],
)
def test_bad_terms_are_refused(said: dict[str, str], words: str) -> None:
    """Each sentence names the header and its value."""
    with pytest.raises(RequestError, match=re.escape(words)):
        parse(headers(**{"Gozo_When": "0 2 * * *", "Gozo_Id": "x"} | said))


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
    with_id = delivery(Entry("a b", "to", "+1", 1, 1), b"payload")
    assert fields(with_id.headers) == [(b"gozo-reply", b"Yes"), (b"gozo-id", b"a b")]
    assert with_id.headers == b"NATS/1.0\r\nGozo-Reply: Yes\r\nGozo-Id: a b\r\n\r\n"
    assert (
        delivery(Entry(None, "to", "+1", 1, 1), b"").headers
        == b"NATS/1.0\r\nGozo-Reply: Yes\r\n\r\n"
    )


TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs"]), min_size=1, max_size=40)
STATE = (
    *("size", "confirm", "attempts", "tried", "state", "reason", "next_us", "expires", "spec"),
    *("confirmation", "run", "record"),
)
ENTRIES = st.builds(
    Entry,
    id=TEXTS,
    subject=st.just("to.there"),
    when=st.just("+1.5"),
    due_us=st.integers(0, LAST_US),
    created_us=st.integers(0, LAST_US),
    token=st.just(b"token"),
    headers=st.sampled_from([b"", b"A: b\r\n", b"traceparent: 00-%0D%0A-1\r\nx: \xff%\r\n"]),
    extended=st.booleans(),
    managed_by=st.sampled_from(["", "crontab", "nächtlich"]),
    protected=st.booleans(),
    origin=st.sampled_from(["", "0123456789abcdef"]),
    unknown=st.sampled_from([b"", b"Gozo-Untill: +5\r\nGozo-\xff: \r\n"]),
    **{name: st.just(value) for name, value in Entry._field_defaults.items() if name in STATE},
)


TIMES = st.integers(1, LAST_US)
SPECS = st.builds(
    ScheduleSpec,
    recurs=st.just(True),
    zone=st.sampled_from(["", "UTC", "Europe/Malta"]),
    start_us=st.none() | st.just(0) | TIMES,
    until_us=st.just(NEVER) | st.just(LAST_US),
    count=st.just(0) | st.integers(10_000, 999_999_999),
    jitter_us=st.integers(0, 10**9),
    misfire=st.sampled_from(Misfire),
    grace_us=st.none() | st.integers(0, 10**9),
    occurred=st.integers(0, 9_999),
    last_us=st.just(0) | TIMES,
    reckoned_us=st.just(0) | TIMES,
)


@given(entry=ENTRIES, spec=SPECS, state=st.sampled_from([State.PENDING, State.PAUSED]))
def test_recurring_entries_there_and_back(entry: Entry, spec: ScheduleSpec, state: State) -> None:
    """What is stored of a recurring schedule says the same when it is read."""
    entry = due_at(entry._replace(when="0 2 * * *", spec=spec), entry.due_us)
    if state is State.PAUSED:
        entry = paused(entry)
    assert entry.id is not None
    assert parse_entry(escape_id(entry.id), block(entry_headers(entry, b"token")), 0) == entry


@given(
    entry=ENTRIES,
    spec=SPECS,
    id_=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    reason=st.text(st.sampled_from(["%", "\U0001f600", "a"])),
    now_us=st.integers(0, LAST_US),
)
def test_the_size_of_an_entry_counts_all_that_is_noted_later(
    entry: Entry, spec: ScheduleSpec, id_: str, reason: str, now_us: int
) -> None:
    """Whatever becomes of a schedule, its headers have no more bytes than were counted at first."""
    entry = entry._replace(
        id=id_, when="0 2 * * *", spec=spec, confirm=True, attempts=999_999, extended=True
    )
    first = entry._replace(spec=replace(spec, occurred=0, last_us=0), due_us=0)
    last = entry._replace(spec=replace(spec, occurred=10**18 - 1, last_us=LAST_US), next_us=LAST_US)
    counted = headers_size(first)
    for later in (
        retried(last._replace(tried=10**9), reason * 200, now_us),
        paused(last, "\U0001f600" * LONGEST_REASON),
    ):
        lines = entry_headers(later, b"0123456789-0123456789abcdef") + entries.ORIGINAL
        assert len(block(lines, 10**18)) <= counted


def test_what_could_not_be_written_again() -> None:
    """Headers of a client's own are longer in an entry of gozo's: each % takes three bytes."""
    raw = {"Gozo_Subject": "to", "X": "%" * 22_000}
    for when, good in (("+60", True), ("@every 1s", False)):
        said = headers(Gozo_When=when, **raw)
        entry = parse_entry("a", said, NOW_US)
        assert isinstance(entry, Entry)
        with contextlib.nullcontext() if good else pytest.raises(RequestError, match="65535"):
            check_room(entry, said, 1_000_000)


@given(message=st.text(max_size=1_200), id_=st.none() | st.text(max_size=2_000))
def test_a_refusal_that_is_shortened(message: str, id_: str | None) -> None:
    """However it is encoded, it has no more bytes, and still says why."""
    error = RequestError(Refusal.INVALID_WHEN, message)
    told = refusal_receipt(id_, error)
    short = shortened(told, 1_024)
    assert len(json.dumps(short)) <= 1_024
    assert (short["status"], short["error"]) == ("refused", "invalid_when")
    assert short["id"] in (id_, None)
    if id_ is None or len(id_) < 50:
        assert short["id"] == id_


@given(
    entry=ENTRIES,
    attempts=st.none() | st.integers(0, 999),
    trouble=st.none() | st.tuples(st.integers(1, 50), st.integers(0, LAST_US)),
)
def test_entries_there_and_back(
    entry: Entry, attempts: int | None, trouble: tuple[int, int] | None
) -> None:
    """What is stored says the same when it is read."""
    if attempts is not None:
        entry = entry._replace(confirm=True, attempts=attempts)
    if trouble is not None:
        tried, next_us = trouble
        entry = entry._replace(
            state=State.RETRYING, tried=tried, next_us=next_us, reason="no stream takes it"
        )
    assert entry.id is not None
    stored = block(entry_headers(entry, b"token"), 7)
    assert (b"nats-expected-last-subject-sequence", b"7") in fields(stored)
    assert parse_entry(escape_id(entry.id), stored, 0) == entry


def test_entries_of_clients_recur() -> None:
    """An entry that a client wrote recurs from when it was stored; without an id it is invalid."""
    said = headers(Gozo_When="@every 90s", Gozo_Subject="to", Gozo_Until="+1h", Gozo_Count="3")
    entry = parse_entry("a", said, NOW_US)
    assert isinstance(entry, Entry)
    assert entry.due_us == NOW_US + 90 * MICROSECONDS
    assert entry.spec == ScheduleSpec(recurs=True, until_us=NOW_US + 3_600 * MICROSECONDS, count=3)
    with pytest.raises(EntryError, match="needs Gozo-Id"):
        parse_entry(f"{RESERVED}abc", said, NOW_US)


def test_entries_that_have_occurred_very_often() -> None:
    """Without a count there is no end to occurrences: 10 ms make a thousand million in months."""
    said = headers(Gozo_When="@every 10ms", Gozo_Subject="to", Gozo_Occurred="999999999")
    entry = parse_entry("a", said, NOW_US)
    assert isinstance(entry, Entry)
    following = onward(entry, entry.due_us, sent=True)
    assert following is not None
    assert parse_entry(
        "a", block(entry_headers(following, b"token")), NOW_US
    ) == following._replace(id="a", token=b"token")


def test_entries_without_id_have_reserved_keys() -> None:
    """A schedule without an id is stored under a key that no id has, and read without one."""
    schedule = Entry(None, "to", "+1", 2, 1)
    entry = parse_entry(f"{RESERVED}abc", block(entry_headers(schedule, b"t")), 0)
    assert isinstance(entry, Entry)
    assert entry.id is None


def test_other_headers_are_passed_on() -> None:
    """What is neither gozo's nor the server's arrives, as it was given."""
    given_ = (
        b"NATS/1.0\r\ntraceparent:00-1\r\nGozo-When: +1\r\nNats-TTL: 5s\r\n"
        b"Nats-Rollup: all\r\nNats-Msg-Id: once\r\nLong: a\r\n  b\r\nX: \xff\r\n\r\n"
    )
    request = parse(given_)
    assert isinstance(request, ScheduleRequest)
    passed = b"traceparent: 00-1\r\nNats-Msg-Id: once\r\nLong: a b\r\nX: \xff\r\n"
    assert request.entry.headers == passed
    sent = delivery(request.entry, b"").headers
    assert sent == b"NATS/1.0\r\nGozo-Reply: Yes\r\n" + passed + b"\r\n"


@pytest.mark.parametrize("line", [b"no colon", b": no name", b"a b: c", b"\xc3\xa4: c", b"a: b\nc"])
def test_headers_that_would_not_arrive_are_refused(line: bytes) -> None:
    """What would break a reader's parser is refused, not passed on."""
    with pytest.raises(RequestError) as refused:
        parse(b"NATS/1.0\r\nGozo-When: +1\r\n" + line + b"\r\n\r\n")
    assert refused.value.code is Refusal.INVALID_HEADER


@given(lines=st.binary(max_size=60))
def test_packed_headers_cannot_act_on_the_bucket(lines: bytes) -> None:
    """Header lines packed into one value have no line end in it, and come back."""
    try:
        passed = split(FIRST_LINE + lines)[1]
    except RequestError:
        return
    assert b"\r" not in pack(passed)
    assert unpack(pack(passed)) == passed


@pytest.mark.parametrize(
    "value", [b"KV-Operation", b"Nats-Rollup: all%0D%0A", b"Gozo-Id: x%0D%0A", b"a:b%0D%0A"]
)
def test_packed_headers_of_others_are_checked(value: bytes) -> None:
    """Somebody else's `Gozo-Headers` cannot bring in what a request could not."""
    with pytest.raises(RequestError):
        unpack(value)


@pytest.mark.parametrize(
    ("extra", "code"),
    [
        ({"Gozo_Confirm": "core"}, Refusal.INVALID_REQUEST),
        ({"Gozo_Attempts": "3"}, Refusal.INVALID_REQUEST),
        ({"Gozo_Confirm": "stream", "Gozo_Attempts": "0"}, Refusal.INVALID_REQUEST),
        ({"Gozo_Confirm": "stream", "Gozo_Attempts": "many"}, Refusal.INVALID_REQUEST),
        ({"Gozo_Receipt": ""}, Refusal.FORBIDDEN_SUBJECT),
    ],
)
def test_bad_extensions_are_refused(extra: dict[str, str], code: Refusal) -> None:
    """A request never gets less than it asks for."""
    with pytest.raises(RequestError) as refused:
        parse(headers(Gozo_When="+1", **extra))
    assert refused.value.code is code


def test_deliveries_tell_the_nominal_time_when_more_was_asked_for() -> None:
    """`Gozo-Due` is there for requests that use more than the basic protocol."""
    request = parse(headers(Gozo_When="1763871235.0129", Gozo_Receipt="r", Gozo_Id="x"))
    assert isinstance(request, ScheduleRequest)
    sent = fields(delivery(request.entry, b"").headers)
    assert (b"gozo-due", b"2025-11-23T04:13:55.012Z") in sent


def test_attempts_wait_longer_each_time_and_end() -> None:
    """A quarter of a second, then twice as long each time, a minute at most, N times at most."""
    entry = Entry("x", "to", "+1", 1, 1, confirm=True, attempts=12)
    waits = []
    while entry.state is not State.FAILED:
        entry = retried(entry, "no stream", 0)
        waits.append(entry.next_us / 1_000_000)
    assert waits == [0.25, 0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60, 0]
    assert entry.wake_us == NEVER


def test_entries_of_the_original() -> None:
    """A MessagePack map without headers is a schedule of the original gozo."""
    value = msgpack.packb({"when": 1_763_871_234, "subject": "to", "payload": b"\xff"})
    entry, payload = parse_original("a=b", value, 5)
    assert (entry.id, entry.subject, entry.due_us, payload) == ("a=b", "to", NOW_US, b"\xff")
    for other in (b"", b"text", msgpack.packb({"when": "1"}), value[:-1], value + b"x"):
        with pytest.raises(EntryError):
            parse_original("x", other, 5)


def test_relative_times_count_from_storing() -> None:
    """An entry without a due time is due relative to when the server stored it."""
    entry = parse_entry("x", headers(Gozo_When="+2", Gozo_Subject="to"), NOW_US)
    assert isinstance(entry, Entry)
    assert entry.due_us == NOW_US + 2_000_000


@pytest.mark.parametrize("seconds", [10, 0])
def test_markers_say_why(seconds: int) -> None:
    """A delete marker tells the reason, and how long it stays."""
    marker = parse_entry("x", block(marker_headers(Reason.CANCELLED, seconds), 3), NOW_US)
    assert marker == Marker(Reason.CANCELLED, seconds * MICROSECONDS)
    foreign = parse_entry("x", headers(KV_Operation="PURGE"), NOW_US)
    assert foreign == Marker(Reason.UNKNOWN, 0)


@pytest.mark.parametrize(
    ("key", "block_", "newer"),
    [
        ("x", None, False),
        ("x", headers(Gozo_Format="3"), True),
        ("x", headers(Gozo_Format="one", Gozo_When="1", Gozo_Subject="to"), False),
        ("x", headers(Gozo_When="1"), False),
        ("x", headers(Gozo_Subject="to"), False),
        ("x", headers(Gozo_Subject="to", Gozo_Due="soon"), False),
        ("x", headers(Gozo_Subject="to", Gozo_Due="253402300800"), False),
        ("x", headers(Gozo_Subject="to", Gozo_When="1", Gozo_Id="y"), False),
        ("x", headers(Gozo_Subject="to", Gozo_When="@daily", **DONE), False),
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


def test_notes() -> None:
    """A note is a text on one line, within a bound; without one there is none."""
    assert parse_note(b'{"ids": ["a"]}') == ""
    assert parse_note(b'{"note": " till\\r\\n Monday "}') == "till Monday"
    for bad in (b'{"note": 1}', b'{"note": "a\\u0000"}', b'{"note": "\\ud800"}', b"[]"):
        with pytest.raises(RequestError) as caught:
            parse_note(bad)
        assert caught.value.code is Refusal.INVALID_REQUEST
    with pytest.raises(RequestError, match="201 characters; the maximum is 200"):
        parse_note(b'{"note": "%b"}' % (b"x" * 201))


LINES = st.lists(
    st.tuples(
        st.sampled_from([b"Gozo-When", b"Gozo-When", b"Gozo-Id", b"gozo-when", b"Gozo-Receipt"]),
        st.sampled_from([b":", b": ", b":  "]),
        st.from_regex(rb"\A\+?[0-9]{1,11}(\.[0-9]{0,7})?\Z")
        | st.sampled_from([b"a-1", b"a.b", b""]),
    ),
    max_size=3,
)


@given(lines=LINES, end=st.sampled_from([b"\r\n", b"", b"\r\nx"]))
def test_a_basic_request_is_read_as_any_other(
    lines: list[tuple[bytes, bytes, bytes]], end: bytes
) -> None:
    """What is read in a quicker way says the same."""
    headers = b"NATS/1.0\r\n" + b"".join(b"%b%b%b\r\n" % line for line in lines) + end
    quick = protocol._basic_request(b"to.there", headers, b"x", NOW_US)
    if quick is not None:
        assert quick == protocol._any_request(b"to.there", headers, b"x", NOW_US)


@pytest.mark.parametrize(
    "headers",
    [
        {"Gozo-When": "+10"},
        {"Gozo-When": "1763871234.5", "Gozo-Id": "a/b-c_1"},
        {"Gozo-Id": "a", "Gozo-When": "0"},
    ],
)
def test_what_almost_all_clients_write_is_read_in_the_quick_way(headers: dict[str, str]) -> None:
    """In whichever order."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    block = f"NATS/1.0\r\n{lines}\r\n".encode()
    assert protocol._basic_request(b"to.there", block, b"x", NOW_US) is not None
