"""Header blocks of NATS messages: their lines, and which of them are passed on. Pure.

A header block is what follows the first line of a NATS message with headers (ADR-4):
`Name: value` lines that end with CR LF. Names match whatever their case.
"""

from __future__ import annotations

import re

from gozo.errors import Refusal, RequestError
from gozo.protocol.header_names import PREFIX, shown
from gozo.protocol.subject_policy import LARGEST_BLOCK

FIRST_LINE = b"NATS/1.0\r\n"
END = b"\r\n"
OWN = (PREFIX, b"nats-")
"""Prefixes of headers that are not passed on."""

MESSAGE_ID = b"nats-msg-id"
"""The exception: streams use it to drop duplicates."""

MOST_LINES = 500
"""Maximum lines of a header block: more would keep a daemon busy for long."""

_FOLD = re.compile(rb"\r\n[ \t]+")
_NAME = re.compile(rb"[!-9;-~]+\Z")
_UNSAFE = re.compile(rb"[\r\n\0]")


def block(lines: bytes, expected: int | None = None) -> bytes:
    """Make a block of header lines; `expected` is the revision that a write requires."""
    if expected is None:
        return b"%b%b\r\n" % (FIRST_LINE, lines)
    return b"%bNats-Expected-Last-Subject-Sequence: %d\r\n%b\r\n" % (FIRST_LINE, expected, lines)


def fields(block: bytes | None) -> list[tuple[bytes, bytes]]:
    """Split a header block into names, in lower case, and values.

    Ignores what exceeds the limits of `check_block`.
    """
    if not block:
        return []
    found = []
    for line in block[:LARGEST_BLOCK].split(END, MOST_LINES + 1)[1 : MOST_LINES + 1]:
        name, colon, value = line.partition(b":")
        if colon:
            found.append((name.strip(b" \t").lower(), value.strip(b" \t")))
    return found


def find(block: bytes, *names: bytes) -> dict[bytes, bytes]:
    """Find fields by their lower-case names in a block that is too long to split."""
    found, lower = {}, block.lower()
    for name in names:
        start = lower.find(b"%b%b:" % (END, name))
        if start >= 0:
            start += len(END) + len(name) + 1
            end = block.find(END, start)
            found[name] = block[start : end if end >= 0 else None].strip(b" \t")
    return found


def is_long(block: bytes) -> bool:
    """Return whether a block takes too long to split."""
    return len(block) > LARGEST_BLOCK or block.count(END) > MOST_LINES


def check_block(block: bytes) -> None:
    """Refuse a header block that takes too long to read.

    Raises:
        RequestError: `too_large`.
    """
    if len(block) > LARGEST_BLOCK:
        raise RequestError(
            Refusal.TOO_LARGE,
            f"the headers have {len(block)} bytes; the maximum is {LARGEST_BLOCK}: "
            "send fewer or shorter ones",
        )
    if (lines := block.count(END)) > MOST_LINES:
        raise RequestError(
            Refusal.TOO_LARGE,
            f"the headers have {lines} lines; the maximum is {MOST_LINES}: send fewer",
        )


def split(block: bytes | None) -> tuple[dict[bytes, bytes], bytes]:
    """Split a block into gozo's own fields, by name, and the lines that are passed on.

    Headers other than `Gozo-*` and `Nats-*` are passed on, and `Nats-Msg-Id`. A value on several
    lines becomes a single line (RFC 7230, 3.2.4).

    Raises:
        RequestError: `invalid_request` or `invalid_header`, for a malformed block or one that
            could not be passed on unchanged; `too_large`.
    """
    given: dict[bytes, bytes] = {}
    passed: list[bytes] = []
    if not block:
        return given, b""
    check_block(block)
    if b"\r\n " in block or b"\r\n\t" in block:
        block = _FOLD.sub(b" ", block)
    for line in block.split(END)[1:]:
        if not line:
            continue
        name, colon, value = line.partition(b":")
        name, value = name.strip(b" \t"), value.strip(b" \t")
        lower = name.lower()
        if lower.startswith(PREFIX):
            if lower in given:
                raise RequestError(
                    Refusal.INVALID_REQUEST, f"the header {shown(lower)!r} occurs twice"
                )
            given[lower] = value
        elif not lower.startswith(OWN) or lower == MESSAGE_ID:
            if not colon or not _NAME.match(name) or _UNSAFE.search(value):
                raise RequestError(
                    Refusal.INVALID_HEADER,
                    f"the header line {line[:80].decode('utf-8', 'replace')!r} is invalid: give a "
                    "name of printable ASCII, a colon and a value without line ends",
                )
            passed.append(b"%b: %b\r\n" % (name, value))
    return given, b"".join(passed)


def pack(lines: bytes) -> bytes:
    """Encode header lines as one value, so that none of them can act on the bucket."""
    return lines.replace(b"%", b"%25").replace(END, b"%0D%0A")


def unpack(value: bytes) -> bytes:
    """Decode such a value into header lines.

    Raises:
        RequestError: `invalid_header`, if `pack` did not encode it.
    """
    lines = value.replace(b"%0D%0A", END).replace(b"%25", b"%")
    if lines and not lines.endswith(END):
        raise RequestError(Refusal.INVALID_HEADER, "its Gozo-Headers are not complete lines")
    if split(FIRST_LINE + lines) != ({}, lines):
        raise RequestError(Refusal.INVALID_HEADER, "its Gozo-Headers contain other headers")
    return lines
