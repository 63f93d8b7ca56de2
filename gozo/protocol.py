"""Headers to objects and back, and how an id becomes a key. Pure.

A header block is what follows the first line of a NATS message with headers (ADR-4):
`Name: value` lines that end with CR LF. Names match whatever their case.
"""

from __future__ import annotations

import re
import secrets

from gozo import when
from gozo.errors import Refusal, RequestError
from gozo.schedule import (
    MICROSECONDS,
    CancelRequest,
    Entry,
    Marker,
    Outgoing,
    Reason,
    Request,
    ScheduleRequest,
)

FORMAT = 1
"""The format of entries that this version writes, and the newest that it reads."""

LONGEST_ID = 1_024
"""Bytes of UTF-8."""

RESERVED = "=_"
"""How keys begin that no id can produce."""


def reserved_key() -> str:
    """Make a key of its own for a schedule that has no id."""
    return f"{RESERVED}{secrets.token_hex(11)}"


BARRIER_KEY = RESERVED + "barrier"

MARKER_SECONDS = 600
"""How long a delete marker stays, so that a late cancel learns what happened."""

_FIRST_LINE = b"NATS/1.0\r\n"
_END = b"\r\n"
_UNSAFE = re.compile(rb"[^A-Za-z0-9_\-/.]|^\.|\.\Z|(?<=\.)\.")
_PLAIN_ID = re.compile(r"[A-Za-z0-9_\-/]+\Z")
_ESCAPED = re.compile(rb"=([0-9A-F]{2})")
_DECIMAL = re.compile(rb"([0-9]{1,12})(?:\.([0-9]{1,6}))?\Z")


class EntryError(ValueError):
    """An entry of the bucket that cannot be read; `newer` if its format is of the future."""

    def __init__(self, reason: str, *, newer: bool = False) -> None:
        super().__init__(reason)
        self.newer = newer


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


