"""Receipts: the JSON that answers a request, or says why it was refused. Pure."""

from __future__ import annotations

import json

from gozo.errors import Refusal, RequestError
from gozo.protocol.headers import fields, find, is_long
from gozo.protocol.ids import LONGEST_ID
from gozo.schedule import expression as when
from gozo.schedule.model import MICROSECONDS, Entry

ECHOED = 8 * LONGEST_ID
"""Bytes of an id that was refused which a receipt may still repeat."""

LONGEST_MESSAGE = 1_000
"""Characters of the sentence in a refusal, which may repeat what a client sent."""

RESULT = 320
"""Bytes of one result of such a call, besides the id."""


def asks_receipt(headers: bytes | None) -> tuple[str | None, str | None]:
    """Find the receipt subject and the id in a request that was refused, where there are any."""
    if headers is not None and is_long(headers):
        given = find(headers, b"gozo-receipt", b"gozo-id", b"gozo-del-id")
    else:
        given = dict(fields(headers))
    receipt = given.get(b"gozo-receipt")
    id_ = given.get(b"gozo-id", given.get(b"gozo-del-id"))
    return (
        receipt.decode("utf-8", "surrogateescape") if receipt else None,
        # As JSON an id that is no id could be six times as large as the request was.
        None if id_ is None or len(id_) > ECHOED else id_.decode("utf-8", "replace"),
    )


def stored_receipt(entry: Entry, *, replaced: bool, status: str = "stored") -> dict[str, object]:
    """Say that a schedule is stored."""
    return {
        "status": status,
        "id": entry.id,
        "due": when.print_rfc3339(entry.due_us),
        "due_epoch": entry.due_us / MICROSECONDS,
        "replaced": replaced,
    }


def cancel_receipt(id_: str, status: str) -> dict[str, object]:
    """Say what became of an id: `cancelled`, `paused`, `already_delivered`, `not_found`, ..."""
    return {"status": status, "id": id_}


def protected_error() -> RequestError:
    """Make the error of whoever may not change a schedule."""
    return RequestError(
        Refusal.PROTECTED,
        "the schedule with this id is protected: only administrators can replace it "
        "(gozoctl create --protect) or cancel it (gozoctl cancel)",
    )


def refusal_receipt(id_: str | None, error: RequestError) -> dict[str, object]:
    """Say why a request was refused."""
    message = str(error)[:LONGEST_MESSAGE]
    return {"status": "refused", "id": id_, "error": error.code.value, "message": message}


def shortened(refusal: dict[str, object], most: int) -> dict[str, object]:
    """Return a refusal whose JSON has at most `most` bytes, which must be a few hundred.

    Its message is truncated, and an id that alone takes too much becomes None.
    """
    message = str(refusal["message"])
    if len(json.dumps(refusal | {"message": ""})) + RESULT > most:
        refusal = refusal | {"id": None}
    left = most - len(json.dumps(refusal | {"message": "..."}))
    while message and len(json.dumps(message)) > left:
        message = message[: len(message) // 2]
    return refusal | {"message": f"{message}..."}


def unknown_receipt(id_: str | None, verb: str) -> dict[str, object]:
    """Say that it is not known whether a request was carried out; `verb` is such as `stored`."""
    message = (
        f"the bucket did not answer in time: it is not known whether it was {verb}, "
        "and it may still be: check before you send it again"
    )
    error = RequestError(Refusal.UNAVAILABLE, message)
    return refusal_receipt(id_, error) | {"unknown": True}
