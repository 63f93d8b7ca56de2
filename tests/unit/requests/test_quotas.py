"""How much requests may ask for, and how often they may come."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gozo.errors import Refusal, RequestError
from gozo.requests.quotas import Quotas, Rate
from gozo.schedule.model import MICROSECONDS

QUOTAS = Quotas(
    max_pending=3,
    max_payload=100,
    max_delay_us=60 * MICROSECONDS,
    min_interval_us=100_000,
)


@pytest.mark.parametrize(
    ("check", "code", "told"),
    [
        (
            lambda quotas, more: quotas.check_pending(2 + more),
            Refusal.TOO_MANY_PENDING,
            ("3 schedules", "maximum is 3,", "--max-pending: "),
        ),
        (
            lambda quotas, more: quotas.check_payload(100 + more),
            Refusal.PAYLOAD_TOO_LARGE,
            ("101 bytes", "maximum is 100,", "--max-payload: "),
        ),
        (
            lambda quotas, more: quotas.check_interval(max(100_000 - more, 1)),
            Refusal.TOO_OFTEN,
            (" 0.099999 s", "minimum is 0.1 s", "--min-interval: "),
        ),
        (
            lambda quotas, more: quotas.check_delay(5, 60_000_005 + more),
            Refusal.TOO_FAR_AHEAD,
            (" 60.000001 s ahead", "maximum is 60 s", "--max-delay: "),
        ),
    ],
)
def test_limits(check: Callable[[Quotas, int], None], code: Refusal, told: tuple[str, ...]) -> None:
    """What is at the limit is taken, one more is refused; without a limit nothing is.

    The sentence has what was asked for, the limit, and the option that sets it.
    """
    check(QUOTAS, 0)
    with pytest.raises(RequestError) as refused:
        check(QUOTAS, 1)
    assert refused.value.code is code
    for words in told:
        assert words in str(refused.value)
    check(Quotas(), 1 << 60)


@given(
    most=st.floats(0.1, 1000),
    steps=st.lists(st.floats(0, 3), max_size=200),
    began=st.floats(0, 1e6),
)
def test_rate(most: float, steps: list[float], began: float) -> None:
    """In no stretch of time are more let through than come in it, and in one second besides."""
    rate, at, passed = Rate(most), began, 0
    first = None
    for step in steps:
        at += step
        try:
            rate.check(at)
        except RequestError:
            continue
        first = at if first is None else first
        passed += 1
        assert passed <= max(most, 1) + (at - first) * most + 1e-6


def test_a_delay_that_is_hardly_too_long() -> None:
    """The sentence does not call too long what it says is allowed."""
    with pytest.raises(RequestError, match=r"due 60\.000001 s ahead; the maximum is 60 s"):
        QUOTAS.check_delay(0, 60_000_001)


def test_rate_lets_through_what_it_promises() -> None:
    """At the rate, all pass; what is refused does not count."""
    rate = Rate(10)
    passed = 0
    for tick in range(10_000):
        try:
            rate.check(100 + tick / 1000)
        except RequestError:
            continue
        passed += 1
    assert passed == pytest.approx(109, abs=1)


def test_a_burst() -> None:
    """It is some seconds' worth of requests, at least one, and no more after a long pause."""
    for most, burst, expected in ((10, 1.0, 10), (10, 0.5, 5), (0.5, 1.0, 1), (10, 0.0, 1)):
        rate = Rate(most, burst)
        for at in (5.0, 1_000_000.0):
            for _ in range(expected):
                rate.check(at)
            with pytest.raises(RequestError, match=rf"accepts {most:g} requests per") as refused:
                rate.check(at)
            assert refused.value.code is Refusal.TOO_MANY_REQUESTS


def test_the_rate_comes_back_as_time_passes() -> None:
    """At two a second, one is allowed each half second after a burst."""
    rate = Rate(2)
    for at in (0.5, 0.5, 1.0, 1.5):
        rate.check(at)
    for at in (1.75, 1.875):
        with pytest.raises(RequestError):
            rate.check(at)
    rate.check(2.0)


def test_a_rate_counts_from_its_first_request() -> None:
    """The clock may begin anywhere, even at 0: at first, a whole burst is allowed."""
    rate = Rate(3)
    for _ in range(3):
        rate.check(0.0)
    with pytest.raises(RequestError):
        rate.check(0.0)


def test_without_a_rate_all_pass() -> None:
    """There may be any number at once."""
    rate = Rate(None)
    for _ in range(1_000):
        rate.check(0.0)
