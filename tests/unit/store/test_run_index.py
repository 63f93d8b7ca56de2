"""Which runs there are, and the schedule and the tokens of each."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from gozo.schedule.model import Confirm, Confirmation, Entry, Run, State
from gozo.store.run_index import RunIndex

STATES = [State.PENDING, State.RUNNING, State.RETRYING, State.FAILED]
KEYS = ["one", "two", "three", "four"]


def run(schedule: str = "a", state: State = State.RUNNING, tokens: tuple[str, ...] = ()) -> Entry:
    """Return a run of a schedule."""
    attempts = tuple(enumerate(tokens, start=1))
    return Entry(
        *("a", "to", "1", 1, 1),
        state=state,
        confirmation=Confirmation(Confirm.REPLY),
        run=Run(schedule, "64a1", tokens=attempts),
    )


def test_a_life() -> None:
    """A run is found by its key, schedule and tokens until it is removed."""
    index = RunIndex()
    assert (len(index), bool(index), index.get("one")) == (0, False, None)
    first = run(tokens=("x", "y"))
    index.note("one", first)
    assert [index.with_token(token) for token in "xyz"] == ["one", "one", None]
    assert index.of("a") == [("one", first)]
    assert ("one" in index, index.is_running("a"), index.is_unsettled("one")) == (True,) * 3
    failed = run(state=State.FAILED, tokens=("y",))
    index.note("one", failed)
    assert [index.with_token(token) for token in "xy"] == [None, "one"]
    assert (index.unsettled("a"), index.is_unsettled("one")) == ([], False)
    assert index.counts()[State.FAILED] == 1
    index.note("one", None)
    index.note("one", None)
    assert (len(index), index.of("a"), index.with_token("y")) == (0, [], None)


def test_what_is_no_run() -> None:
    """A schedule is not indexed, even if it replaces a run."""
    index = RunIndex()
    index.note("one", run(tokens=("x",)))
    index.note("one", run()._replace(run=None))
    assert ("one" in index, index.with_token("x"), list(index)) == (False, None, [])


NOTES = st.lists(
    st.tuples(
        st.sampled_from(KEYS),
        st.none()
        | st.builds(
            run,
            st.sampled_from(["a", "b"]),
            st.sampled_from(STATES),
            st.lists(st.sampled_from("uvwxyz"), unique=True, max_size=3).map(tuple),
        ),
    ),
    max_size=30,
)


@given(NOTES)
def test_any_order(notes: list[tuple[str, Entry | None]]) -> None:
    """The index agrees with a search through all runs."""
    index = RunIndex()
    latest: dict[str, Entry] = {}
    for key, noted in notes:
        entry = noted
        if noted is not None and noted.run is not None:
            # No two runs have the same token: each is random.
            mine = tuple((number, f"{key}{token}") for number, token in noted.run.tokens)
            entry = noted._replace(run=replace(noted.run, tokens=mine))
        index.note(key, entry)
        latest.pop(key, None)
        if entry is not None:
            latest[key] = entry
    assert dict(iter(index)) == latest
    assert index.keys() == latest.keys()
    owners = {
        token: key
        for key, entry in latest.items()
        if entry.run is not None
        for _, token in entry.run.tokens
    }
    every = [f"{key}{token}" for key in KEYS for token in "uvwxyz"]
    assert {token: index.with_token(token) for token in every} == {
        token: owners.get(token) for token in every
    }
    for schedule in ("a", "b", "c"):
        mine_now = {
            key: entry
            for key, entry in latest.items()
            if entry.run is not None and entry.run.key == schedule
        }
        assert dict(index.of(schedule)) == mine_now
        assert dict(index.unsettled(schedule)) == {
            key: entry for key, entry in mine_now.items() if entry.state is not State.FAILED
        }
        running = [entry for entry in mine_now.values() if entry.state is State.RUNNING]
        assert index.is_running(schedule) == bool(running)
    counts = {state: sum(one.state is state for one in latest.values()) for state in STATES}
    assert index.counts() == counts
