"""What is remembered of schedules that are gone: against a dictionary, and how much it takes."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gozo.schedule.departures import CHUNK_AGE, KEPT, LARGEST, SLOT, SMALLEST, Departures
from gozo.schedule.model import Reason

REASONS = [reason for reason in Reason if reason is not Reason.BARRIER]


class Remembering(RuleBasedStateMachine):
    """Ten minutes after it was noted, and not much later, a departure is forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.departures = Departures(smallest=8, largest=32)
        self.now = 0.0
        self.noted: dict[str, tuple[float, Reason]] = {}
        self.made = 0

    @rule(key=st.sampled_from("abcdef"), reason=st.sampled_from(REASONS))
    def note(self, key: str, reason: Reason) -> None:
        """One goes."""
        self.departures.note(key, reason)
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
        self.departures.turn(self.now)

    @invariant()
    def nothing_is_missed(self) -> None:
        """Nor mistaken, within the ten minutes."""
        for key, (at, reason) in self.noted.items():
            found = self.departures.reason(key)
            assert found is reason or (found is None and self.now - at > KEPT), key

    @invariant()
    def nothing_else_is_known(self) -> None:
        """Of what never was nothing is said."""
        for number in range(self.made + 1, self.made + 20):
            assert self.departures.reason(f"key{number}") is None

    def teardown(self) -> None:
        """All of it is dropped in the end."""
        for after in (0, CHUNK_AGE + 1, CHUNK_AGE + KEPT + 3):
            self.departures.turn(self.now + after)
        assert not self.departures.bytes


test_remembering = Remembering.TestCase
test_remembering.settings = settings(
    max_examples=settings().max_examples // 3, stateful_step_count=20
)


def test_thousands_a_second_take_little() -> None:
    """They take 9 bytes each, whole chunks are dropped, and unknown keys have no outcome."""
    departures = Departures()
    for second in range(100):
        for number in range(2_000):
            departures.note(f"{second}-{number}", Reason.DELIVERED)
        departures.turn(float(second))
    assert departures.bytes < 2_000 * 100 * 9 + SLOT * LARGEST
    assert all(departures.reason(f"0-{number}") is Reason.DELIVERED for number in range(2_000))
    assert not any(departures.reason(f"never-{number}") for number in range(50_000))
    departures.turn(40 + KEPT)
    assert departures.reason("0-0") is None
    assert departures.reason("99-0") is Reason.DELIVERED


def test_ten_minutes_of_a_steady_load_leave_no_room_unused() -> None:
    """A 64th of 2,000 a second, in chunks of a 64th: 10 bytes for each of the last ten minutes."""
    departures, rate, most = Departures(smallest=8, largest=LARGEST // 64), 2_000 // 64, 0
    for second in range(2 * int(KEPT)):
        for number in range(rate):
            departures.note(f"{second}-{number}", Reason.DELIVERED)
        departures.turn(float(second))
        most = max(most, departures.bytes)
    assert most < 10 * rate * KEPT


def test_a_few_take_next_to_nothing() -> None:
    """Where little happens, also after much did, chunks are small; where nothing does, none."""
    departures = Departures()
    for number in range(100_000):
        departures.note(f"{number}", Reason.DELIVERED)
    for second in range(1, 3 * int(KEPT)):
        departures.note(f"slow {second}", Reason.DELIVERED)
        departures.turn(float(second))
    assert departures.bytes <= SLOT * SMALLEST * (KEPT / CHUNK_AGE + 2)


def test_the_mark_of_a_leader_is_no_schedule() -> None:
    """It is not remembered."""
    departures = Departures()
    departures.note("=_barrier", Reason.BARRIER)
    assert departures.reason("=_barrier") is None


def test_a_chunk_is_filled_for_a_minute_and_dropped_ten_minutes_later() -> None:
    """Both times are measured from when it was first seen."""
    departures = Departures(smallest=8, largest=32)
    departures.note("a", Reason.CANCELLED)
    for now in (1_000.0, 1_000.0 + CHUNK_AGE - 1):
        departures.turn(now)
        departures.note("b", Reason.MISSED)
    assert departures.bytes == 8 * SLOT
    closed = 1_000.0 + CHUNK_AGE
    departures.turn(closed)
    departures.note("a", Reason.FAILED)
    assert departures.bytes == 2 * 8 * SLOT
    departures.turn(closed + KEPT)
    assert (departures.reason("a"), departures.reason("b")) == (Reason.FAILED, Reason.MISSED)
    departures.turn(closed + KEPT + 1)
    assert (departures.reason("a"), departures.reason("b")) == (Reason.FAILED, None)
    departures.clear()
    assert (departures.reason("a"), departures.bytes) == (None, 0)


def test_a_full_chunk_is_followed_by_a_larger_one() -> None:
    """The next is four times as large, up to the maximum; three quarters of the slots are used."""
    departures = Departures(smallest=8, largest=64)
    sizes = []
    for number in range(6 + 24 + 48 + 1):
        departures.note(f"{number}", Reason.DELIVERED)
        sizes.append(departures.bytes // SLOT)
    assert sizes == [8] * 6 + [8 + 32] * 24 + [8 + 32 + 64] * 48 + [8 + 32 + 2 * 64]
    departures.turn(0.0)
    departures.turn(KEPT)
    assert all(departures.reason(f"{number}") for number in range(79))
    departures.turn(KEPT + 1)
    assert departures.bytes // SLOT == 64, "those that were full had been closed at once"


def test_the_same_key_again_takes_no_more() -> None:
    """It reuses its slot."""
    departures = Departures(smallest=8, largest=8)
    for reason in (Reason.DELIVERED, Reason.CANCELLED) * 10:
        departures.note("a", reason)
        assert departures.reason("a") is reason
    assert departures.bytes == 8 * SLOT


def test_a_chunk_that_was_hardly_filled_is_followed_by_a_smaller_one() -> None:
    """The next is half as large, down to the minimum, if less than half was used."""
    departures = Departures(smallest=8, largest=64)
    now = 0.0
    for number in range(6 + 24 + 1):
        departures.note(f"{number}", Reason.DELIVERED)
    sizes = []
    for used in (23, 23, 1, 1, 1, 1):
        for number in range(used):
            departures.note(f"{now}-{number}", Reason.DELIVERED)
        sizes.append(departures.bytes // SLOT)
        for _ in range(2):
            departures.turn(now)
            now += CHUNK_AGE
    grown = [later - one for one, later in pairwise(sizes)]
    assert grown == [64, 32, 16, 8, 8]
