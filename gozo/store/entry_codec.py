"""Converts entries of the bucket from headers to objects and back. Pure."""

from __future__ import annotations

import re
import secrets
from typing import Any

from gozo.errors import RequestError
from gozo.protocol.confirmation import confirmation_lines, read_confirmation, without_copied
from gozo.protocol.header_names import unknown_lines
from gozo.protocol.headers import (
    MESSAGE_ID,
    OWN,
    check_block,
    fields,
    pack,
    split,
    unpack,
)
from gozo.protocol.ids import LONGEST_ID, RESERVED, is_addressable, read_id, unescape_key
from gozo.protocol.outcome_codec import read_record, record_lines
from gozo.protocol.subject_policy import LARGEST_BLOCK, UNLIMITED, check_size
from gozo.schedule import expression as when
from gozo.schedule.model import MICROSECONDS, PLAIN, RARE, Entry, Marker, State
from gozo.schedule.recurrence import arranged, due_at, expression
from gozo.schedule.spec_headers import check_recurs, has_spec, read_spec, spec_lines
from gozo.store.marker_codec import read_marker
from gozo.store.run_codec import (
    RUN_GROWTH,
    RUN_PREFIX,
    print_us,
    read_origin,
    read_run,
    run_lines,
)

FORMAT = 2
"""The newest format of entries that this version reads.

It writes entries in the oldest format that can say what they say, so that older daemons go on
reading them: format 2 has a `Confirmation`.
"""

BARRIER_KEY = RESERVED + "barrier"

APPLY_KEY = RESERVED + "apply"
"""The lock of `apply`, stored as a delete marker."""

GROWTH = 1_152
"""Bytes that gozo may add to an entry's headers later: what was sent last, the reason of a failed
attempt or a pause, the revision that a write expects."""


_WHEN = rb"(?:Gozo-When: (\+?[0-9]{1,10}+(?:\.[0-9]{1,6}+)?)\r\n)?"
_PLAIN = re.compile(
    rb"NATS/1\.0\r\n(?:Nats-Expected-Last-Subject-Sequence: [0-9]++\r\n)?"
    rb"(?:Gozo-Format: 1\r\n)?(?:Gozo-Id: ([A-Za-z0-9_\-/.]{1,200}+)\r\n)?"
    + _WHEN
    + rb"Gozo-Subject: ([!-~]++)\r\n"
    + _WHEN
    + rb"(?:Gozo-Due: ([0-9]{1,11}+\.[0-9]{6})\r\nGozo-Created: ([0-9]{1,11}+\.[0-9]{6})\r\n"
    rb"Gozo-Request: ([0-9a-f-]++)\r\n)?(?:Nats-Msg-Size: ([0-9]{1,9}+)\r\n)?\r\n\Z"
)
"""An entry without special headers, written by gozo or directly by a client."""
_PLAIN_KEY = re.compile(rf"(?:[A-Za-z0-9_\-/]++(?:\.[A-Za-z0-9_\-/]++)*|{RESERVED}[0-9a-f]++)\Z")
"""A key that is its own id, or one from `reserved_key`."""
_DECIMAL = re.compile(rb"([0-9]{1,12})(?:\.([0-9]{1,6}))?\Z")
_COUNT = re.compile(rb"[0-9]{1,9}\Z")

_PENDING = State.PENDING
_FORMAT_LINE = "Gozo-Format: 1\r\n"
_SECOND = b"Gozo-Format: 2\r\n"
_FORMATS = frozenset({b"1", b"2"})


class EntryError(ValueError):
    """An entry of the bucket that cannot be read; `newer` if a later version wrote its format."""

    def __init__(self, reason: str, *, newer: bool = False) -> None:
        super().__init__(reason)
        self.newer = newer


class BareEntryError(EntryError):
    """An entry without gozo's headers: its value must be read; see `parse_original`."""


def reserved_key(name: str = "") -> str:
    """Return the key for a schedule without an id: a new one, or that of a name, in hex digits."""
    return f"{RESERVED}{name or secrets.token_hex(11)}"


