"""Which headers gozo knows, and what happens to others in requests and entries."""

from __future__ import annotations

import re
from typing import get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gozo.client.arguments import ScheduleOptions, header_lines, spec_headers
from gozo.errors import Refusal, RequestError
from gozo.protocol.deliveries import delivery
from gozo.protocol.header_names import ANSWERS, IGNORED, REFUSED, REQUEST
from gozo.protocol.headers import END, FIRST_LINE
from gozo.protocol.requests import parse_request
from gozo.schedule.model import Confirm, Confirmation, Entry, ScheduleRequest
from gozo.schedule.runs import begun
from gozo.store.entry_codec import parse_entry
from tests.support.readme import ROOT

ALL = {*REQUEST, *IGNORED, *REFUSED, *ANSWERS}
IN_SOURCES = re.compile(r"Gozo-TTL|Gozo-[A-Z][A-Za-z-]*[a-z]|(?<=b\")gozo-[a-z-]+(?=\")")
NOW_US = 1_763_871_234_000_000
LONGEST = 200
"""Characters that the sentence about an unknown header has at most."""


def block(*lines: bytes) -> bytes:
    """Return a header block with these lines."""
    return FIRST_LINE + b"".join(line + END for line in lines) + END


def refusal(*lines: bytes) -> RequestError:
    """Return the refusal of a request with these header lines."""
    with pytest.raises(RequestError) as caught:
        parse_request(b"to", block(*lines), b"", NOW_US)
    return caught.value


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("Gozo-Timezone", "Gozo-Time-Zone"),
        ("Gozo-Untill", "Gozo-Until"),
        ("gozo-UNTILL", "Gozo-Until"),
        ("Gozo-Until-", "Gozo-Until"),
        ("Gozo-Whne", "Gozo-When"),
        ("Gozo-Reciept", "Gozo-Receipt"),
        ("Gozo-DelId", "Gozo-Del-Id"),
        ("Gozo-MisfireGrace", "Gozo-Misfire-Grace"),
        ("Gozo-Attemps", "Gozo-Attempts"),
    ],
)
@pytest.mark.parametrize("other", [b"Gozo-When: +1", b"Gozo-Del-Id: a", b"X: y"])
def test_what_is_misspelt_is_refused_with_the_nearest_name(
    name: str, near: str, other: bytes
) -> None:
    """The message suggests the right name, whatever kind of request it is."""
    error = refusal(other, f"{name}: 1".encode())
    assert error.code is Refusal.UNKNOWN_HEADER
    assert repr(name.title()) in str(error)
    assert str(error).endswith(f"did you mean {near}?")


@pytest.mark.parametrize("name", ["Gozo-", "Gozo-Zzz", "Gozo-X", "Gozo-Foo-Bar"])
def test_what_is_like_no_known_name_has_no_suggestion(name: str) -> None:
    """A guess would be misleading."""
    error = refusal(b"Gozo-When: +1", f"{name}: 1".encode())
    assert error.code is Refusal.UNKNOWN_HEADER
    assert repr(name) in str(error)
    assert "did you mean" not in str(error)


