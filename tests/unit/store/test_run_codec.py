"""Runs in the bucket, and their schedules."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gozo.protocol.headers import block
from gozo.protocol.ids import escape_id
from gozo.protocol.outcome_codec import LONGEST_HOST
from gozo.schedule.expression import LAST_US
from gozo.schedule.model import (
    LONGEST_REASON,
    NEVER,
    Confirm,
    Confirmation,
    Entry,
    Run,
    ScheduleSpec,
    State,
)
from gozo.schedule.outcome import Outcome, Record, Result
from gozo.schedule.runs import begun, claimed, failed, sent
from gozo.store.entry_codec import (
    EntryError,
    entry_headers,
    headers_size,
    parse_entry,
    reserved_key,
)
from gozo.store.run_codec import occurrence_of, run_key, triggered_occurrence
from tests.support.confirmations import CONFIRMATIONS

NOW_US = 1_795_000_000_000_000
HASHES = st.binary(min_size=32, max_size=32).map(
    lambda raw: base64.urlsafe_b64encode(raw).decode().rstrip("=")
)
TIMES = st.integers(1, LAST_US)
IDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30).filter(
    lambda id_: id_ == id_.strip(" ")  # readers of headers strip values
)


@given(
    id_=IDS,
    confirmation=CONFIRMATIONS,
    occurrence=st.sampled_from(["64a1", "64a1-17", "t64a1", "d64a1-17"]),
    sent_us=st.just(0) | TIMES,
    tokens=st.lists(st.tuples(st.integers(1, 10**9 - 1), HASHES), max_size=4).map(tuple),
    owner=st.just("") | HASHES,
    give_up_us=st.just(NEVER) | TIMES,
    is_last=st.booleans(),
    state=st.sampled_from([State.PENDING, State.RUNNING, State.RETRYING, State.FAILED]),
    tried=st.integers(0, 999_999),
    reason=st.sampled_from(["", "no disk"]),
)
def test_there_and_back(
    id_: str,
    confirmation: Confirmation,
    occurrence: str,
    sent_us: int,
    tokens: tuple[tuple[int, str], ...],
    owner: str,
    give_up_us: int,
    is_last: bool,
    state: State,
    tried: int,
    reason: str,
) -> None:
    """A run that is stored and read again is the same."""
    key = escape_id(id_)
    run = Run(key, occurrence, sent_us, tokens, owner, give_up_us, is_last)
    entry = Entry(
        *(id_, "to", "1", 1_000_000, 1),
        confirm=confirmation.by is Confirm.STREAM,
        token=b"token",
        extended=True,
        state=state,
        tried=tried,
        reason=reason,
        confirmation=confirmation,
        run=run,
    )
    lines = entry_headers(entry, b"token")
    assert lines.startswith(b"Gozo-Format: 2\r\n")
    assert parse_entry(run_key(key, occurrence), block(lines), 0) == entry


def test_each_occurrence_has_a_key_of_its_own() -> None:
    """So does a triggered run, and each schedule that replaces another."""
    single = Entry("a", "to", "+1", NOW_US, NOW_US)
    recurring = single._replace(spec=ScheduleSpec(recurs=True, occurred=4))
    occurrences = [
        occurrence_of(single),
        occurrence_of(single._replace(created_us=NOW_US + 1)),
        occurrence_of(recurring),
        occurrence_of(recurring._replace(spec=ScheduleSpec(recurs=True, occurred=5))),
        triggered_occurrence(NOW_US),
    ]
    assert len(set(occurrences)) == 5
    assert Run("a", occurrence_of(recurring)).number == 5
    assert Run("a", occurrence_of(single)).number == 0


@pytest.mark.parametrize(
    ("occurrence", "lines"),
    [
        ("not-hex-", b""),
        ("64a1", b"Gozo-Token: 1.short\r\n"),
        ("64a1", b"Gozo-Token: 1." + b"a" * 43 + b",x\r\n"),
        ("64a1", b"Gozo-Owner: short\r\n"),
        ("64a1", b"Gozo-Sent: yesterday\r\n"),
        ("64a1", b"Gozo-Give-Up: 12\r\n"),
    ],
)
def test_what_gozo_never_writes(occurrence: str, lines: bytes) -> None:
    """It is reported as invalid."""
    entry = Entry("a", "to", "1", 1, 1, confirmation=Confirmation(Confirm.REPLY), run=Run("a", "1"))
    headers = block(entry_headers(entry, b"token") + lines)
    with pytest.raises(EntryError):
        parse_entry(run_key("a", occurrence), headers, 0)


@given(id_=IDS | st.none(), reason=st.text(st.sampled_from(["%", "\U0001f600", "a"])))
def test_the_size_of_a_schedule_counts_its_runs(id_: str | None, reason: str) -> None:
    """The headers of a run never exceed the bytes that were counted for it."""
    schedule = Entry(
        *(id_, "to", "@every 1s", LAST_US, LAST_US),
        attempts=999_999,
        extended=True,
        spec=ScheduleSpec(recurs=True, occurred=10**18 - 1),
        confirmation=Confirmation(Confirm.CLAIM),
    )
    key = reserved_key() if id_ is None else escape_id(id_)
    run = begun(schedule, key, occurrence_of(schedule), b"", LAST_US)
    for _ in range(5):
        run = sent(run._replace(tried=999_998), "a" * 43, LAST_US)
    run = claimed(run, "b" * 43, LAST_US)
    outcome = Outcome(
        *(id_, key, "to", "", Result.UNANSWERED, LAST_US, LAST_US),
        attempt=999_999,
        host="h" * LONGEST_HOST,
        exit_status=-99_999,
        duration_us=LAST_US,
        late=True,
    )
    recorded = schedule._replace(record=Record(outcome, LAST_US, overdue=True))
    counted = headers_size(schedule)
    for later in (run, failed(run, reason * LONGEST_REASON, LAST_US - 1), recorded):
        lines = entry_headers(later, b"0123456789-0123456789abcdef-0123456789a")
        assert len(block(lines, 10**18)) <= counted
        assert headers_size(later) <= counted, "what was accepted once stays valid"