def printable_key(raw: bytes) -> str:
    """Decode the raw bytes of a key; gozo's own keys are ASCII.

    A key that is not UTF-8 becomes a text with a space, which no other key has.
    """
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return f"{raw!r} (not UTF-8)"


def entry_headers(entry: Entry, token: bytes) -> bytes:
    """Make the header lines of a bucket entry; `block` completes them."""
    id_, subject, when_text, due_us, created_us = entry[:5]  # faster than five attributes
    id_line = "" if id_ is None else f"Gozo-Id: {id_}\r\n"
    due, created = str(due_us).zfill(7), str(created_us).zfill(7)
    # Cutting texts takes two thirds of the time of dividing and formatting bytes.
    text = (
        f"{_FORMAT_LINE}{id_line}Gozo-Subject: {subject}\r\n"
        f"Gozo-When: {when_text}\r\nGozo-Due: {due[:-6]}.{due[-6:]}\r\n"
        f"Gozo-Created: {created[:-6]}.{created[-6:]}\r\nGozo-Request: "
    )
    lines = text.encode() + token + b"\r\n"
    if entry[RARE:] == PLAIN:
        return lines
    if entry.confirmation is not None:
        lines = _SECOND + lines[len(_SECOND) :]
    return lines + _rare_lines(entry)


def _rare_lines(entry: Entry) -> bytes:
    """Make the lines that few entries have."""
    lines = b""
    if entry.headers:
        lines += b"Gozo-Headers: %b\r\n" % pack(entry.headers)
    if entry.extended:
        lines += b"Gozo-Extended: Yes\r\n"
    if entry.managed_by:
        lines += b"Gozo-Set: %b\r\n" % entry.managed_by.encode()
    if entry.protected:
        lines += b"Gozo-Protect: Yes\r\n"
    if entry.confirm or entry.confirmation is not None:
        lines += confirmation_lines(entry.confirm, entry.attempts, entry.confirmation)
    lines += _answer_lines(entry)
    if entry.spec is not None:
        lines += spec_lines(entry.spec)
    # An offer that nobody has claimed is pending, also where there were attempts before.
    if entry.state is not _PENDING or (entry.run and (entry.tried or entry.reason)):
        reason = " ".join(entry.reason.split()).encode("utf-8", "replace")
        lines += b"Gozo-State: %b\r\nGozo-Tried: %d\r\nGozo-Next: %b\r\nGozo-Reason: %b\r\n" % (
            entry.state.encode(),
            entry.tried,
            print_us(entry.next_us).encode(),
            reason,
        )
    return lines + entry.unknown


def _answer_lines(entry: Entry) -> bytes:
    """Make the lines of what receivers have to confirm."""
    lines = b""
    if entry.origin:
        lines += b"Gozo-Origin: %b\r\n" % entry.origin.encode()
    if entry.run is not None:
        lines += run_lines(entry.run)
    if entry.record is not None:
        lines += record_lines(entry.record)
    return lines


def headers_size(entry: Entry) -> int:
    """The greatest size, in bytes, that the entry's header block can grow to.

    That of its dead letter, and of the entries of its occurrences, is no larger.
    """
    confirmation = entry.confirmation
    begins_others = entry.is_answered or (
        entry.recurs and confirmation is not None and bool(confirmation.dead_letter)
    )
    if entry.state is not _PENDING or entry.run is not None or entry.record is not None:
        # GROWTH and RUN_GROWTH include these.
        entry = entry._replace(state=_PENDING, tried=0, reason="", run=None, record=None)
    return len(entry_headers(entry, b"")) + GROWTH + RUN_GROWTH * begins_others


