"""Changes of one run are made one after the other; what is received meanwhile waits."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from gozo.delivery.run_changes import RunChanges
from gozo.schedule.model import Entry, Reason
from gozo.store.changes import OnResult, Result
from gozo.store.run_store import RunStore

ENTRY = Entry("a", "to", "1", 1, 1)


class Store(RunStore):
    """Keeps changes until the test says how they ended."""

    def __init__(self) -> None:
        self.ends: list[Callable[[Result], None]] = []

    def alter(self, key: str, change: Callable[[Entry], Entry], on_result: OnResult) -> None:
        """Accept a change."""

        def end(result: Result) -> None:
            change(ENTRY)
            on_result(result, "")

        self.ends.append(end)

    def remove(self, key: str, reason: Reason, on_result: OnResult) -> None:
        """Accept a removal."""
        self.ends.append(lambda result: on_result(result, ""))


def change(changes: RunChanges, did: list[str], name: str) -> None:
    """Begin a change, and record how it ended."""
    changes.change(
        "a",
        lambda entry: entry,
        lambda entry: did.append(name),
        lambda: did.append(f"not {name}"),
    )


def test_one_after_the_other() -> None:
    """Of two changes that wait, the second begins only once the first is stored."""
    store, did = Store(), list[str]()
    changes = RunChanges(store)
    change(changes, did, "first")
    for name in ("second", "third"):
        changes.after("a", partial(change, changes, did, name))
    assert (len(changes), "a" in changes, changes.waiting("a")) == (1, True, 2)
    for number, names in enumerate([["first"], ["first", "second"], ["first", "second", "third"]]):
        assert len(store.ends) == number + 1
        store.ends[number](Result.STORED)
        assert did == names
    assert (len(changes), "a" in changes, changes.waiting("a")) == (0, False, 0)


def test_at_once() -> None:
    """No change waits for one of another run, or for one that is done."""
    store, did = Store(), list[str]()
    changes = RunChanges(store)
    change(changes, did, "first")
    changes.after("b", lambda: did.append("other"))
    store.ends[0](Result.REPLACED)
    changes.after("a", lambda: did.append("later"))
    assert did == ["other", "first", "later"]


def test_what_is_not_stored() -> None:
    """A failed change is reported as such, and the next one begins."""
    store, did = Store(), list[str]()
    changes = RunChanges(store)
    change(changes, did, "change")
    changes.after("a", lambda: did.append("waited"))
    store.ends[0](Result.SUPERSEDED)
    removed, kept = partial(did.append, "removed"), partial(did.append, "kept")
    for result in (Result.SETTLED, Result.SUPERSEDED):
        changes.remove("a", Reason.DELIVERED, removed, kept)
        store.ends[-1](result)
    assert did == ["not change", "waited", "removed", "kept"]


def test_what_is_forgotten() -> None:
    """A leader that steps down finishes its change, and begins none of those that wait."""
    store, did = Store(), list[str]()
    changes = RunChanges(store)
    change(changes, did, "change")
    changes.after("a", lambda: did.append("waited"))
    changes.clear()
    assert "a" in changes
    store.ends[0](Result.STORED)
    assert did == ["change"]


def test_what_lasts() -> None:
    """The end of a run whose schedule was changed is stored even after a step-down."""
    store, did = Store(), list[str]()
    changes = RunChanges(store)
    change(changes, did, "first")
    changes.after("a", partial(change, changes, did, "heard"))
    changes.after("a", partial(change, changes, did, "end"), lasts=True)
    changes.after("a", lambda: did.append("answer"), lasts=True)
    changes.clear()
    store.ends[0](Result.STORED)
    assert did == ["first"]
    changes.clear()
    store.ends[1](Result.SUPERSEDED)
    assert did == ["first", "not end", "answer"]
    assert len(changes) == 0
