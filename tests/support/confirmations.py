"""All ways to confirm a delivery, for property tests."""

from __future__ import annotations

from hypothesis import strategies as st

from gozo.schedule.model import MICROSECONDS, Confirm, Confirmation, Overlap

SECOND = MICROSECONDS
SPANS = st.integers(0, 10**15)
WHOLE_SECONDS = st.integers(1, 10**9).map(lambda seconds: seconds * SECOND)
ANSWERED = st.builds(
    Confirmation,
    by=st.sampled_from([Confirm.REPLY, Confirm.CLAIM]),
    ack_wait_us=st.integers(SECOND, 10**15),
    backoff_us=st.lists(SPANS, max_size=20).map(tuple),
    max_age_us=SPANS,
    overlap=st.none() | st.sampled_from(Overlap),
    dead_letter=st.sampled_from(["", "dead.letters"]),
    keep_output=st.booleans(),
    expect_us=st.just(0) | st.integers(SECOND, 10**15),
)
STREAM = st.builds(
    Confirmation,
    by=st.just(Confirm.STREAM),
    max_age_us=SPANS,
    dead_letter=st.sampled_from(["", "dead.letters"]),
    ttl_us=st.just(0) | WHOLE_SECONDS,
)
CONFIRMATIONS = ANSWERED | STREAM.filter(lambda one: one != Confirmation(Confirm.STREAM))
