"""The message that is published for a schedule that was given up."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gozo.delivery.dead_letters import of_occurrence
from gozo.protocol.deliveries import delivery
from gozo.protocol.headers import fields
from gozo.protocol.ids import LONGEST_ID, escape_id
from gozo.protocol.requests import parse_request
from gozo.schedule.expression import LAST_US, print_rfc3339
from gozo.schedule.model import (
    LONGEST_REASON,
    MICROSECONDS,
    Confirm,
    Confirmation,
    Entry,
    ScheduleSpec,
    State,
)
from gozo.schedule.retry import retried
from gozo.store.entry_codec import entry_headers, headers_size, parse_entry

DUE_US = 1_795_000_000 * MICROSECONDS
DUE = print_rfc3339(DUE_US)
LETTER = Confirmation(Confirm.STREAM, dead_letter="dead.letters")


def schedule(confirmation: Confirmation = LETTER, *, recurs: bool = False) -> Entry:
    """Return a schedule that is attempted once."""
    return Entry(
        *("tea", "kitchen", "@every 1h" if recurs else "+0", DUE_US, DUE_US - 1),
        headers=b"Trace: 7\r\nNats-Msg-Id: one\r\n",
        extended=True,
        confirm=True,
        attempts=1,
        spec=ScheduleSpec(recurs=True, occurred=4) if recurs else None,
        confirmation=confirmation,
    )


def test_the_message() -> None:
    """It has the original's headers and payload, and the reason; a stream must acknowledge it."""
    sent = delivery(retried(schedule(), "full\r\nEvil: 1", DUE_US + 1), b"payload")
    assert (sent.subject, sent.payload, sent.due_us) == (b"dead.letters", b"payload", DUE_US)
    assert (sent.confirm, sent.counted) == (True, False)
    assert fields(sent.headers) == [
        (b"gozo-reply", b"Yes"),
        (b"gozo-id", b"tea"),
        (b"gozo-due", DUE.encode()),
        (b"gozo-subject", b"kitchen"),
        (b"gozo-tried", b"1"),
        (b"gozo-reason", b"full Evil: 1"),
        (b"trace", b"7"),
        (b"nats-msg-id", b"one@dead-letter"),
    ]


@pytest.mark.parametrize(
    ("confirmation", "counted"),
    [
        (None, False),
        (Confirmation(Confirm.STREAM, ttl_us=MICROSECONDS), False),
        (Confirmation(Confirm.STREAM, max_age_us=1), True),
        (LETTER, True),
    ],
)
def test_attempts_count_where_it_is_given_up(
    confirmation: Confirmation | None, counted: bool
) -> None:
    """An attempt that no stream acknowledges counts, rather than being repeated at once."""
    entry = schedule()._replace(attempts=0, confirmation=confirmation)
    assert delivery(entry, b"").counted == counted
    assert delivery(entry._replace(attempts=1), b"").counted


def test_it_can_be_scheduled_again() -> None:
    """A request may have all of its headers, like those of a delivery."""
    _, kept = of_occurrence("tea", retried(schedule(recurs=True), "full", DUE_US))
    received = delivery(kept, b"").headers
    again = parse_request(b"to", received[:-2] + b"Gozo-When: +1\r\n\r\n", b"", DUE_US)
    assert again.id == "tea"


def test_it_has_no_time_to_live() -> None:
    """The time to live is for the message; the dead letter's stream may be another one."""
    confirmation = Confirmation(Confirm.STREAM, dead_letter="dead", ttl_us=5 * MICROSECONDS)
    entry = schedule(confirmation)
    assert b"\r\nNats-TTL: 5s\r\n" in delivery(entry, b"").headers
    assert b"Nats-TTL" not in delivery(retried(entry, "full", DUE_US), b"").headers


@pytest.mark.parametrize("reason", ["x" * 300, "\U0001f600" * 300, "\ud83d" * 300])
def test_a_long_reason_is_cut(reason: str) -> None:
    """It has at most 256 bytes, and ends with a whole character."""
    entry = retried(schedule(), "", DUE_US)._replace(reason=reason)
    told = dict(fields(delivery(entry, b"").headers))[b"gozo-reason"]
    assert 250 < len(told) <= 256
    assert told.decode()


def test_that_of_an_occurrence() -> None:
    """It is kept in an entry of its own, and names the occurrence."""
    failed = retried(schedule(recurs=True), "full", DUE_US + 1)
    key, kept = of_occurrence("tea", failed)
    assert key == f"=_run.tea.d{DUE_US - 1:x}-5"
    assert kept.is_dead_letter
    assert (kept.recurs, kept.wake_us, kept.tried, kept.reason) == (False, DUE_US + 1, 1, "full")
    stored = parse_entry(key, b"NATS/1.0\r\n" + entry_headers(kept, b"t-1") + b"\r\n", 0)
    assert isinstance(stored, Entry)
    sent = dict(fields(delivery(stored, b"").headers))
    assert sent[b"gozo-occurrence"] == b"5"
    assert sent[b"nats-msg-id"] == f"one@{DUE}@dead-letter".encode()
    assert delivery(stored, b"").headers == delivery(kept, b"").headers


@given(
    id_=st.none() | st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1),
    headers=st.lists(st.sampled_from([b"A: %\r\n", b"Nats-Msg-Id: x\r\n"]), max_size=3),
    recurs=st.booleans(),
    reason=st.text(st.sampled_from(["%", "\U0001f600", "a"]), max_size=LONGEST_REASON),
)
@example(id_="0", headers=[], recurs=True, reason="a" * 9 + "\U0001f600" * 10)
def test_its_size_was_counted_at_the_request(
    id_: str | None, headers: list[bytes], recurs: bool, reason: str
) -> None:
    """Every dead letter can be sent, and its entry stored."""
    entry = schedule(recurs=recurs and id_ is not None)._replace(
        id=None if id_ is None else id_[: LONGEST_ID // 4],
        due_us=LAST_US,
        headers=b"".join(headers),
    )
    counted = headers_size(entry)
    failed = retried(entry, reason * 9, LAST_US)
    if failed.recurs:
        assert id_ is not None
        _, failed = of_occurrence(escape_id(id_), failed)
    assert failed.state is State.FAILED
    assert len(delivery(failed, b"").headers) <= counted
    assert headers_size(failed) <= counted
