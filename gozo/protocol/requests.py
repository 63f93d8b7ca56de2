"""The wire protocol: requests and deliveries, receipts, and how an id becomes a key. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import NamedTuple

from gozo.errors import Refusal, RequestError
from gozo.protocol.headers import END, FIRST_LINE, fields, find, is_long, split
from gozo.schedule import expression as when
from gozo.schedule.model import (
    LONGEST_REASON,
    MICROSECONDS,
    CancelRequest,
    Entry,
    Outgoing,
    Request,
    ScheduleRequest,
    State,
)
from gozo.schedule.recurrence import arranged, expression
from gozo.schedule.spec_headers import check_recurs, read_spec

LONGEST_ID = 1_024
"""Bytes of UTF-8."""

RESERVED = "=_"
"""How keys begin that no id can produce."""


MOST_IDS = 1_000
"""Ids that one call of a verb for many takes, such as `admin.cancel`."""

MOST_KEYS = 5_000
"""Keys that one answer of `admin.keys` has at most."""

ECHOED = 8 * LONGEST_ID
"""Bytes of an id that was refused which a receipt may still repeat."""

LONGEST_MESSAGE = 1_000
"""Characters of the sentence in a refusal, which may repeat what a client sent."""

RESULT = 320
"""Bytes of one result of such a call, besides the id."""

MOST_ATTEMPTS = 999_999
"""The largest `Gozo-Attempts`."""

_UNSAFE = re.compile(rb"[^A-Za-z0-9_\-/.]|^\.|\.\Z|(?<=\.)\.")
_PLAIN_ID = re.compile(r"[A-Za-z0-9_\-/]+\Z")
_ESCAPED = re.compile(rb"=([0-9A-F]{2})")
_MESSAGE_ID = re.compile(rb"^nats-msg-id:[^\r]*", re.IGNORECASE | re.MULTILINE)
_ATTEMPTS = re.compile(rb"[0-9]{1,6}\Z")
_BASIC_ID = rb"(?:Gozo-Id: ?([A-Za-z0-9_\-/]{1,200})\r\n)?"
_BASIC = re.compile(
    rb"NATS/1\.0\r\n"
    + _BASIC_ID
    + rb"Gozo-When: ?(\+?[0-9]{1,10}(?:\.[0-9]{1,6})?)\r\n"
    + _BASIC_ID
    + rb"\r\n\Z"
)
"""The basic protocol's headers as most clients write them."""


def escape_id(id_: str) -> str:
    """Turn an id into its key, reversibly.

    `=` and two hex digits stand for each byte of UTF-8 that a key cannot hold (ADR-8), for
    `=` itself, and for leading, trailing and doubled dots.
    """
    if _PLAIN_ID.match(id_):
        return id_
    return _UNSAFE.sub(lambda m: b"=%02X" % m[0][0], id_.encode()).decode("ascii")


def unescape_key(key: str) -> str:
    """Turn a key back into the id it came from.

    Raises:
        ValueError: the key is not the canonical escape of any id.
    """
    if "=" not in key and _PLAIN_ID.match(key):
        return key
    id_ = ""
    if key.isascii():
        id_ = _ESCAPED.sub(lambda m: bytes([int(m[1], 16)]), key.encode()).decode()
    if not id_ or escape_id(id_) != key:
        raise ValueError(f"the key {key!r} is not the canonical escape of an id")
    return id_


def is_addressable(key: str) -> bool:
    """Tell whether a key means itself alone where the server is asked about it.

    The server stores what is published on `a.*` under that very subject, and yet takes it for
    a pattern when it reads or purges. No subject has a space: see `printable_key`.
    """
    return " " not in key and not {"*", ">"} & set(key.split("."))


def parse_request(reply: bytes, headers: bytes | None, payload: bytes, received_us: int) -> Request:
    """Read a request as it came from the wire.

    When it is due for the first time is still to be found where it recurs, which takes longer
    than the rest: see `dated`.

    Raises:
        RequestError: with the code and the sentence that the client is to be told.
    """
    return _basic_request(reply, headers, payload, received_us) or _any_request(
        reply, headers, payload, received_us
    )


