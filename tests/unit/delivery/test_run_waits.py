"""Only time in which a receiver could be heard counts as silence, and it is reported once."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gozo.delivery.run_waits import GAP, RunWaits

TICK = 0.25  # seconds between two looks
KEYS = st.sampled_from(["a", "b", "c"])
ALL = 100


def looks(waits: RunWaits, since: float, until: float, *, renewed: bool = True) -> list[str]:
    """Check four times a second, and return all runs that were late."""
    late, now = [], since
    while now <= until:
        late += waits.late(now, now if renewed else since, ALL)
        now += TICK
    return late


def ready() -> RunWaits:
    """Return waits that begin to hear at 0."""
    waits = RunWaits()
    waits.begin_hearing(0)
    return waits


def test_silence() -> None:
    """A run is late once its receiver has been silent for its ack wait."""
    waits = ready()
    waits.note("a", 2, 0)
    assert looks(waits, 0, 1.75) == []
    assert looks(waits, 2, 10) == ["a"]
    assert "a" not in waits


def test_signs_of_life() -> None:
    """Each one restarts the wait."""
    waits = ready()
    for second in range(10):
        waits.note("a", 2, second)
        assert looks(waits, second, second + 0.75) == []
    assert looks(waits, 10, 10.75) == []
    assert looks(waits, 11, 11) == ["a"]


def test_another_wait() -> None:
    """A shorter wait ends sooner than the one before, a longer one later."""
    waits = ready()
    waits.note("a", 10, 0)
    waits.note("a", 1, 0)
    waits.note("b", 1, 0)
    waits.note("b", 3, 0)
    assert looks(waits, 0, 1) == ["a"]
    assert looks(waits, 1.25, 2.75) == []
    assert looks(waits, 3, 3) == ["b"]


def test_an_end() -> None:
    """A run that is over is never late, unless it is waited for again."""
    waits = ready()
    waits.note("a", 1, 0)
    waits.end("a")
    waits.end("a")
    assert looks(waits, 0, 3) == []
    waits.note("a", 1, 3)
    assert looks(waits, 3.25, 10) == ["a"]
    waits.note("a", 1, 10)
    waits.clear()
    assert looks(waits, 10, 20) == []


def test_a_gap() -> None:
    """Time in which nothing could be heard is no silence: a new link, or a busy daemon."""
    waits = ready()
    waits.note("a", 2, 0)
    assert looks(waits, 0, 1.5) == []
    assert waits.late(1.5 + GAP + 1, 10, ALL) == []
    since = 1.5 + GAP + 1
    assert looks(waits, since, since + 1.75) == []
    waits.begin_hearing(since + 1.75)
    assert looks(waits, since + 1.75, since + 3.5) == []
    assert looks(waits, since + 3.75, since + 3.75) == ["a"]


def test_the_lease() -> None:
    """No run is late for a leader that has not renewed its lease since."""
    waits = ready()
    waits.note("a", 1, 0)
    assert looks(waits, 0, 5, renewed=False) == []
    assert waits.late(5.25, 0.9, ALL) == []
    assert waits.late(5.5, 1, ALL) == ["a"]


def test_some_at_a_time() -> None:
    """The others are reported at the next checks, each once."""
    waits = ready()
    for number in range(7):
        waits.note(f"{number}", 1, 0)
    assert waits.late(0.9, 0.9, 3) == []
    found = [waits.late(1.5, 1.5, 3) for _ in range(4)]
    assert [len(some) for some in found] == [3, 3, 1, 0]
    assert len({key for some in found for key in some}) == 7


def test_many_attempts_take_no_more_room() -> None:
    """A run that was retried a thousand times takes no more room than any other."""
    waits = ready()
    for number in range(1_000):
        waits.note("a", 1_000, number / 100)
        waits.end("a")
    waits.note("a", 1_000, 10)
    assert len(waits._heap) <= 2


class Model(RuleBasedStateMachine):
    """Compares with a list that is looked through each time."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = ready()
        self.now = self.heard = 0.0
        self.signs: dict[str, tuple[float, float]] = {}

    @rule(key=KEYS, seconds=st.sampled_from([1.0, 1.5, 4.0]))
    def note(self, key: str, seconds: float) -> None:
        """A sign of life."""
        self.waits.note(key, seconds, self.now)
        self.signs[key] = self.now, seconds

    @rule(key=KEYS)
    def end(self, key: str) -> None:
        """It is over."""
        self.waits.end(key)
        self.signs.pop(key, None)

    @rule()
    def begin_hearing(self) -> None:
        """A new link."""
        self.waits.begin_hearing(self.now)
        self.heard = self.now

    @rule(ticks=st.integers(1, 30))
    def look(self, ticks: int) -> None:
        """Time goes by, and all is well."""
        for _ in range(ticks):
            self.now += TICK
            late = self.waits.late(self.now, self.now, ALL)
            expected = {
                key
                for key, (sign, seconds) in self.signs.items()
                if max(sign, self.heard) + seconds <= self.now
            }
            assert sorted(late) == sorted(expected)
            for key in late:
                del self.signs[key]

    @rule(gap=st.floats(GAP + 0.01, 10))
    @precondition(lambda self: self.now > 0)
    def freeze(self, gap: float) -> None:
        """The daemon does not run for a while: nothing is late at once."""
        self.now += gap
        assert self.waits.late(self.now, self.now, ALL) == []
        self.heard = self.now

    @invariant()
    def knows(self) -> None:
        """What is waited for is known."""
        assert {key for key in "abc" if key in self.waits} == set(self.signs)


TestModel = Model.TestCase
TestModel.settings = settings(deadline=None, max_examples=50, stateful_step_count=30)
