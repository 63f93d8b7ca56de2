"""What is remembered of schedules that are gone: against a dictionary, and how much it takes."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gozo.schedule.model import Reason
from gozo.schedule.outcomes import CHUNK_AGE, KEPT, LARGEST, SMALLEST, Outcomes

REASONS = [reason for reason in Reason if reason is not Reason.BARRIER]


class Remembering(RuleBasedStateMachine):
    """Ten minutes after it was noted, and not much later, an outcome is forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.outcomes = Outcomes(smallest=8, largest=32)
        self.now = 0.0
        self.noted: dict[str, tuple[float, Reason]] = {}
        self.made = 0

    @rule(key=st.sampled_from("abcdef"), reason=st.sampled_from(REASONS))
    def note(self, key: str, reason: Reason) -> None:
        """One goes."""
        self.outcomes.note(key, reason)
        self.noted[key] = (self.now, reason)

    @rule(count=st.integers(1, 40), reason=st.sampled_from(REASONS))
    def note_many(self, count: int, reason: Reason) -> None:
        """Many go, each once."""
        for _ in range(count):
            self.made += 1
            self.note(f"key{self.made}", reason)

    @rule(seconds=st.one_of(st.floats(0, 2), st.floats(0, KEPT)))
    def turn(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds
        self.outcomes.turn(self.now)

    @invariant()
    def nothing_is_missed(self) -> None:
        """Nor mistaken, within the ten minutes."""
        for key, (at, reason) in self.noted.items():
            found = self.outcomes.reason(key)
            assert found is reason or (found is None and self.now - at > KEPT), key

    @invariant()
    def nothing_else_is_known(self) -> None:
        """Of what never was nothing is said."""
        for number in range(self.made + 1, self.made + 20):
            assert self.outcomes.reason(f"key{number}") is None

    def teardown(self) -> None:
        """All of it is dropped in the end."""
        for after in (0, CHUNK_AGE + 1, CHUNK_AGE + KEPT + 3):
            self.outcomes.turn(self.now + after)
        assert not self.outcomes.bytes


test_remembering = Remembering.TestCase
test_remembering.settings = settings(
    max_examples=settings().max_examples // 3, stateful_step_count=20
)


def test_thousands_a_second_take_little() -> None:
    """12 bytes each, whole chunks are dropped, and of what was not there nothing is said."""
    outcomes = Outcomes()
    for second in range(100):
        for number in range(2_000):
            outcomes.note(f"{second}-{number}", Reason.DELIVERED)
        outcomes.turn(float(second))
    assert outcomes.bytes < 2_000 * 100 * 12 + 8 * LARGEST
    assert all(outcomes.reason(f"0-{number}") is Reason.DELIVERED for number in range(2_000))
    assert not any(outcomes.reason(f"never-{number}") for number in range(50_000))
    outcomes.turn(40 + KEPT)
    assert outcomes.reason("0-0") is None
    assert outcomes.reason("99-0") is Reason.DELIVERED


def test_a_few_take_next_to_nothing() -> None:
    """Where little happens, also after much did, chunks are small; where nothing does, none."""
    outcomes = Outcomes()
    for number in range(100_000):
        outcomes.note(f"{number}", Reason.DELIVERED)
    for second in range(1, 3 * int(KEPT)):
        outcomes.note(f"slow {second}", Reason.DELIVERED)
        outcomes.turn(float(second))
    assert outcomes.bytes <= 8 * SMALLEST * (KEPT / CHUNK_AGE + 2)


def test_the_mark_of_a_leader_is_no_schedule() -> None:
    """It is not remembered."""
    outcomes = Outcomes()
    outcomes.note("=_barrier", Reason.BARRIER)
    assert outcomes.reason("=_barrier") is None