@given(
    rests=st.lists(
        st.binary(max_size=80).filter(lambda name: b":" not in name and b"\r\n" not in name)
        | st.sampled_from([b"\x00", b"\xff\xfe", b"\x1b[2J", b" ", b"\t", "ß\u2028".encode()])
        | st.integers(1, 60_000).map(lambda size: b"until" * (size // 5) + b"."),
        min_size=1,
        max_size=500,
    )
)
def test_any_name_is_refused_with_a_short_sentence(rests: list[bytes]) -> None:
    """Names may be long or many, or have any bytes."""
    error = refusal(b"Gozo-When: +1", *(b"gozo-%b." % rest for rest in rests))
    assert error.code in (
        *(Refusal.UNKNOWN_HEADER, Refusal.INVALID_REQUEST),  # unknown, or one twice
        *(Refusal.TOO_LARGE, Refusal.INVALID_HEADER),
    )
    assert len(str(error)) <= LONGEST
    assert str(error).isprintable()


@pytest.mark.parametrize("when", [b"Gozo-When: +1", b"Gozo-When: @daily", b"Gozo-Del-Id: a"])
def test_what_was_received_can_be_scheduled_again(when: bytes) -> None:
    """Headers that only gozo writes are ignored in a request."""
    lines = [when] if b"Del" in when else [when, b"Gozo-Id: a", b"X: y"]
    copied = [f"{name}: nonsense".encode() for name in IGNORED]
    plain = parse_request(b"to", block(*lines), b"", NOW_US)
    assert parse_request(b"to", block(*lines, *copied), b"", NOW_US) == plain


def test_a_delivery_can_be_scheduled_again() -> None:
    """A request may have all headers of a delivery."""
    entry = parse_entry("a", block(b"Gozo-When: @daily", b"Gozo-Subject: to", b"X: y"), NOW_US)
    assert isinstance(entry, Entry)
    received = delivery(entry, b"").headers
    again = parse_request(b"to", received[:-2] + b"Gozo-When: +1\r\n\r\n", b"", NOW_US)
    assert again.id == "a"


def test_a_run_can_be_scheduled_again() -> None:
    """Its ack wait is accepted, although the request is not confirmed."""
    confirmation = Confirmation(Confirm.REPLY)
    schedule = Entry("a", "to", "+1", NOW_US, NOW_US, extended=True, confirmation=confirmation)
    received = delivery(begun(schedule, "a", "1", b"", NOW_US), b"").headers
    assert b"Gozo-Ack-Wait: 30s" in received
    again = parse_request(b"to", received[:-2] + b"Gozo-When: +1\r\n\r\n", b"", NOW_US)
    assert isinstance(again, ScheduleRequest)
    assert again.entry.confirmation is None


def test_a_header_that_protects_is_refused() -> None:
    """The message says that only administrators may protect a schedule."""
    error = refusal(b"Gozo-When: +1", b"Gozo-Id: a", b"Gozo-Protect: Yes")
    assert (error.code, "gozoctl create --protect" in str(error)) == (
        Refusal.INVALID_REQUEST,
        True,
    )


# The client


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("Gozo-Until", Refusal.INVALID_HEADER, "'Gozo-Until' is not passed on: use the option unt"),
        ("gozo-time-zone", Refusal.INVALID_HEADER, "use the option time-zone"),
        ("Gozo-Protect", Refusal.INVALID_HEADER, "use the option protect"),
        ("Gozo-Del-Id", Refusal.INVALID_HEADER, "cancel the schedule with that id"),
        ("Gozo-Due", Refusal.INVALID_HEADER, "omit it"),
        ("Gozo-Untill", Refusal.UNKNOWN_HEADER, "did you mean Gozo-Until? If so, use the option u"),
        ("Gozo-Foo", Refusal.UNKNOWN_HEADER, "a name that does not begin with Gozo-"),
        ("Nats-TTL", Refusal.INVALID_HEADER, "a name that does not begin with Nats-"),
    ],
)
def test_headers_that_the_client_does_not_pass_on(name: str, code: Refusal, words: str) -> None:
    """The error says what to do instead; unknown headers have the daemon's code."""
    with pytest.raises(RequestError, match=re.escape(words)) as caught:
        header_lines({name: "1"})
    assert caught.value.code is code


def test_every_option_of_the_client_is_a_known_header() -> None:
    """No header that the client sends is refused as unknown."""
    sent = spec_headers(dict.fromkeys(get_type_hints(ScheduleOptions), "1"))  # type: ignore[arg-type]
    assert len(sent) > 5
    assert set(sent) <= set(REQUEST)


# The documentation


def documented() -> str:
    """Return the protocol's page, without its escapes."""
    text = (ROOT / "man" / "source" / "gozo-protocol.7").read_text("utf-8")
    return text.replace("\\-", "-")


def test_the_manual_names_every_header() -> None:
    """It names no others; those of requests are in the README as well."""
    assert set(IN_SOURCES.findall(documented())) == ALL
    readme = set(IN_SOURCES.findall((ROOT / "README.md").read_text("utf-8")))
    assert set(REQUEST) <= readme <= ALL
    for path in (ROOT / "man" / "man1").iterdir():
        found = set(IN_SOURCES.findall(path.read_text("utf-8").replace("\\-", "-")))
        assert found <= ALL, path


def test_the_manual_lists_what_is_ignored_in_requests() -> None:
    """Clients rely on it to schedule again what they received."""
    part = documented().partition(".SS Unknown headers\n")[2].partition("They are\n")[2]
    assert tuple(IN_SOURCES.findall(part.partition(".PP\n")[0])) == IGNORED


def test_every_header_of_the_code_is_in_the_table() -> None:
    """The table has each header that gozo reads or writes."""
    found = {
        name.title().replace("Ttl", "TTL"): path
        for folder in ("gozo", "gozoctl")
        for path in (ROOT / folder).rglob("*.py")
        for name in IN_SOURCES.findall(path.read_text("utf-8"))
    }
    assert found.keys() == ALL
