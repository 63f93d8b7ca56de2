"""The answers of receivers to deliveries that they have to confirm. Pure.

The words are those of JetStream's acknowledgements (ADR-15), so that clients and people know them.
Any other answer means that the work is done: a service that answers requests need not know gozo.

A final answer may say more about the work in headers, and have the end of its output as payload;
the word is then in the header `Gozo-Answer`:

    Gozo-Answer: -NAK {"reason": "exit status 3"}
    Gozo-Exit-Status: 3
    Gozo-Host: web1
    Gozo-Started: 2026-11-30T02:00:00.120Z
    Gozo-Duration: 12.5
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from gozo.errors import RequestError
from gozo.protocol.headers import find
from gozo.protocol.outcome_codec import read_host, read_status
from gozo.schedule import expression as grammar
from gozo.schedule.outcome import NO_WORK, Work
from gozo.schedule.retry import shortened

ACK_TOKEN = "ack"  # noqa: S105  # a part of a subject
"""The token after the request subject in the subjects for answers."""

OK, GO, NO = b"+OK", b"+GO", b"+NO"
"""The replies of the leader to answers that have a reply subject, and to claims."""

LONGEST_DELAY_US = 366 * 86_400 * 1_000_000
"""The longest delay that a receiver can ask for."""

LONGEST_NONCE = 128
"""Maximum bytes of a claim's nonce."""

MOST_OUTPUT = 16 * 1024
"""Maximum bytes of output that are kept: the last ones."""

_REFUSED = "the receiver refused it"
_LONGEST_JSON = 4_096
"""Maximum bytes of an answer that is read as JSON."""
_WORD = re.compile(rb"(\+ACK|-NAK|\+WPI|\+TERM|\+CLAIM)\b(.*)", re.DOTALL)
_GOZO = re.compile(rb"\r\ngozo-", re.IGNORECASE)
_STATUS = re.compile(rb"NATS/1\.0[ \t]+([0-9]{3})\b")
_ERROR, _CODE = b"nats-service-error", b"nats-service-error-code"
_ANSWER = b"gozo-answer"
_STATUS_HEADER, _HOST = b"gozo-exit-status", b"gozo-host"
_STARTED, _DURATION = b"gozo-started", b"gozo-duration"
_WORK = (_STATUS_HEADER, _HOST, _STARTED, _DURATION)
_LONGEST_VALUE = 200
"""Maximum bytes of the value of a header that says something about the work."""


class Verdict(StrEnum):
    """What an answer means."""

    DONE = "done"
    FAILED = "failed"
    """The attempt failed; another one may follow."""
    BUSY = "busy"
    """The receiver has no capacity: the attempt was not begun."""
    ALIVE = "alive"
    """The receiver is still working."""
    TERMINATED = "terminated"
    """It failed for good."""
    NOBODY = "nobody"
    """The server says that nobody subscribes to the subject."""
    CLAIM = "claim"
    """The receiver asks whether it may start."""
    STREAM = "stream"
    """The acknowledgement of a stream that captures the subject, which is not an answer."""
    INVALID = "invalid"
    """Anything else."""


FINAL = frozenset({Verdict.DONE, Verdict.FAILED, Verdict.BUSY, Verdict.TERMINATED, Verdict.NOBODY})
"""The verdicts that end an attempt."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to one attempt."""

    verdict: Verdict
    reason: str = ""
    """Why it failed."""
    delay_us: int | None = None
    """The wait before the next attempt, if the receiver gives one."""
    nonce: bytes = b""
    """The nonce of a claim."""
    work: Work = NO_WORK


def read_answer(headers: bytes | None, payload: bytes) -> Answer:
    """Read an answer from the wire."""
    if headers is not None:
        status = _STATUS.match(headers)
        if status is not None:
            is_503 = status[1] == b"503" and not payload
            return Answer(Verdict.NOBODY if is_503 else Verdict.INVALID)
        error = find(headers, _ERROR, _CODE)
        if _CODE in error:
            words = b"service error %b %b" % (error[_CODE][:40], error.get(_ERROR, b"")[:400])
            return Answer(Verdict.FAILED, _text(words))
        if _GOZO.search(headers):
            return _read_with_work(find(headers, _ANSWER, *_WORK), payload)
    return _read_word(payload)