def check_room(
    entry: Entry, headers: bytes | None, max_payload: int, max_message: int = UNLIMITED
) -> None:
    """Refuse a stored schedule that would be too large to be rewritten.

    A schedule that recurs, counts its attempts or becomes a run is rewritten, and the headers that
    a client wrote may grow by that. If that failed, the schedule would start over at each start of
    gozo. Other schedules are sent as they are.

    Raises:
        RequestError: `too_large`.
    """
    if entry.recurs or entry.attempts or entry.confirmation is not None:
        size = headers_size(entry)
    else:
        size = min(len(headers or b"") + GROWTH, LARGEST_BLOCK)
    check_size(entry.size, size, max_payload, max_message)


PROTECT = b"gozo-protect"
"""Protects a schedule whatever its value: a misspelt value must not remove the protection."""


def says_protected(headers: bytes | None) -> bool:
    """Tell whether an entry is protected, even if it is otherwise unreadable."""
    return any(name == PROTECT for name, _ in fields(headers))


ORIGINAL = b"Gozo-Original: Yes\r\n"
"""Marks a key that is the id, unescaped: the original gozo stored the schedule there."""


def parse_entry(
    key: str, headers: bytes | None, stored_us: int, size: int | None = None
) -> Entry | Marker:
    """Read a bucket entry from its key, its headers and the time when it was stored.

    `size` is that of its payload; None: the server has added a header with the size.

    Raises:
        EntryError: it is neither a schedule nor a delete marker that this version knows.
    """
    plain = _plain_entry(key, headers, stored_us)
    if plain is not None:
        return plain if size is None else plain._replace(size=size)
    given = dict(fields(headers))
    if b"kv-operation" in given or b"nats-marker-reason" in given:
        return read_marker(given)
    format_ = given.get(b"gozo-format", b"1")
    if format_ not in _FORMATS:
        newer = format_.isdigit() and int(format_[:9]) > FORMAT
        raise EntryError(f"its Gozo-Format is {format_.decode('ascii', 'replace')}", newer=newer)
    if b"gozo-subject" not in given:
        error = EntryError if any(name.startswith(b"gozo-") for name in given) else BareEntryError
        raise error("it has no Gozo-Subject")
    try:
        check_block(headers or b"")
        entry = _entry(key, given, headers or b"", stored_us)
    except (RequestError, ValueError) as error:
        raise EntryError(str(error)) from error
    return entry if size is None else entry._replace(size=size)


def glance(key: str, headers: bytes | None, stored_us: int) -> tuple[int, bytes, bytes, int] | None:
    """Return when a plain entry is due, its subject, its token, and its payload's size.

    At a start, a million entries are read this way, much faster than by `parse_entry`.
    None if the entry is not plain, or cannot be read.
    """
    plain = _split_plain(key, headers)
    if plain is None:
        return None
    where, text, due, _, token, size = plain
    due_us = when.plain_due(text, stored_us) if due is None else int(due.replace(b".", b""))
    return due_us, where, token or b"", int(size or 0)


def _plain_entry(key: str, headers: bytes | None, stored_us: int) -> Entry | None:
    """Read a plain entry, as most are, in a third of the time; None if it is not plain."""
    plain = _split_plain(key, headers)
    if plain is None:
        return None
    where, text, due, created, token, size = plain
    return Entry(
        None if key.startswith(RESERVED) else key,
        where.decode(),
        text.decode(),
        when.plain_due(text, stored_us) if due is None else int(due.replace(b".", b"")),
        stored_us if due is None else int(created.replace(b".", b"")),
        token or b"",
        int(size or 0),
        extended=due is None,
    )


def _split_plain(key: str, headers: bytes | None) -> tuple[Any, ...] | None:
    """Return a plain entry's subject, when, due, created, token and size; None if it is not plain.

    Its key is plain and equals the id, if one is given, and its time is given once.
    """
    match = _PLAIN.match(headers or b"")
    if match is None:
        return None
    id_, early, where, late, due, created, token, size = match.groups()
    if (early is None) == (late is None) or len(key) > LONGEST_ID:
        return None
    if id_ is not None and id_ != key.encode():
        return None
    if (id_ is None or b"." in id_) and _PLAIN_KEY.match(key) is None:
        return None
    return where, early or late, due, created, token, size


