"""The message of a due schedule, byte for byte."""

from __future__ import annotations

import pytest

from gozo.protocol.deliveries import delivery, triggered
from gozo.schedule.model import Entry, Outgoing, ScheduleSpec, State

DUE_US = 1_763_871_235_012_999
PLAIN = Entry("a", "to", "1763871235.013", DUE_US, 1)
DUE = b"Gozo-Due: 2025-11-23T04:13:55.012Z\r\n"
FIRST = b"NATS/1.0\r\nGozo-Reply: Yes\r\n"
SPEC = ScheduleSpec(recurs=True, occurred=2)
PASSED = b"A: b\r\nnats-msg-ID: n\r\nX-Nats-Msg-Id: x\r\n"
ONCE = PASSED.replace(b"ID: n", b"ID: n@2025-11-23T04:13:55.012Z")


@pytest.mark.parametrize(
    ("entry", "lines"),
    [
        (PLAIN, b"Gozo-Id: a\r\n"),
        (PLAIN._replace(id=None), b""),
        (PLAIN._replace(headers=PASSED), b"Gozo-Id: a\r\n" + PASSED),
        (PLAIN._replace(extended=True), b"Gozo-Id: a\r\n" + DUE),
        (PLAIN._replace(id=None, extended=True), DUE),
        (
            PLAIN._replace(extended=True, spec=SPEC, headers=PASSED),
            b"Gozo-Id: a\r\n" + DUE + b"Gozo-Occurrence: 3\r\n" + ONCE,
        ),
        (
            PLAIN._replace(extended=True, spec=SPEC),
            b"Gozo-Id: a\r\n" + DUE + b"Gozo-Occurrence: 3\r\n",
        ),
        (PLAIN._replace(spec=ScheduleSpec(), headers=PASSED), b"Gozo-Id: a\r\n" + PASSED),
    ],
)
def test_headers(entry: Entry, lines: bytes) -> None:
    """There are no others; each occurrence has a message id of its own."""
    sent = delivery(entry, b"payload")
    assert sent.headers == FIRST + lines + b"\r\n"
    assert (sent.subject, sent.payload, sent.due_us) == (b"to", b"payload", DUE_US)
    assert sent.entry is (entry if entry.spec else None)
    assert sent.size == len(sent.headers) + 7


@pytest.mark.parametrize(("attempts", "counted"), [(0, False), (1, True)])
def test_what_a_stream_must_acknowledge(attempts: int, counted: bool) -> None:
    """Attempts are counted if their number is limited."""
    sent = delivery(PLAIN._replace(confirm=True, attempts=attempts), b"x")
    head = FIRST + b"Gozo-Id: a\r\n\r\n"
    assert sent == Outgoing(b"to", head, b"x", DUE_US, confirm=True, counted=counted)


def test_a_triggered_schedule_is_none_of_its_occurrences() -> None:
    """It is due now, and no occurrence has its message id."""
    entry = PLAIN._replace(
        due_us=1, next_us=5, headers=PASSED, state=State.PAUSED, spec=SPEC, extended=True
    )
    made = triggered(entry, DUE_US)
    assert made == PLAIN._replace(headers=ONCE, extended=True)
    assert made.state is State.PENDING
