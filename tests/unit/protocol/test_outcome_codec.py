"""Outcomes as JSON, and in the headers of an entry."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gozo.protocol.headers import block, fields
from gozo.protocol.outcome_codec import (
    LONGEST_HOST,
    outcome_json,
    read_outcome_json,
    read_record,
    record_lines,
)
from gozo.schedule.outcome import Outcome, Record, Result
from gozo.store.run_codec import RUN_GROWTH

LAST_MS = 4_102_444_800_000
"""The year 2100: JSON has how long something took to the microsecond for some 100 years."""
TIMES = st.integers(0, LAST_MS).map(lambda ms: ms * 1_000)
HOSTS = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=LONGEST_HOST)
OUTCOMES = st.builds(
    Outcome,
    id=st.just("a b"),
    key=st.just("a=20b"),
    subject=st.just("jobs"),
    occurrence=st.just("1f-3"),
    result=st.sampled_from(Result),
    due_us=TIMES,
    ended_us=TIMES,
    started_us=st.just(0) | TIMES,
    attempt=st.integers(0, 999_999_999),
    reason=st.text(max_size=200),
    host=HOSTS,
    exit_status=st.none() | st.integers(-99_999, 99_999),
    duration_us=st.none() | st.integers(0, 10**15),
    late=st.booleans(),
)


@given(OUTCOMES)
def test_json_there_and_back(outcome: Outcome) -> None:
    """What is written is read; how long it took is written in any case."""
    read = read_outcome_json(outcome_json(outcome))
    assert read == replace(outcome, duration_us=outcome.took_us)


@given(OUTCOMES, TIMES, TIMES, st.booleans())
def test_headers_there_and_back(
    outcome: Outcome, awaited_us: int, succeeded_us: int, overdue: bool
) -> None:
    """All but the reason, the occurrence and when it started; within the room kept for them."""
    record = Record(outcome, awaited_us, overdue=overdue, succeeded_us=succeeded_us)
    lines = record_lines(record)
    assert len(lines) <= RUN_GROWTH
    read = read_record(dict(fields(block(lines))), outcome.id, outcome.key, outcome.subject)
    assert read is not None
    assert read.last is not None
    assert replace(read, last=None) == replace(record, last=None)
    assert replace(read.last, started_us=0) == replace(
        outcome, duration_us=outcome.took_us, reason="", occurrence="", started_us=0
    )


@given(st.binary(max_size=300), st.binary(max_size=40))
@example(b"succeeded 1.000000 2.000000 attempt=x exit=- took=1 host= late=3 late", b"soon")
@example(b"succeeded 1.000000 2.000000 exit=123456 attempt=1234567890", b"1")
@example("succeeded \u0661.000000 2.000000".encode(), b"")
def test_hostile_headers(outcome: bytes, awaited: bytes) -> None:
    """Whatever a client wrote there, it is ignored at worst."""
    given_ = {b"gozo-outcome": outcome, b"gozo-awaited": awaited, b"gozo-succeeded": awaited}
    record = read_record(given_, "a", "a", "jobs")
    assert record is not None
    read = read_record(dict(fields(block(record_lines(record)))), "a", "a", "jobs")
    assert record == (Record() if read is None else read)


def test_headers_of_others() -> None:
    """An entry without these headers has no record."""
    assert read_record({b"gozo-id": b"a"}, "a", "a", "jobs") is None
    assert record_lines(Record()) == b""


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "gozo.event.v1"},
        {"outcome": "delivered"},
        {"due": "soon"},
        {"due": "+5"},
        {"id": 3},
        {"exit_status": "3"},
        {"subject": None},
    ],
)
def test_json_of_others(changes: dict[str, object]) -> None:
    """What is not an outcome is refused."""
    said = json.loads(outcome_json(Outcome("a", "a", "jobs", "1", Result.FAILED, 0, 0)))
    with pytest.raises(ValueError, match=r".+"):
        read_outcome_json(json.dumps(said | changes).encode())
