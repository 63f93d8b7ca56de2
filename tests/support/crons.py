"""Cron expressions and time zones to try them in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

ZONES = [
    "Australia/Lord_Howe",  # clocks are set by half an hour
    "America/Santiago",  # at midnight
    "Europe/Dublin",  # where winter is the exception
    "Africa/Casablanca",  # for the Ramadan
    "Europe/Malta",
]


def us(moment: datetime) -> int:
    """Return a moment in microseconds since 1970."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def one_of(low: int, high: int) -> st.SearchStrategy[str]:
    """Make a field."""
    value = st.integers(low, high)
    return (
        st.sampled_from(["*", "?", f"*/{high}"])
        | value.map(str)
        | st.tuples(value, value).map(lambda pair: f"{min(pair)}-{max(pair)}")
        | st.tuples(value, st.integers(1, 99)).map(lambda pair: f"{pair[0]}/{pair[1]}")
        | st.lists(value, min_size=1, max_size=4).map(lambda values: ",".join(map(str, values)))
    )


FIVE = st.tuples(
    one_of(0, 59), one_of(0, 23), one_of(1, 28), one_of(1, 12), one_of(0, 6) | st.just("mon-fri")
)
CRONS = FIVE.map(" ".join) | st.tuples(one_of(0, 59), FIVE).map(
    lambda pair: " ".join([pair[0], *pair[1]])
)
