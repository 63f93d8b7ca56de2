"""The field that each header of a request sets, and what makes it invalid."""

from __future__ import annotations

import re

import pytest

from gozo.errors import Refusal, RequestError
from gozo.protocol.confirmation import MOST_ATTEMPTS, read_confirmation
from gozo.protocol.requests import dated, parse_request, read_receipt
from gozo.schedule.expression import LAST_US
from gozo.schedule.model import CancelRequest, Entry, Misfire, ScheduleRequest, ScheduleSpec

NOW_US = 1_763_871_234_000_000
ENTRY = Entry(None, "to", "+1.5", NOW_US + 1_500_000, NOW_US)


def parse(*lines: str, reply: bytes = b"to", received_us: int = NOW_US) -> object:
    """Read a request with these headers, and with one that is not passed on."""
    block = "".join(f"{line}\r\n" for line in ("NATS/1.0", "Nats-Odd: 1", *lines, ""))
    return parse_request(reply, block.encode("utf-8", "surrogateescape"), b"p", received_us)


@pytest.mark.parametrize(
    ("lines", "entry", "receipt"),
    [
        ([], ENTRY, None),
        (["Gozo-Id: a"], ENTRY._replace(id="a"), None),
        (["A: b"], ENTRY._replace(headers=b"A: b\r\n"), None),
        (["Gozo-Receipt: r"], ENTRY._replace(extended=True), "r"),
        (["Gozo-Confirm: Stream"], ENTRY._replace(extended=True, confirm=True), None),
        (
            ["Gozo-Confirm: stream", "Gozo-Attempts: 3"],
            ENTRY._replace(extended=True, confirm=True, attempts=3),
            None,
        ),
        (
            ["Gozo-Misfire: skip"],
            ENTRY._replace(extended=True, spec=ScheduleSpec(misfire=Misfire.SKIP)),
            None,
        ),
    ],
)
def test_each_header_sets_its_field(lines: list[str], entry: Entry, receipt: str | None) -> None:
    """It sets no other; beyond the basic protocol, deliveries have `Gozo-Due`."""
    assert parse("Gozo-When: +1.5", *lines) == ScheduleRequest(entry, b"p", receipt)


def test_a_recurring_request_is_dated_later() -> None:
    """Start and end are relative to when it was received."""
    lines = ("Gozo-When: @every 90s", "Gozo-Id: a", "Gozo-Start: +5")
    request = parse(*lines)
    spec = ScheduleSpec(recurs=True, start_us=NOW_US + 5_000_000)
    entry = Entry("a", "to", "@every 90s", 0, NOW_US, extended=True, spec=spec)
    assert request == ScheduleRequest(entry, b"p")
    assert isinstance(request, ScheduleRequest)
    due = entry._replace(due_us=NOW_US + 5_000_000)
    assert dated(request) == ScheduleRequest(due, b"p")
    single = ScheduleRequest(ENTRY, b"p", "r")
    assert dated(single) is single
    with pytest.raises(RequestError, match="a recurring schedule needs Gozo-Id"):
        parse("Gozo-When: @every 90s")


def test_cancels() -> None:
    """A receipt may be requested."""
    assert parse("Gozo-Del-Id: a") == CancelRequest("a")
    assert parse("Gozo-Del-Id: a", "Gozo-Receipt: r") == CancelRequest("a", "r")


@pytest.mark.parametrize("odd", [[], ["Nats-Odd: 1"]], ids=["quick", "slow"])
def test_a_reply_subject_may_have_any_bytes(odd: list[str]) -> None:
    """It is checked elsewhere."""
    block = "".join(f"{line}\r\n" for line in ("NATS/1.0", "Gozo-When: +1.5", *odd, ""))
    request = parse_request(b"\xff", block.encode(), b"p", NOW_US)
    assert request == ScheduleRequest(ENTRY._replace(subject="\udcff"), b"p")


