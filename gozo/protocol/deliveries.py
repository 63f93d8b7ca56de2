"""The message that is sent when a schedule is due. Pure."""

from __future__ import annotations

import re

from gozo.protocol.headers import END, FIRST_LINE
from gozo.schedule import expression as when
from gozo.schedule.model import MICROSECONDS, Entry, Outgoing, Run, State

LONGEST_DEAD_REASON = 256
"""Maximum bytes of a dead letter's reason, which may come from others."""

_DEAD = b"@dead-letter"
"""Added to the message id of a dead letter: a stream may have had the message itself."""

_MESSAGE_ID = re.compile(rb"^nats-msg-id:[^\r]*", re.IGNORECASE | re.MULTILINE)


def delivery(entry: Entry, payload: bytes) -> Outgoing:
    """Return the message of a due schedule.

    Of one that becomes a run, only the run's message is ever sent: see `gozo.schedule.runs`.
    """
    if entry.is_answered and entry.run is None:
        return Outgoing(
            entry.subject.encode(), b"", payload, entry.due_us, entry=entry, answered=True
        )
    lines = b"Gozo-Reply: Yes\r\n"
    if entry.id is not None:
        lines = b"Gozo-Reply: Yes\r\nGozo-Id: %b\r\n" % entry.id.encode()
    if not (entry.extended or entry.confirm or entry.headers or entry.spec or entry.confirmation):
        block = b"%b%b\r\n" % (FIRST_LINE, lines)
        return Outgoing(entry.subject.encode(), block, payload, entry.due_us)
    if entry.is_dead_letter:
        return _dead_letter(entry, payload, lines)
    if entry.extended:
        lines += b"Gozo-Due: %b\r\n" % when.print_rfc3339(entry.due_us).encode()
    passed, spec, confirmation = entry.headers, entry.spec, entry.confirmation
    if spec is not None and spec.recurs:
        lines += b"Gozo-Occurrence: %d\r\n" % (spec.occurred + 1)
        if passed:
            passed = once(passed, entry.due_us)
    if entry.run is not None:
        lines += _run_lines(entry, entry.run)
    if confirmation is not None and confirmation.ttl_us:
        lines += b"Nats-TTL: %ds\r\n" % (confirmation.ttl_us // MICROSECONDS)
    block = b"%b%b%b%b" % (FIRST_LINE, lines, passed, END)
    return Outgoing(
        entry.subject.encode(),
        block,
        payload,
        entry.due_us,
        entry.confirm,
        entry.attempts > 0 or (confirmation is not None and confirmation.gives_up),
        None if spec is None and confirmation is None else entry,
        entry.is_answered and entry.state is not State.FAILED,
    )


def _dead_letter(entry: Entry, payload: bytes, lines: bytes) -> Outgoing:
    """Return the dead letter of a schedule that was given up; `lines` are its first lines."""
    confirmation, run = entry.confirmation, entry.run
    assert confirmation is not None
    reason = entry.reason.encode("utf-8", "replace")[:LONGEST_DEAD_REASON].decode(errors="ignore")
    lines += b"Gozo-Due: %b\r\n" % when.print_rfc3339(entry.due_us).encode()
    if run is not None and run.number:
        lines += b"Gozo-Occurrence: %d\r\n" % run.number
    lines += b"Gozo-Subject: %b\r\nGozo-Tried: %d\r\nGozo-Reason: %b\r\n" % (
        entry.subject.encode(),
        entry.tried,
        " ".join(reason.split()).encode(),
    )
    passed = _MESSAGE_ID.sub(lambda line: line[0] + _DEAD, entry.headers)
    block = b"%b%b%b%b" % (FIRST_LINE, lines, passed, END)
    subject = confirmation.dead_letter.encode()
    return Outgoing(subject, block, payload, entry.due_us, confirm=True, entry=entry)


def _run_lines(entry: Entry, run: Run) -> bytes:
    """Return the headers for the receiver of a run: occurrence, attempt and ack wait."""
    lines = b"Gozo-Attempt: %d\r\n" % (entry.tried + 1)
    if run.number:
        lines = b"Gozo-Occurrence: %d\r\n" % run.number + lines
    if entry.confirmation is not None:
        ack_wait = when.print_span(entry.confirmation.ack_wait_us).encode()
        lines += b"Gozo-Ack-Wait: %b\r\n" % ack_wait
    return lines


def triggered(entry: Entry, now_us: int) -> Entry:
    """Return the entry of a triggered schedule: due now, and none of its occurrences.

    Its message has no occurrence number, and a message id that no occurrence has.
    """
    return entry._replace(
        due_us=now_us,
        next_us=0,
        headers=once(entry.headers, now_us),
        state=State.PENDING,
        spec=None,
    )


def once(headers: bytes, due_us: int) -> bytes:
    """Make the message id unique for each due time: a stream would drop the second message."""
    suffix = b"@" + when.print_rfc3339(due_us).encode()
    return _MESSAGE_ID.sub(lambda line: line[0] + suffix, headers)