def _read_with_work(given: Mapping[bytes, bytes], payload: bytes) -> Answer:
    """Read an answer with headers of gozo, by lower-case name."""
    if not given:
        return _read_word(payload)
    word = given.get(_ANSWER)
    if word is not None and not _WORD.match(word):
        return Answer(Verdict.INVALID)
    answer = _read_word(payload if word is None else word)
    output = payload if word is not None or not _WORD.match(payload) else b""
    work = _read_work(given, output[-MOST_OUTPUT:])
    if answer.reason == _REFUSED and work.exit_status is not None:
        answer = replace(answer, reason=f"exit status {work.exit_status}")
    return replace(answer, work=work)


def _read_work(given: Mapping[bytes, bytes], output: bytes) -> Work:
    texts = {
        name: given[name][: _LONGEST_VALUE + 1].decode("utf-8", "replace")
        for name in _WORK
        if name in given
    }
    status = read_status(texts.get(_STATUS_HEADER, ""))
    host = read_host(texts.get(_HOST, "")) or ""
    started_us = _read_moment(texts.get(_STARTED, ""))
    duration_us = _read_span(texts.get(_DURATION, ""))
    valid = (status is not None) + bool(host) + bool(started_us) + (duration_us is not None)
    return Work(status, host, started_us, duration_us, output, len(texts) - valid)


def _read_moment(text: str) -> int:
    """Read a moment, in RFC 3339 or epoch seconds; 0 if it is not one."""
    try:
        when = grammar.parse(text)
    except RequestError:
        return 0
    return when.us if isinstance(when, grammar.At) else 0


def _read_span(text: str) -> int | None:
    """Read a duration, such as `12.5` or `1m30s`; None if it is not one."""
    try:
        return grammar.parse_span(text, "Gozo-Duration")
    except RequestError:
        return None


def _read_word(payload: bytes) -> Answer:
    """Read an answer by the first word of its payload."""
    word = _WORD.match(payload) if payload[:1] in (b"+", b"-") else None
    if word is None:
        return Answer(Verdict.STREAM if _is_of_stream(payload) else Verdict.DONE)
    rest = word[2].strip()
    match word[1]:
        case b"-NAK":
            return _read_nak(rest)
        case b"+WPI":
            return Answer(Verdict.ALIVE)
        case b"+TERM":
            return Answer(Verdict.TERMINATED, _text(rest[:1_000]) or "the receiver gave up")
        case b"+CLAIM":
            usable = 0 < len(rest) <= LONGEST_NONCE
            return Answer(Verdict.CLAIM, nonce=rest) if usable else Answer(Verdict.INVALID)
        case _:
            return Answer(Verdict.DONE)


def _read_nak(rest: bytes) -> Answer:
    said = _object(rest)
    if said is None:
        return Answer(Verdict.FAILED, _text(rest[:1_000]) or _REFUSED)
    if said.get("busy") is True:
        return Answer(Verdict.BUSY, "the receiver is busy")
    reason = said.get("reason")
    delay = said.get("delay")
    words = shortened(reason) if isinstance(reason, str) else ""
    delay_us = None
    if isinstance(delay, int) and not isinstance(delay, bool) and delay >= 0:
        delay_us = min(delay // 1_000, LONGEST_DELAY_US)
    return Answer(Verdict.FAILED, words or _REFUSED, delay_us)


def _is_of_stream(payload: bytes) -> bool:
    """Tell whether an answer is the acknowledgement of a stream, or its refusal (ADR-1)."""
    said = _object(payload)
    if said is None:
        return False
    return isinstance(said.get("stream"), str) and ("seq" in said or "error" in said)


def _object(text: bytes) -> dict[str, object] | None:
    """Read a JSON object; None if the text is not one, or is too long."""
    if text[:1] != b"{" or len(text) > _LONGEST_JSON:
        return None
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return said if isinstance(said, dict) else None


def _text(words: bytes) -> str:
    return shortened(words.decode("utf-8", "replace"))
