"""How many messages a second are sent at most."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gozo.runtime.pace import BURST, Pace


@given(
    most=st.floats(0.1, 50_000),
    steps=st.lists(st.tuples(st.floats(0, 3), st.integers(0, 500)), max_size=100),
    began=st.floats(0, 1e6),
)
def test_never_more(most: float, steps: list[tuple[float, int]], began: float) -> None:
    """In no stretch of time are more let through than come in it, and one burst besides."""
    pace, at, sent = Pace(most), began, 0
    for step, wanted in steps:
        at += step
        number = min(wanted, pace.room(at))
        pace.sent(number)
        sent += number
        assert sent <= max(most * BURST, 1) + (at - began) * most + 1e-3


@given(most=st.floats(0.1, 50_000))
def test_it_is_worth_waiting(most: float) -> None:
    """After the wait that it names something may be sent, and all that the rate allows in time."""
    pace, at, sent = Pace(most), 1_000.0, 0
    for _ in range(100):
        room = pace.room(at)
        pace.sent(room)
        sent += room
        wait = pace.wait(at)
        assert wait > 0
        at += wait
    assert sent >= (at - 1_000) * most * 0.9 - 1


def test_any_number() -> None:
    """Without a bound nothing waits."""
    pace = Pace()
    pace.sent(1_000_000)
    assert pace.wait(0.0) == 0
