"""What is remembered of schedules that are gone: against a dictionary, and how much it takes."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gozo.schedule.model import Reason
from gozo.schedule.outcomes import CHUNK_AGE, KEPT, LARGEST, SLOT, SMALLEST, Outcomes

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
    """They take 9 bytes each, whole chunks are dropped, and unknown keys have no outcome."""
    outcomes = Outcomes()
    for second in range(100):
        for number in range(2_000):
            outcomes.note(f"{second}-{number}", Reason.DELIVERED)
        outcomes.turn(float(second))
    assert outcomes.bytes < 2_000 * 100 * 9 + SLOT * LARGEST
    assert all(outcomes.reason(f"0-{number}") is Reason.DELIVERED for number in range(2_000))
    assert not any(outcomes.reason(f"never-{number}") for number in range(50_000))
    outcomes.turn(40 + KEPT)
    assert outcomes.reason("0-0") is None
    assert outcomes.reason("99-0") is Reason.DELIVERED


def test_ten_minutes_of_a_steady_load_leave_no_room_unused() -> None:
    """A 64th of 2,000 a second, in chunks of a 64th: 10 bytes for each of the last ten minutes."""
    outcomes, rate, most = Outcomes(smallest=8, largest=LARGEST // 64), 2_000 // 64, 0
    for second in range(2 * int(KEPT)):
        for number in range(rate):
            outcomes.note(f"{second}-{number}", Reason.DELIVERED)
        outcomes.turn(float(second))
        most = max(most, outcomes.bytes)
    assert most < 10 * rate * KEPT


def test_a_few_take_next_to_nothing() -> None:
    """Where little happens, also after much did, chunks are small; where nothing does, none."""
    outcomes = Outcomes()
    for number in range(100_000):
        outcomes.note(f"{number}", Reason.DELIVERED)
    for second in range(1, 3 * int(KEPT)):
        outcomes.note(f"slow {second}", Reason.DELIVERED)
        outcomes.turn(float(second))
    assert outcomes.bytes <= SLOT * SMALLEST * (KEPT / CHUNK_AGE + 2)


def test_the_mark_of_a_leader_is_no_schedule() -> None:
    """It is not remembered."""
    outcomes = Outcomes()
    outcomes.note("=_barrier", Reason.BARRIER)
    assert outcomes.reason("=_barrier") is None


def test_a_chunk_is_filled_for_a_minute_and_dropped_ten_minutes_later() -> None:
    """Both times are measured from when it was first seen."""
    outcomes = Outcomes(smallest=8, largest=32)
    outcomes.note("a", Reason.CANCELLED)
    for now in (1_000.0, 1_000.0 + CHUNK_AGE - 1):
        outcomes.turn(now)
        outcomes.note("b", Reason.MISSED)
    assert outcomes.bytes == 8 * SLOT
    closed = 1_000.0 + CHUNK_AGE
    outcomes.turn(closed)
    outcomes.note("a", Reason.FAILED)
    assert outcomes.bytes == 2 * 8 * SLOT
    outcomes.turn(closed + KEPT)
    assert (outcomes.reason("a"), outcomes.reason("b")) == (Reason.FAILED, Reason.MISSED)
    outcomes.turn(closed + KEPT + 1)
    assert (outcomes.reason("a"), outcomes.reason("b")) == (Reason.FAILED, None)
    outcomes.clear()
    assert (outcomes.reason("a"), outcomes.bytes) == (None, 0)


def test_a_full_chunk_is_followed_by_a_larger_one() -> None:
    """The next is four times as large, up to the maximum; three quarters of the slots are used."""
    outcomes = Outcomes(smallest=8, largest=64)
    sizes = []
    for number in range(6 + 24 + 48 + 1):
        outcomes.note(f"{number}", Reason.DELIVERED)
        sizes.append(outcomes.bytes // SLOT)
    assert sizes == [8] * 6 + [8 + 32] * 24 + [8 + 32 + 64] * 48 + [8 + 32 + 2 * 64]
    outcomes.turn(0.0)
    outcomes.turn(KEPT)
    assert all(outcomes.reason(f"{number}") for number in range(79))
    outcomes.turn(KEPT + 1)
    assert outcomes.bytes // SLOT == 64, "those that were full had been closed at once"


def test_the_same_key_again_takes_no_more() -> None:
    """It reuses its slot."""
    outcomes = Outcomes(smallest=8, largest=8)
    for reason in (Reason.DELIVERED, Reason.CANCELLED) * 10:
        outcomes.note("a", reason)
        assert outcomes.reason("a") is reason
    assert outcomes.bytes == 8 * SLOT


def test_a_chunk_that_was_hardly_filled_is_followed_by_a_smaller_one() -> None:
    """The next is half as large, down to the minimum, if less than half was used."""
    outcomes = Outcomes(smallest=8, largest=64)
    now = 0.0
    for number in range(6 + 24 + 1):
        outcomes.note(f"{number}", Reason.DELIVERED)
    sizes = []
    for used in (23, 23, 1, 1, 1, 1):
        for number in range(used):
            outcomes.note(f"{now}-{number}", Reason.DELIVERED)
        sizes.append(outcomes.bytes // SLOT)
        for _ in range(2):
            outcomes.turn(now)
            now += CHUNK_AGE
    grown = [later - one for one, later in pairwise(sizes)]
    assert grown == [64, 32, 16, 8, 8]