@pytest.mark.parametrize("odd", [[], ["Nats-Odd: 1"]], ids=["quick", "slow"])
@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["Gozo-When: +1"], r"Gozo-When '\+1': it lies beyond the year 9999"),
        (["Gozo-Id: a", "Gozo-When: +0", "Gozo-Id: a"], "the header 'Gozo-Id' occurs twice"),
    ],
)
def test_a_basic_request_may_be_refused(lines: list[str], odd: list[str], words: str) -> None:
    """It is refused like any other request."""
    block = "".join(f"{line}\r\n" for line in ("NATS/1.0", *lines, *odd, ""))
    with pytest.raises(RequestError, match=words):
        parse_request(b"to", block.encode(), b"p", LAST_US)


def test_the_last_microsecond_is_not_too_late() -> None:
    """A basic request may be due in the last microsecond of the year 9999."""
    request = parse_request(b"to", b"NATS/1.0\r\nGozo-When: +0\r\n\r\n", b"", LAST_US)
    assert request == ScheduleRequest(Entry(None, "to", "+0", LAST_US, LAST_US), b"")


@pytest.mark.parametrize(
    ("lines", "code", "words"),
    [
        ([], "request", "the request has neither Gozo-When nor Gozo-Del-Id: give one of them"),
        (["Gozo-When: +1", "Gozo-Del-Id: a"], "request", "has both Gozo-When and Gozo-Del-Id:"),
        (["Gozo-When: +1", "Gozo-Protect: yes"], "request", "cannot have Gozo-Protect: admin"),
        (["Gozo-Del-Id: a", "Gozo-Protect: yes"], "request", "cannot have Gozo-Protect: admin"),
        (["Gozo-When: +1", "Gozo-Id: "], "id", "Gozo-Id is empty"),
        (["Gozo-Del-Id: "], "id", "Gozo-Del-Id is empty"),
        (["Gozo-When: \udcff"], "when", "Gozo-When '\ufffd': error at position 1"),
        (
            ["Gozo-When: +1", "Gozo-Confirm: \udcff" + "x" * 50],
            "request",
            f"Gozo-Confirm '\ufffd{'x' * 39}': expected stream",
        ),
        (["Gozo-When: +1", "Gozo-Attempts: 1"], "request", "Gozo-Attempts needs Gozo-Confirm:"),
        (
            ["Gozo-When: +1", "Gozo-Confirm: stream", "Gozo-Attempts: \udcff" + "x" * 50],
            "request",
            f"Gozo-Attempts '\ufffd{'x' * 39}': expected a whole number from 1 to 999999",
        ),
    ],
)
def test_refused(lines: list[str], code: str, words: str) -> None:
    """The message names the header and the beginning of its value."""
    with pytest.raises(RequestError, match=re.escape(words)) as refused:
        parse(*lines)
    assert refused.value.code == Refusal(f"invalid_{code}")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (False, 0)),
        ({b"gozo-confirm": b"STREAM"}, (True, 0)),
        ({b"gozo-confirm": b"stream", b"gozo-attempts": b"1"}, (True, 1)),
        ({b"gozo-confirm": b"stream", b"gozo-attempts": b"999999"}, (True, MOST_ATTEMPTS)),
    ],
)
def test_confirmation(given: dict[bytes, bytes], expected: tuple[bool, int]) -> None:
    """The headers say whether a stream must acknowledge it, and how many attempts there are."""
    assert read_confirmation(given) == (*expected, None)


@pytest.mark.parametrize("attempts", [b"0", b"000000", b"1000000", b"+1", b"1\n", b""])
def test_numbers_of_attempts_that_are_none(attempts: bytes) -> None:
    """There is at least one, and at most six digits."""
    with pytest.raises(RequestError, match="expected a whole number from 1 to 999999"):
        read_confirmation({b"gozo-confirm": b"stream", b"gozo-attempts": attempts})


def test_receipts() -> None:
    """The subject may have any bytes, but must not be empty."""
    assert read_receipt(b"r\xff") == "r\udcff"
    with pytest.raises(RequestError, match="Gozo-Receipt is empty: give a subject") as refused:
        read_receipt(b"")
    assert refused.value.code is Refusal.FORBIDDEN_SUBJECT
