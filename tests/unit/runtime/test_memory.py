"""Memory that a burst took is given back."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

from gozo.runtime.memory import (
    FEW,
    INTERVAL,
    SMALL,
    SPARSE,
    TRIM_DEADLINE,
    TRIM_INTERVAL,
    Memory,
    is_sparse,
    rebuild,
)
from gozo.schedule.timetable import Timetable

BURST = """
import resource
from gozo.runtime.memory import Memory
from gozo.schedule.model import Reason
from gozo.schedule.timetable import Timetable

COUNT = 200_000

def megabytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 1e6

timetable = Timetable()
for number in range(1_000):
    timetable.put(f"pending {number}", 10**15 + number, number + 1)
before = megabytes()
for number in range(COUNT):
    timetable.put(f"order {number:08}", 10**9 + number, 10_000 + number)
for number in range(COUNT):
    timetable.remove(f"order {number:08}", 10**7 + number, number, Reason.DELIVERED)
most = megabytes()
while timetable.forget_ended(1 << 20, 100) or timetable.drop_outdated(100):
    pass
Memory([timetable]).give_back(1e6, quiet=True)
print(most - before, megabytes() - before, timetable.departures.bytes / 1e6)
"""


class Part:
    """Has containers of both kinds."""

    def __init__(self, left: int) -> None:
        self.numbers = {number: str(number) for number in range(20 * left)}
        self.seen = set(range(20 * left))
        for number in range(19 * left):
            del self.numbers[number]
            self.seen.remove(number)


class Holder:
    """Has a part."""

    def __init__(self, timetable: Timetable) -> None:
        self.timetable = timetable


def test_sparse_containers_are_rebuilt_in_place() -> None:
    """They stay the same objects, with the same in them, in the same order."""
    part = Part(1_000)
    numbers = part.numbers
    held = list(numbers.items())
    for container in (part.numbers, part.seen):
        assert is_sparse(container)
        rebuild(container)
        assert not is_sparse(container)
    assert part.numbers is numbers
    assert list(numbers.items()) == held
    assert part.seen == set(range(19_000, 20_000))


def test_looking_makes_nothing_slower() -> None:
    """A part whose containers were looked at has no dictionary of its own for its attributes.

    With one, CPython 3.11 looks up each method that is called on it.
    """
    part = Part(1)
    Memory([part], lambda: None).give_back(1e6, quiet=True)
    assert not any(isinstance(one, dict) and "seen" in one for one in gc.get_referents(part))


def test_parts_of_parts_are_found() -> None:
    """A container is found wherever it is moved to, below what was given, and each once."""
    timetable = Timetable()
    rows = 40 * SMALL // SPARSE
    for number in range(rows):
        timetable.put(f"order {number}", 10**9 + number, number + 1)
    for number in range(rows):
        timetable.forget(f"order {number}")
    holder = Holder(timetable)
    sparse = [one for one in Memory([holder])._containers() if is_sparse(one)]
    assert sparse
    Memory([holder, timetable], lambda: None).give_back(1e6, quiet=True)
    assert not any(map(is_sparse, sparse))


@pytest.mark.parametrize("quiet", [True, False])
def test_when_memory_is_given_back(quiet: bool) -> None:
    """In quiet moments, now and then; after a burst soon, what is little to copy at once."""
    many, few, trimmed = Part(FEW + 1), Part(FEW // 10), []
    memory = Memory([many, few], lambda: trimmed.append(True))
    memory.give_back(TRIM_DEADLINE + 1, quiet=quiet)
    assert is_sparse(many.numbers) is not quiet
    assert not is_sparse(few.seen)
    assert len(trimmed) == 1
    few.numbers = Part(FEW // 10).numbers
    memory.give_back(TRIM_DEADLINE + INTERVAL, quiet=True)
    assert is_sparse(few.numbers), "it was looked at a moment ago"
    memory.give_back(TRIM_DEADLINE + INTERVAL + 1, quiet=quiet)
    assert not is_sparse(few.numbers)
    assert len(trimmed) == 1
    memory.give_back(TRIM_DEADLINE + TRIM_INTERVAL + 1, quiet=quiet)
    assert len(trimmed) == 1 + quiet
    memory.give_back(2 * TRIM_DEADLINE + TRIM_INTERVAL + 1, quiet=quiet)
    assert len(trimmed) == 2 + quiet


def test_what_was_freed_is_given_back_under_steady_load() -> None:
    """No moment is quiet and no container sparse: others are allocated all the time."""
    trimmed: list[float] = []
    memory = Memory([Part(0)], lambda: trimmed.append(at))
    for second in range(100, 1_000):
        at = float(second)
        memory.give_back(at, quiet=False)
    assert len(trimmed) == 900 // TRIM_DEADLINE


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_after_a_burst_most_is_given_back() -> None:
    """All but a tenth of what 200,000 took, and the table of what became of them."""
    done = subprocess.run(
        [sys.executable, "-c", BURST], capture_output=True, text=True, timeout=60, check=True
    )
    took, kept, table = map(float, done.stdout.split())
    assert took > 50
    assert kept - table < took / 10
