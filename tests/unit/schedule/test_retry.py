"""When a failed delivery is retried, and what is recorded about it."""

from __future__ import annotations

import pytest

from gozo.schedule.model import LONGEST_REASON, Entry, State
from gozo.schedule.retry import retried

ENTRY = Entry("a", "to", "+1", 1, 1, confirm=True)


@pytest.mark.parametrize(
    ("attempts", "states"),
    [
        (0, [State.RETRYING] * 3),
        (1, [State.FAILED]),
        (2, [State.RETRYING, State.FAILED]),
    ],
)
def test_it_fails_for_good_after_its_attempts(attempts: int, states: list[State]) -> None:
    """It fails with the last attempt, even if that is the only one; 0 means no limit."""
    entry = ENTRY._replace(attempts=attempts)
    for number, state in enumerate(states, 1):
        entry = retried(entry, "no stream", 0)
        assert (entry.state, entry.tried) == (state, number)


def test_the_reason_is_shortened_and_can_be_stored() -> None:
    """A reason may be long, and may be invalid text."""
    assert retried(ENTRY, "a" * 300, 0).reason == "a" * LONGEST_REASON
    assert retried(ENTRY, "\ud800 \u00e4", 0).reason == "? \u00e4"
