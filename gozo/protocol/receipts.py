"""Receipts: the JSON that answers a request, or says why it was refused. Pure."""

from __future__ import annotations

import json

from gozo.errors import Refusal, RequestError
from gozo.protocol.headers import fields, find, is_long
from gozo.protocol.ids import LONGEST_ID
from gozo.schedule import expression as when
from gozo.schedule.model import MICROSECONDS, Entry

ECHOED = 8 * LONGEST_ID
"""Maximum bytes of a refused id that a receipt repeats."""

LONGEST_MESSAGE = 1_000
"""Maximum characters of the message in a refusal, which may repeat what a client sent."""

RESULT = 320
"""Maximum bytes of one result of a verb for many ids, besides the id."""


def asks_receipt(headers: bytes | None) -> tuple[str | None, str | None]:
    """Return the receipt subject and the id of a refused request, if it has them."""
    if headers is not None and is_long(headers):
        given = find(headers, b"gozo-receipt", b"gozo-id", b"gozo-del-id")
    else:
        given = dict(fields(headers))
    receipt = given.get(b"gozo-receipt")
    id_ = given.get(b"gozo-id", given.get(b"gozo-del-id"))
    return (
        receipt.decode("utf-8", "surrogateescape") if receipt else None,
        # As JSON, an invalid id could be six times as large as the request.
        None if id_ is None or len(id_) > ECHOED else id_.decode("utf-8", "replace"),
    )


def stored_receipt(entry: Entry, *, replaced: bool, status: str = "stored") -> dict[str, object]:
    """Return the receipt of a stored schedule."""
    return {
        "status": status,
        "id": entry.id,
        "due": when.print_rfc3339(entry.due_us),
        "due_epoch": entry.due_us / MICROSECONDS,
        "replaced": replaced,
    }


def rescheduled_receipt(entry: Entry, *, running: bool) -> dict[str, object]:
    """Return the result of moving the due time of a schedule; `running` as for `cancel_receipt`."""
    receipt = stored_receipt(entry, replaced=True, status="rescheduled")
    return receipt | {"running": True} if running else receipt


def cancel_receipt(id_: str, status: str, *, running: bool = False) -> dict[str, object]:
    """Return the result for an id: `cancelled`, `paused`, `already_delivered`, `not_found`, ...

    `running` means that a receiver may be working on an occurrence, which goes on.
    """
    receipt: dict[str, object] = {"status": status, "id": id_}
    return receipt | {"running": True} if running else receipt


def over_receipt(id_: str, status: str, progress: str) -> dict[str, object]:
    """Return the result for an id of whose schedule only occurrences are left.

    `progress` is as for `gozo.schedule.runs.progress`.
    """
    receipt = cancel_receipt(id_, status, running=bool(progress))
    return receipt | {"reason": over(progress)} if progress else receipt


def over(progress: str) -> str:
    """Say that only occurrences of a schedule are left."""
    return f"the schedule is over, but an occurrence of it is still {progress}"


def over_error(progress: str) -> RequestError:
    """Return the refusal to trigger a schedule of which only occurrences are left."""
    return RequestError(
        Refusal.RUNNING,
        f"{over(progress)}: nothing is left to be triggered, forced or not; create the schedule "
        "again if it is wanted once more",
    )


def protected_error() -> RequestError:
    """Return the refusal to change a protected schedule."""
    return RequestError(
        Refusal.PROTECTED,
        "the schedule with this id is protected: only administrators can replace it "
        "(gozoctl create --protect) or cancel it (gozoctl cancel)",
    )


def refusal_receipt(id_: str | None, error: RequestError) -> dict[str, object]:
    """Return the receipt of a refused request."""
    message = str(error)[:LONGEST_MESSAGE]
    return {"status": "refused", "id": id_, "error": error.code.value, "message": message}


def shortened(refusal: dict[str, object], most: int) -> dict[str, object]:
    """Return a refusal whose JSON has at most `most` bytes, at least a few hundred.

    Truncates its message, and omits an id that is too long by itself.
    """
    message = str(refusal["message"])
    if len(json.dumps(refusal | {"message": ""})) + RESULT > most:
        refusal = refusal | {"id": None}
    left = most - len(json.dumps(refusal | {"message": "..."}))
    while message and len(json.dumps(message)) > left:
        message = message[: len(message) // 2]
    return refusal | {"message": f"{message}..."}


def unknown_receipt(id_: str | None, verb: str) -> dict[str, object]:
    """Return the receipt of a request with unknown result; `verb` is a word such as `stored`."""
    message = (
        f"the bucket did not answer in time: the schedule may or may not have been {verb}, or "
        "may still be: check before you send the request again"
    )
    error = RequestError(Refusal.UNAVAILABLE, message)
    return refusal_receipt(id_, error) | {"unknown": True}
