"""The contents of receipts, exactly: programs read them."""

from __future__ import annotations

import json

import pytest

from gozo.errors import Refusal, RequestError
from gozo.protocol.headers import FIRST_LINE, MOST_LINES
from gozo.protocol.receipts import (
    ECHOED,
    LONGEST_MESSAGE,
    RESULT,
    asks_receipt,
    cancel_receipt,
    protected_error,
    refusal_receipt,
    shortened,
    stored_receipt,
    unknown_receipt,
)
from gozo.schedule.model import Entry

ENTRY = Entry("a", "to", "+1.5", 1_763_871_235_500_000, 1)
LONG = b"X: y\r\n" * (MOST_LINES + 1)


@pytest.mark.parametrize("more", [b"", LONG], ids=["short", "too long to split"])
@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (b"", (None, None)),
        (b"Gozo-Receipt: r.1\r\n", ("r.1", None)),
        (b"Gozo-Receipt: \r\nGozo-Id: a\r\n", (None, "a")),
        (b"gozo-del-id:a\r\nGOZO-RECEIPT:r\r\n", ("r", "a")),
        (b"Gozo-Del-Id: b\r\nGozo-Id: a\r\n", (None, "a")),
        (b"Gozo-Id: \xff\r\nGozo-Receipt: \xff\r\n", ("\udcff", "\ufffd")),
        (b"Gozo-Id: %b\r\n" % (b"a" * ECHOED), (None, "a" * ECHOED)),
        (b"Gozo-Id: %b\r\n" % (b"a" * (ECHOED + 1)), (None, None)),
    ],
)
def test_a_refused_request_still_says_where_its_receipt_goes(
    lines: bytes, expected: tuple[str | None, str | None], more: bytes
) -> None:
    """Its headers may be long or malformed."""
    assert asks_receipt(FIRST_LINE + lines + more + b"\r\n") == expected


def test_without_headers_there_is_no_receipt() -> None:
    """A message without headers is no error here."""
    assert asks_receipt(None) == (None, None)


def test_what_receipts_say() -> None:
    """Their members and values are part of the protocol."""
    assert stored_receipt(ENTRY, replaced=True) == {
        "status": "stored",
        "id": "a",
        "due": "2025-11-23T04:13:55.500Z",
        "due_epoch": 1_763_871_235.5,
        "replaced": True,
    }
    rescheduled = stored_receipt(ENTRY, replaced=False, status="rescheduled")
    assert (rescheduled["status"], rescheduled["replaced"]) == ("rescheduled", False)
    assert cancel_receipt("a", "not_found") == {"status": "not_found", "id": "a"}
    assert refusal_receipt("a", RequestError(Refusal.INVALID_WHEN, "no time")) == {
        "status": "refused",
        "id": "a",
        "error": "invalid_when",
        "message": "no time",
    }
    assert protected_error().code is Refusal.PROTECTED


def test_a_message_has_an_end() -> None:
    """It may repeat a client's text, so it is cut off."""
    receipt = refusal_receipt(None, RequestError(Refusal.INVALID_ID, "x" * 2_000))
    assert receipt["message"] == "x" * LONGEST_MESSAGE


def test_an_unknown_result_says_so() -> None:
    """Programs can tell it from a refusal, and the message names the operation."""
    receipt = unknown_receipt("a", "stored")
    assert "have been stored, or may still be" in str(receipt.pop("message"))
    assert receipt == {"status": "refused", "id": "a", "error": "unavailable", "unknown": True}


def test_a_refusal_is_shortened_no_more_than_it_must_be() -> None:
    """The id stays if it fits, and at least a quarter of what fits of the message."""
    refusal = refusal_receipt("a" * 50, RequestError(Refusal.INVALID_ID, "x" * 1_000))
    empty = len(json.dumps(refusal | {"message": "..."}))
    for most in (empty + RESULT, 600, 800):
        short = shortened(refusal, most)
        assert len(json.dumps(short)) <= most
        assert short | {"message": ""} == refusal | {"message": ""}
        kept = str(short["message"])
        assert kept == "x" * (len(kept) - 3) + "..."
        assert len(kept) - 3 >= (most - empty) // 4
    # The whole message fits, and its last character is the last that does.
    assert shortened(refusal, empty + 1_002)["message"] == "x" * 1_000 + "..."
    assert shortened(refusal, empty + 1_001)["message"] == "x" * 500 + "..."


def test_an_id_that_is_too_long_is_omitted() -> None:
    """It is too long if it leaves no room for the rest, even without the message."""
    for length, kept in ((0, True), (1, False)):
        refusal = refusal_receipt("", RequestError(Refusal.INVALID_ID, "no id"))
        room = 2_000 - RESULT - len(json.dumps(refusal | {"message": ""}))
        refusal["id"] = "a" * (room + length)
        short = shortened(refusal, 2_000)
        assert short["id"] == (refusal["id"] if kept else None)
        assert short["message"] == "no id..."