def _basic_request(
    reply: bytes, headers: bytes | None, payload: bytes, received_us: int
) -> ScheduleRequest | None:
    """Read what almost all requests are, in a third of the time; None if it is anything else."""
    match = _BASIC.match(headers or b"")
    if match is None:
        return None
    first, text, second = match.groups()
    if first is not None and second is not None:
        return None
    due_us = when.plain_due(text, received_us)
    if due_us > when.LAST_US:
        return None
    id_ = first or second
    told = (
        None if id_ is None else id_.decode(),
        reply.decode("utf-8", "surrogateescape"),
        text.decode(),
        due_us,
        received_us,
    )
    # As `Entry(*told)` and `ScheduleRequest(entry, payload)` do it, in two thirds of the time.
    return _MAKE(ScheduleRequest, (_MAKE(Entry, told + _NO_MORE), payload, None))


_MAKE = tuple.__new__
_NO_MORE = tuple(Entry._field_defaults.values())
"""What an entry says that its request does not mention."""


def _any_request(reply: bytes, headers: bytes | None, payload: bytes, received_us: int) -> Request:
    given, passed = split(headers)
    when_text = given.get(b"gozo-when")
    cancelled = given.get(b"gozo-del-id")
    asked = given.get(b"gozo-receipt")
    if b"gozo-protect" in given:
        raise RequestError(
            Refusal.INVALID_REQUEST,
            "requests cannot have Gozo-Protect: administrators protect a schedule with "
            "gozoctl create --protect",
        )
    receipt = None if asked is None else read_receipt(asked)
    if cancelled is not None:
        if when_text is not None:
            raise RequestError(
                Refusal.INVALID_REQUEST,
                "the request has both Gozo-When and Gozo-Del-Id: send two requests",
            )
        return CancelRequest(read_id(cancelled, "Gozo-Del-Id"), receipt)
    if when_text is None:
        raise RequestError(
            Refusal.INVALID_REQUEST,
            "the request has neither Gozo-When nor Gozo-Del-Id: say when, or what to cancel",
        )
    text = when_text.decode("utf-8", "replace")
    due = when.parse(text)
    given_id = given.get(b"gozo-id")
    confirm, attempts = read_confirmation(given)
    spec = read_spec(given, due, received_us)
    id_ = None if given_id is None else read_id(given_id, "Gozo-Id")
    check_recurs(spec, id_)
    entry = Entry(
        id=id_,
        subject=reply.decode("utf-8", "surrogateescape"),
        when=text,
        due_us=when.first_due(due, received_us) if isinstance(due, when.Moment) else 0,
        created_us=received_us,
        headers=passed,
        extended=receipt is not None or confirm or spec is not None,
        confirm=confirm,
        attempts=attempts,
        spec=spec,
    )
    return ScheduleRequest(entry, payload, receipt)


def dated(request: ScheduleRequest) -> ScheduleRequest:
    """Return a request with the first time at which it is due.

    Raises:
        RequestError: `invalid_when`, since it is never due.
    """
    entry = request.entry
    if not entry.recurs:
        return request
    return request._replace(entry=arranged(entry, expression(entry.when), entry.created_us))


def read_confirmation(given: Mapping[bytes, bytes]) -> tuple[bool, int]:
    """Read `Gozo-Confirm` and `Gozo-Attempts`: whether, and how often; 0 is without end.

    Raises:
        RequestError: `invalid_request`.
    """
    wanted, attempts = given.get(b"gozo-confirm"), given.get(b"gozo-attempts")
    if wanted is not None and wanted.lower() != b"stream":
        raise RequestError(
            Refusal.INVALID_REQUEST,
            f"Gozo-Confirm is {wanted[:40].decode('utf-8', 'replace')!r}: "
            "give stream, or leave it out",
        )
    if attempts is None:
        return wanted is not None, 0
    if wanted is None:
        raise RequestError(
            Refusal.INVALID_REQUEST, "Gozo-Attempts goes with Gozo-Confirm: stream only"
        )
    if not _ATTEMPTS.match(attempts) or not int(attempts):
        raise RequestError(
            Refusal.INVALID_REQUEST,
            f"Gozo-Attempts is {attempts[:40].decode('utf-8', 'replace')!r}: "
            f"give a whole number from 1 to {MOST_ATTEMPTS}",
        )
    return True, int(attempts)


