"""What an answer says: any bytes at all are an answer."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gozo.protocol.answers import (
    FINAL,
    LONGEST_DELAY_US,
    MOST_OUTPUT,
    Answer,
    Verdict,
    read_answer,
)
from gozo.schedule.model import LONGEST_REASON
from gozo.schedule.outcome import Work

REFUSED = "the receiver refused it"
WORDS = [
    b"+ACK",
    b"-NAK",
    b"+WPI",
    b"+TERM",
    b"+CLAIM",
    b"+OK",
    b"{",
    b'{"busy": true}',
    b"\n",
    b" ",
]
HEADERS = [
    *(b"NATS/1.0", b"NATS/1.0\r\n", b" 503", b"\r\n", b"\r\n\r\n", b"Nats-Service-Error"),
    *(b"Nats-Service-Error-Code", b": ", b":", b"500", b"\xff", b"\r", b"A: b"),
]
BLOCKS = st.none() | st.binary(max_size=200) | st.lists(st.sampled_from(HEADERS)).map(b"".join)
PAYLOADS = st.binary(max_size=200) | st.lists(st.sampled_from(WORDS), max_size=5).map(b"".join)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"+ACK", Answer(Verdict.DONE)),
        (b"+ACK\r\n", Answer(Verdict.DONE)),
        (b"", Answer(Verdict.DONE)),
        (b"+OK", Answer(Verdict.DONE)),
        (b"-NAKED", Answer(Verdict.DONE)),
        (b"+TERMINAL 3", Answer(Verdict.DONE)),
        (b" -NAK", Answer(Verdict.DONE)),
        (b"-NAK", Answer(Verdict.FAILED, REFUSED)),
        (b"-NAK no  disk\n", Answer(Verdict.FAILED, "no disk")),
        (b"-NAK\tno disk", Answer(Verdict.FAILED, "no disk")),
        (b'-NAK {"delay": 1500000}', Answer(Verdict.FAILED, REFUSED, 1_500)),
        (b'-NAK{"delay":0}', Answer(Verdict.FAILED, REFUSED, 0)),
        (b'-NAK {"delay": 999}', Answer(Verdict.FAILED, REFUSED, 0)),
        (b'-NAK {"delay": -5}', Answer(Verdict.FAILED, REFUSED)),
        (b'-NAK {"delay": 1.5e9}', Answer(Verdict.FAILED, REFUSED)),
        (b'-NAK {"delay": true}', Answer(Verdict.FAILED, REFUSED)),
        (b'-NAK {"delay": 1e999}', Answer(Verdict.FAILED, REFUSED)),
        (b'-NAK {"delay": %d}' % 10**30, Answer(Verdict.FAILED, REFUSED, LONGEST_DELAY_US)),
        (b'-NAK {"reason": "no disk"}', Answer(Verdict.FAILED, "no disk")),
        (b'-NAK {"reason": 5}', Answer(Verdict.FAILED, REFUSED)),
        (b'-NAK {"busy": true, "delay": 5}', Answer(Verdict.BUSY, "the receiver is busy")),
        (b'-NAK {"busy": false}', Answer(Verdict.FAILED, REFUSED)),
        (b'-NAK {"busy": 1}', Answer(Verdict.FAILED, REFUSED)),
        (b"-NAK []", Answer(Verdict.FAILED, "[]")),
        (b"-NAK {", Answer(Verdict.FAILED, "{")),
        (b"+WPI", Answer(Verdict.ALIVE)),
        (b"+WPI 50%", Answer(Verdict.ALIVE)),
        (b"+TERM", Answer(Verdict.TERMINATED, "the receiver gave up")),
        (b"+TERM no disk", Answer(Verdict.TERMINATED, "no disk")),
        (b"+CLAIM n", Answer(Verdict.CLAIM, nonce=b"n")),
        (b"+CLAIM  n 1 ", Answer(Verdict.CLAIM, nonce=b"n 1")),
        (b"+CLAIM " + b"n" * 128, Answer(Verdict.CLAIM, nonce=b"n" * 128)),
        (b"+CLAIM " + b"n" * 129, Answer(Verdict.INVALID)),
        (b"+CLAIM", Answer(Verdict.INVALID)),
        (b'{"stream":"S","seq":7}', Answer(Verdict.STREAM)),
        (b'{"stream": "S", "domain": "d", "seq": 7, "duplicate": true}', Answer(Verdict.STREAM)),
        (b'{"error":{"code":503},"stream":"S","seq":0}', Answer(Verdict.STREAM)),
        (b'{"stream": "S", "error": "x"}', Answer(Verdict.STREAM)),
        (b'{"stream": "S"}', Answer(Verdict.DONE)),
        (b'{"stream": 1, "seq": 7}', Answer(Verdict.DONE)),
        (b'{"seq": 7}', Answer(Verdict.DONE)),
        (b'{"error": "no disk"}', Answer(Verdict.DONE)),
        (b'["stream", "seq"]', Answer(Verdict.DONE)),
        (b"{" * 4_000, Answer(Verdict.DONE)),
        (b'{"stream":"S","seq":' + b"7" * 5_000 + b"}", Answer(Verdict.DONE)),
    ],
)
def test_payloads(payload: bytes, expected: Answer) -> None:
    """The words are those of ADR-15; anything else is a result."""
    assert read_answer(None, payload) == expected
    assert read_answer(b"NATS/1.0\r\nA: b\r\n\r\n", payload) == expected


@pytest.mark.parametrize(
    ("block", "payload", "expected"),
    [
        (b"NATS/1.0 503\r\n\r\n", b"", Verdict.NOBODY),
        (b"NATS/1.0 503 No Responders\r\n\r\n", b"", Verdict.NOBODY),
        (b"NATS/1.0 503\r\n\r\n", b"+ACK", Verdict.INVALID),
        (b"NATS/1.0 404 No Messages\r\n\r\n", b"", Verdict.INVALID),
        (b"NATS/1.0 5031\r\n\r\n", b"", Verdict.DONE),
        (b"NATS/1.0\r\nStatus: 503\r\n\r\n", b"", Verdict.DONE),
        (b"NATS/1.0\r\nnats-service-error-code: 500\r\n\r\n", b"+ACK", Verdict.FAILED),
        (b"NATS/1.0\r\nNats-Service-Error: no disk\r\n\r\n", b"+ACK", Verdict.DONE),
    ],
)
def test_headers(block: bytes, payload: bytes, expected: Verdict) -> None:
    """The headers of the server and of a service count before the payload."""
    assert read_answer(block, payload).verdict is expected


def test_a_service_error() -> None:
    """Its code and text become the reason (ADR-32)."""
    block = b"NATS/1.0\r\nNats-Service-Error: no\xff disk\r\nNats-Service-Error-Code: 500\r\n\r\n"
    assert read_answer(block, b"") == Answer(Verdict.FAILED, "service error 500 no\ufffd disk")
    bare = b"NATS/1.0\r\nNats-Service-Error-Code: 500\r\n\r\n"
    assert read_answer(bare, b"").reason == "service error 500"
    long = block.replace(b"500", b"5" * 10_000).replace(b"no", b"n" * 10_000)
    assert len(read_answer(long, b"").reason) == LONGEST_REASON


WORK = (
    b"NATS/1.0\r\nGozo-Answer: %b\r\nGozo-Exit-Status: 3\r\ngozo-host: web1\r\n"
    b"Gozo-Started: 2026-11-30T02:00:00.120Z\r\nGOZO-DURATION: 12.5\r\n\r\n"
)
SAID = Work(3, "web1", 1_796_004_000_120_000, 12_500_000)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        (b"+ACK", Answer(Verdict.DONE)),
        (b"-NAK", Answer(Verdict.FAILED, "exit status 3")),
        (b'-NAK {"reason": "no disk", "delay": 0}', Answer(Verdict.FAILED, "no disk", 0)),
        (b"+TERM no disk", Answer(Verdict.TERMINATED, "no disk")),
    ],
)
def test_a_worker(word: bytes, expected: Answer) -> None:
    """The word is in a header, and the payload is output, whatever it looks like."""
    for output in (b"", b"+TERM", b"{}", b"line\n" * 10_000):
        said = replace(SAID, output=output[-MOST_OUTPUT:])
        assert read_answer(WORK % word, output) == replace(expected, work=said)


def test_headers_without_a_word_among_them() -> None:
    """Then the payload is the word, or output."""
    block = b"NATS/1.0\r\nGozo-Exit-Status: -9\r\n\r\n"
    assert read_answer(block, b"-NAK") == Answer(Verdict.FAILED, "exit status -9", work=Work(-9))
    assert read_answer(block, b"done") == Answer(Verdict.DONE, work=Work(-9, output=b"done"))
    block = b"NATS/1.0\r\nGozo-Reply: Yes\r\nGozo-Id: a\r\n\r\n"
    assert read_answer(block, b"done") == Answer(Verdict.DONE), "a service repeats our headers"


@pytest.mark.parametrize("word", [b"", b"NAK", b"done", b"+ACKNOWLEDGED"])
def test_a_word_that_is_none(word: bytes) -> None:
    """A misspelt word in the header is no success."""
    assert read_answer(WORK % word, b"") == Answer(Verdict.INVALID)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((b"Gozo-Exit-Status", value) for value in (b"", b"x", b"3.0", b"+3", b"123456")),
        *((b"Gozo-Host", value) for value in (b"", b"a b", b"\xff", b"h" * 129, b"h" * 60_000)),
        *((b"Gozo-Started", value) for value in (b"", b"+5", b"@hourly", b"soon", b"9" * 20)),
        *((b"Gozo-Duration", value) for value in (b"", b"-1", b"1e9", b"9" * 20, b"soon")),
    ],
)
def test_hostile_values(name: bytes, value: bytes) -> None:
    """What is invalid is ignored and counted; the rest counts."""
    block = b"NATS/1.0\r\nGozo-Answer: +ACK\r\n%b: %b\r\n\r\n" % (name, value)
    assert read_answer(block, b"out") == Answer(Verdict.DONE, work=Work(output=b"out", invalid=1))


@given(block=BLOCKS, payload=PAYLOADS)
@example(block=b"NATS/1.0", payload=b"")
def test_any_bytes(block: bytes | None, payload: bytes) -> None:
    """Nothing fails, and the reason is bounded and fits in a header."""
    answer = read_answer(block, payload)
    assert len(answer.reason) <= LONGEST_REASON
    assert answer.reason == " ".join(answer.reason.split())
    answer.reason.encode()
    assert bool(answer.nonce) == (answer.verdict is Verdict.CLAIM)
    if answer.verdict in (Verdict.FAILED, Verdict.BUSY, Verdict.TERMINATED):
        assert answer.verdict in FINAL
        assert answer.reason
    elif answer.verdict is not Verdict.CLAIM:
        assert answer == Answer(answer.verdict)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: st.dictionaries(
            st.sampled_from(["delay", "busy", "reason", "x"]), inner, max_size=4
        ),
    )
)
def test_any_json(said: object) -> None:
    """Whatever follows `-NAK`, the attempt did not succeed."""
    answer = read_answer(None, b"-NAK " + json.dumps(said).encode())
    busy = isinstance(said, dict) and said.get("busy") is True
    assert answer.verdict is (Verdict.BUSY if busy else Verdict.FAILED)
    assert answer.delay_us is None or 0 <= answer.delay_us <= LONGEST_DELAY_US


@pytest.mark.parametrize("word", WORDS)
def test_huge(word: bytes) -> None:
    """A payload of a megabyte is read quickly."""
    for more in (b" ", b"x", b"{", b" x", b'{"a":', b"\r\n"):
        payload = (word + more * 1_000_000)[: 1024 * 1024]
        assert len(read_answer(None, payload).reason) <= LONGEST_REASON
