"""When schedules become overdue: against a plain list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gozo.schedule.model import NEVER, Confirm, Confirmation, Entry, State
from gozo.schedule.record import announced, overdue_us
from gozo.store.expectations import AGAIN_US, Expectations

KEYS = st.sampled_from(["a", "b", "c"])


def entry(due_us: int, state: State = State.PENDING) -> Entry:
    """Return a schedule that is overdue a microsecond after its due time."""
    how = Confirmation(Confirm.REPLY, expect_us=1)
    return Entry("a", "jobs", "@daily", due_us, 0, state=state, confirmation=how)


ENTRIES = st.one_of(
    st.none(),
    st.builds(entry, st.integers(1, 50), st.sampled_from([State.PENDING, State.PAUSED])),
    st.integers(1, 50).map(lambda due_us: announced(entry(due_us))),
    st.just(Entry("a", "jobs", "@daily", 1, 0)),
)


@given(st.lists(st.tuples(KEYS, ENTRIES)), st.integers(0, 60))
def test_the_latest_versions_count(noted: list[tuple[str, Entry | None]], now_us: int) -> None:
    """Whatever came before; those announced, paused or gone are not overdue."""
    expectations, latest = Expectations(), dict[str, Entry | None]()
    for key, version in noted:
        expectations.note(key, version)
        latest[key] = version
    late = {
        key
        for key, version in latest.items()
        if version is not None
        and (version.record is None or not version.record.overdue)
        and overdue_us(version) <= now_us
    }
    assert set(expectations.late(now_us, 10)) == late
    assert expectations.late(now_us, 10) == [], "not again at once"
    assert set(expectations.late(now_us + AGAIN_US, 10)) >= late, "but later"


def test_few_at_a_time() -> None:
    """The rest with the next look."""
    expectations = Expectations()
    for number in range(5):
        expectations.note(f"{number}", entry(number + 1))
    found = [expectations.late(10, 2) for _ in range(4)]
    assert found == [["0", "1"], ["2", "3"], ["4"], []]


def test_outdated_times_are_dropped() -> None:
    """A schedule that succeeds often takes no more room for it."""
    expectations = Expectations()
    for due_us in range(1, 10_000):
        expectations.note("a", entry(due_us))
    assert len(expectations._heap) < 2_000
    assert expectations.late(NEVER - 1, 10) == ["a"]
    expectations.note("a", None)
    assert len(expectations) == 0