def read_receipt(value: bytes) -> str:
    """Read `Gozo-Receipt`, a subject; whether it may be published on is decided elsewhere.

    Raises:
        RequestError: `forbidden_subject`, if it is empty.
    """
    if not value:
        raise RequestError(
            Refusal.FORBIDDEN_SUBJECT, "Gozo-Receipt is empty: give a subject, or leave it out"
        )
    return value.decode("utf-8", "surrogateescape")


def read_id(value: bytes, header: str) -> str:
    """Read an id from the header so named.

    Raises:
        RequestError: `invalid_id`.
    """
    if not value:
        raise RequestError(Refusal.INVALID_ID, f"{header} is empty: leave it out, or give an id")
    if len(value) > LONGEST_ID:
        raise RequestError(
            Refusal.INVALID_ID, f"{header} has {len(value)} bytes; the most is {LONGEST_ID}"
        )
    if b"\r" in value or b"\n" in value or b"\0" in value:
        raise RequestError(Refusal.INVALID_ID, f"{header} contains a line end or a zero byte")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise RequestError(
            Refusal.INVALID_ID, f"{header} is not UTF-8 at byte {error.start + 1}"
        ) from error


def delivery(entry: Entry, payload: bytes) -> Outgoing:
    """Make the message that is sent when a schedule is due."""
    lines = b"Gozo-Reply: Yes\r\n"
    if entry.id is not None:
        lines = b"Gozo-Reply: Yes\r\nGozo-Id: %b\r\n" % entry.id.encode()
    if not (entry.extended or entry.confirm or entry.headers or entry.spec):
        block = b"%b%b\r\n" % (FIRST_LINE, lines)
        return Outgoing(entry.subject.encode(), block, payload, entry.due_us)
    if entry.extended:
        lines += b"Gozo-Due: %b\r\n" % when.print_rfc3339(entry.due_us).encode()
    passed, spec = entry.headers, entry.spec
    if spec is not None and spec.recurs:
        lines += b"Gozo-Occurrence: %d\r\n" % (spec.occurred + 1)
        if passed:
            passed = _once(passed, entry.due_us)
    block = b"%b%b%b%b" % (FIRST_LINE, lines, passed, END)
    return Outgoing(
        entry.subject.encode(),
        block,
        payload,
        entry.due_us,
        entry.confirm,
        entry.attempts > 0,
        None if spec is None else entry,
    )


def triggered(entry: Entry, now_us: int) -> Entry:
    """Return what is sent when a schedule is triggered: a message due now, and none of its own.

    So it has no number of an occurrence, and a message id that no occurrence has.
    """
    return entry._replace(
        due_us=now_us,
        next_us=0,
        headers=_once(entry.headers, now_us),
        state=State.PENDING,
        spec=None,
    )


def _once(headers: bytes, due_us: int) -> bytes:
    """Make a message id that no other time of a schedule has: a stream would drop the second."""
    suffix = b"@" + when.print_rfc3339(due_us).encode()
    return _MESSAGE_ID.sub(lambda line: line[0] + suffix, headers)


# Receipts


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


# Administration


def result_size(id_: str) -> int:
    """How many bytes the result for an id takes in the answer of a verb for many."""
    return len(json.dumps(id_)) + RESULT