def fields(block: bytes | None) -> list[tuple[bytes, bytes]]:
    """Split a header block into names, in lower case, and values."""
    if not block:
        return []
    found = []
    for line in block.split(_END)[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            found.append((name.strip(b" \t").lower(), value.strip(b" \t")))
    return found


def parse_request(reply: bytes, headers: bytes | None, payload: bytes, received_us: int) -> Request:
    """Read a request as it came from the wire.

    Raises:
        RequestError: with the code and the sentence that the client is to be told.
    """
    given: dict[bytes, bytes] = {}
    for name, value in fields(headers):
        if name.startswith(b"gozo-"):
            if name in given:
                raise RequestError(
                    Refusal.INVALID_REQUEST,
                    f"the header {name.decode('ascii', 'replace').title()} is given twice",
                )
            given[name] = value
    when_text = given.get(b"gozo-when")
    cancelled = given.get(b"gozo-del-id")
    if cancelled is not None:
        if when_text is not None:
            raise RequestError(
                Refusal.INVALID_REQUEST,
                "the request has both Gozo-When and Gozo-Del-Id: send two requests",
            )
        return CancelRequest(_read_id(cancelled, "Gozo-Del-Id"))
    if when_text is None:
        raise RequestError(
            Refusal.INVALID_REQUEST,
            "the request has neither Gozo-When nor Gozo-Del-Id: say when, or what to cancel",
        )
    text = when_text.decode("utf-8", "replace")
    id_ = given.get(b"gozo-id")
    return ScheduleRequest(
        id=None if id_ is None else _read_id(id_, "Gozo-Id"),
        subject=reply.decode("utf-8", "surrogateescape"),
        when=text,
        due_us=when.first_due(when.parse(text), received_us),
        received_us=received_us,
        payload=payload,
    )


def _read_id(value: bytes, header: str) -> str:
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


def delivery(subject: str, id_: str | None, payload: bytes) -> Outgoing:
    """Make the message that is sent when a schedule is due."""
    headers = _FIRST_LINE + b"Gozo-Reply: Yes\r\n"
    if id_ is not None:
        headers += b"Gozo-Id: %b\r\n" % id_.encode()
    return Outgoing(subject.encode(), headers + _END, payload)


def entry_headers(request: ScheduleRequest, token: bytes) -> bytes:
    """Make the header lines of a bucket entry; `block` completes them."""
    id_line = b"" if request.id is None else b"Gozo-Id: %b\r\n" % request.id.encode()
    return (
        b"Gozo-Format: %d\r\n%bGozo-Subject: %b\r\nGozo-When: %b\r\nGozo-Due: %b\r\n"
        b"Gozo-Created: %b\r\nGozo-Request: %b\r\n"
    ) % (
        FORMAT,
        id_line,
        request.subject.encode(),
        request.when.encode(),
        _print_us(request.due_us),
        _print_us(request.received_us),
        token,
    )


def marker_headers(reason: Reason, *, ttl: bool) -> bytes:
    """Make the header lines of a delete marker, with an end of its own if the bucket has that."""
    lines = b"KV-Operation: DEL\r\nGozo-Reason: %b\r\n" % reason.encode()
    return lines + b"Nats-TTL: %ds\r\n" % MARKER_SECONDS if ttl else lines


def block(lines: bytes, expected: int | None = None) -> bytes:
    """Complete header lines to a block; `expected` is the revision that a write demands."""
    if expected is None:
        return b"%b%b\r\n" % (_FIRST_LINE, lines)
    return b"%bNats-Expected-Last-Subject-Sequence: %d\r\n%b\r\n" % (_FIRST_LINE, expected, lines)


def parse_entry(key: str, headers: bytes | None, stored_us: int) -> Entry | Marker:
    """Read a bucket entry from its key, its headers and the time when it was stored.

    Raises:
        EntryError: it is neither a schedule nor a delete marker that this version knows.
    """
    given = dict(fields(headers))
    if b"kv-operation" in given or b"nats-marker-reason" in given:
        return _marker(given)
    format_ = given.get(b"gozo-format", b"1")
    if format_ != b"%d" % FORMAT:
        newer = format_.isdigit() and int(format_[:9]) > FORMAT
        raise EntryError(f"its Gozo-Format is {format_.decode('ascii', 'replace')}", newer=newer)
    id_ = _entry_id(key, given.get(b"gozo-id"))
    if b"gozo-subject" not in given:
        raise EntryError("it has no Gozo-Subject")
    due = given.get(b"gozo-due")
    when_text = given.get(b"gozo-when", b"").decode("utf-8", "replace")
    try:
        due_us = when.first_due(when.parse(when_text), stored_us) if due is None else _read_us(due)
        created = given.get(b"gozo-created")
        return Entry(
            id=id_,
            subject=given[b"gozo-subject"].decode(),
            due_us=due_us,
            when=when_text,
            created_us=stored_us if created is None else _read_us(created),
            token=given.get(b"gozo-request", b""),
            size=int(given.get(b"nats-msg-size", b"0")),
        )
    except (RequestError, ValueError) as error:
        raise EntryError(str(error)) from error


def _marker(given: dict[bytes, bytes]) -> Marker:
    try:
        reason = Reason(given.get(b"gozo-reason", b"").decode("ascii"))
    except ValueError:
        reason = Reason.UNKNOWN
    ttl = re.fullmatch(rb"([0-9]{1,9})s?", given.get(b"nats-ttl", b""))
    return Marker(reason, int(ttl[1]) * MICROSECONDS if ttl else 0)


def _entry_id(key: str, header: bytes | None) -> str | None:
    if key.startswith(RESERVED):
        if header is not None:
            raise EntryError("it has a reserved key and a Gozo-Id")
        return None
    try:
        id_ = unescape_key(key)
    except ValueError as error:
        raise EntryError(str(error)) from error
    try:
        _read_id(id_.encode(), "the id")
    except RequestError as error:
        raise EntryError(str(error)) from error
    if header is not None and header != id_.encode():
        raise EntryError("its Gozo-Id is not the id of its key")
    return id_


def _print_us(us: int) -> bytes:
    return b"%d.%06d" % divmod(us, MICROSECONDS)


def _read_us(value: bytes) -> int:
    match = _DECIMAL.match(value)
    if match is None:
        raise ValueError(f"{value.decode('utf-8', 'replace')!r} is not a time in epoch seconds")
    us = int(match[1]) * MICROSECONDS + int((match[2] or b"").ljust(6, b"0"))
    if us > when.LAST_US:
        raise ValueError(f"{value.decode()!r} lies beyond the year 9999")
    return us
