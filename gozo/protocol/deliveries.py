"""The message that is sent when a schedule is due. Pure."""

from __future__ import annotations

import re

from gozo.protocol.headers import END, FIRST_LINE
from gozo.schedule import expression as when
from gozo.schedule.model import MICROSECONDS, Entry, Outgoing, Run, State

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
        entry.attempts > 0,
        None if spec is None and confirmation is None else entry,
        entry.is_answered and entry.state is not State.FAILED,
    )


def _run_lines(entry: Entry, run: Run) -> bytes:
    """Tell the receiver of a run which one it is, and how long it may be silent."""
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