def parse_ids(payload: bytes, max_payload: int) -> list[str]:
    """Read the ids that a verb is for: `{"ids": ["a", "b"]}`.

    Raises:
        RequestError: `invalid_request` or `invalid_id`; `too_large`, where the answer would be.
    """
    ids = _object(payload).get("ids")
    if not isinstance(ids, list) or not 0 < len(ids) <= MOST_IDS:
        raise RequestError(Refusal.INVALID_REQUEST, f"give ids, a list of 1 to {MOST_IDS} of them")
    checked = [_text_id(id_) for id_ in ids]
    if sum(map(result_size, checked)) > max_payload - RESULT:
        raise RequestError(
            Refusal.TOO_LARGE, "the answer would not fit into one message: give fewer ids at once"
        )
    return checked


def parse_note(payload: bytes) -> str:
    """Read the note that `admin.pause` is given, `{"ids": ["a"], "note": "why"}`; "": none.

    Raises:
        RequestError: `invalid_request`.
    """
    note = _object(payload).get("note", "")
    if not isinstance(note, str):
        raise RequestError(Refusal.INVALID_REQUEST, f"{str(note)[:80]!r} is no note: give a text")
    return read_note(note)


def read_note(text: str) -> str:
    """Return a note as it is stored, on one line.

    Raises:
        RequestError: `invalid_request`, where it is too long or no text.
    """
    note = " ".join(text.split())
    if len(note) > LONGEST_REASON:
        raise RequestError(
            Refusal.INVALID_REQUEST,
            f"the note has {len(note)} characters; the most is {LONGEST_REASON}: shorten it",
        )
    if "\0" in note or any("\ud800" <= character <= "\udfff" for character in note):
        raise RequestError(Refusal.INVALID_REQUEST, "the note is no text of UTF-8: mend it")
    return note


def parse_reschedule(payload: bytes) -> tuple[str, str]:
    """Read what `admin.reschedule` is asked: `{"id": "a", "when": "+10"}`; id and expression.

    The expression is any text.

    Raises:
        RequestError: `invalid_request`, `invalid_id` or `invalid_when`.
    """
    asked = _object(payload)
    text = asked.get("when")
    if not isinstance(text, str):
        raise RequestError(Refusal.INVALID_WHEN, "give when, an expression as in Gozo-When")
    return _text_id(asked.get("id")), text


class KeysAsked(NamedTuple):
    """What `admin.keys` is asked."""

    prefix: str
    """How the keys begin."""
    after: str
    """The last key of the page before; empty for the first page."""
    limit: int
    """How many keys are answered at most; 0: none."""
    counts: bool
    """Whether schedules are counted by state besides."""


def parse_keys(payload: bytes) -> KeysAsked:
    """Read what `admin.keys` is asked: `{"prefix": "a", "after": "ab", "limit": 100}`.

    All of it may be omitted.

    Raises:
        RequestError: `invalid_request`.
    """
    asked = _object(payload) if payload else {}
    prefix, after = asked.get("prefix", ""), asked.get("after", "")
    limit, counts = asked.get("limit", MOST_KEYS), asked.get("counts", False)
    if not isinstance(prefix, str) or not isinstance(after, str):
        raise RequestError(
            Refusal.INVALID_REQUEST, "give prefix and after as strings, or omit them"
        )
    if not isinstance(limit, int) or not isinstance(counts, bool) or limit < 0:
        raise RequestError(
            Refusal.INVALID_REQUEST,
            "give limit as a whole number from 0, and counts as true or false, or omit them",
        )
    return KeysAsked(prefix, after, min(limit, MOST_KEYS), counts)


def _object(payload: bytes) -> dict[str, object]:
    try:
        asked = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise RequestError(Refusal.INVALID_REQUEST, f"the payload is not JSON: {error}") from error
    if not isinstance(asked, dict):
        raise RequestError(Refusal.INVALID_REQUEST, "the payload is not a JSON object")
    return asked


def _text_id(value: object) -> str:
    if not isinstance(value, str):
        raise RequestError(Refusal.INVALID_ID, f"{str(value)[:80]!r} is no id: give a text")
    try:
        return read_id(value.encode(), "the id")
    except UnicodeEncodeError as error:
        raise RequestError(Refusal.INVALID_ID, f"{value[:80]!r} is no text of UTF-8") from error