def _entry(key: str, given: dict[bytes, bytes], headers: bytes, stored_us: int) -> Entry:
    due = given.get(b"gozo-due")
    when_text = given.get(b"gozo-when", b"").decode("utf-8", "replace")
    created = given.get(b"gozo-created")
    passed = unpack(given[b"gozo-headers"]) if b"gozo-headers" in given else b""
    size = given.get(b"nats-msg-size", b"0")
    confirm, attempts, confirmation = read_confirmation(without_copied(given), recurs=True)
    if created is None and any(name[:5] not in OWN or name == MESSAGE_ID for name in given):
        # Written directly by a client, which does not pack headers as gozo does.
        passed = split(headers)[1] + passed
    entry = Entry(
        id=_entry_id(key, given.get(b"gozo-id"), original=b"gozo-original" in given),
        subject=given[b"gozo-subject"].decode(),
        when=when_text,
        due_us=0 if due is None else _read_us(due),
        created_us=stored_us if created is None else _read_us(created),
        token=given.get(b"gozo-request", b""),
        size=int(size) if _COUNT.match(size) else 0,
        headers=passed,
        extended=created is None or b"gozo-extended" in given,
        confirm=confirm,
        attempts=attempts,
        managed_by=given.get(b"gozo-set", b"").decode("utf-8", "replace"),
        expires=b"nats-ttl" in given,
        protected=PROTECT in given,
        unknown=unknown_lines(given),
        confirmation=confirmation,
        origin=read_origin(given),
        run=read_run(key, given) if key.startswith(RUN_PREFIX) else None,
    )
    if confirmation is not None:
        entry = entry._replace(record=read_record(given, entry.id, key, entry.subject))
    if due is None or has_spec(given):
        entry = _with_spec(entry, given, stored_us)
    state = given.get(b"gozo-state")
    return entry if state is None else _with_state(entry, state, given)


def _with_spec(entry: Entry, given: dict[bytes, bytes], stored_us: int) -> Entry:
    when = expression(entry.when)
    spec = read_spec(given, when, stored_us)
    check_recurs(spec, entry.id)
    entry = entry._replace(spec=spec)
    if b"gozo-due" in given:
        return due_at(entry, entry.due_us)
    return arranged(entry, when, stored_us)


def _with_state(entry: Entry, state: bytes, given: dict[bytes, bytes]) -> Entry:
    tried = given.get(b"gozo-tried", b"0")
    if not _COUNT.match(tried):
        raise ValueError(f"its Gozo-Tried is {tried.decode('utf-8', 'replace')!r}")
    return entry._replace(
        state=State(state.decode("ascii", "replace")),
        tried=int(tried),
        next_us=_read_us(given.get(b"gozo-next", b"0")),
        reason=given.get(b"gozo-reason", b"").decode("utf-8", "replace"),
    )


def _entry_id(key: str, header: bytes | None, *, original: bool) -> str | None:
    if key.startswith(RUN_PREFIX):
        key = key.removeprefix(RUN_PREFIX).rpartition(".")[0]
    if key.startswith(RESERVED):
        if header is not None:
            raise ValueError("it has a reserved key and a Gozo-Id")
        if not is_addressable(key):
            raise ValueError(f"its key {key!r} is not one of gozo's")
        return None
    id_ = key if original else unescape_key(key)
    read_id(id_.encode(), "the id")
    if header is not None and header != id_.encode():
        raise ValueError("its Gozo-Id is not the id of its key")
    return id_


def _read_us(value: bytes) -> int:
    match = _DECIMAL.match(value)
    if match is None:
        raise ValueError(f"{value.decode('utf-8', 'replace')!r} is not a time in epoch seconds")
    us = int(match[1]) * MICROSECONDS + int((match[2] or b"").ljust(6, b"0"))
    if us > when.LAST_US:
        raise ValueError(f"{value.decode()!r} lies beyond the year 9999")
    return us
