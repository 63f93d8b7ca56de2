"""The account of the fault suite: what it counts, and which faults explain what came twice."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.account import (
    AFTER,
    BEFORE,
    Account,
    Expected,
    Fault,
    Faults,
    reckon,
    reckon_identical,
)

NOW = 1_800_000_000.0


def faults(*all_: Fault) -> Faults:
    """Return a run's faults."""
    found = Faults()
    found.all += all_
    return found


def crash(after: float = 0.0) -> Fault:
    """Return a crash, so many seconds from NOW."""
    return Fault("SIGKILL", NOW + after, NOW + after)


def one(arrivals: list[float], *all_: Fault, counts: bool = True, request: bool = False) -> Account:
    """Account for one message that is due NOW and arrives so many seconds after that."""
    expected = {1: Expected(NOW, NOW - 2, counts, request)}
    return reckon(expected, [(1, NOW + after) for after in arrivals], faults(*all_))


def test_on_time() -> None:
    """What arrives once, at or after its time, is sound."""
    account = one([0.25])
    assert account.is_sound
    assert (account.created, account.delivered, account.latest) == (1, 1, 0.25)


@pytest.mark.parametrize(
    ("arrivals", "kind"), [([], "lost"), ([-0.1], "early"), ([0.1, 0.2], "twice")]
)
def test_what_must_not_be(arrivals: list[float], kind: str) -> None:
    """Without a fault, each of them is found, with its number."""
    account = one(arrivals)
    assert not account.is_sound
    assert [(found.kind, found.what) for found in account.findings] == [(kind, "1")]


@pytest.mark.parametrize(
    ("crashes", "unexplained"),
    [
        ([0.0], 0),
        ([BEFORE + 0.05], 0),  # the first arrival is near enough
        ([-AFTER], 0),
        ([BEFORE + 0.15], 1),
        ([-AFTER - 0.1], 1),
        ([9.0], 1),  # when the second arrives does not matter
        ([], 1),
    ],
)
def test_twice_near_a_crash(crashes: list[float], unexplained: int) -> None:
    """What comes twice is explained by a crash near its due time or its first arrival."""
    account = one([0.1, 9.0], *map(crash, crashes))
    assert (account.twice, account.unexplained) == (1, unexplained)


def test_one_crash_repeats_once() -> None:
    """A third arrival wants a second fault, near the second arrival for instance."""
    assert one([0.1, 2.0, 5.0], crash()).unexplained == 1
    assert one([0.1, 2.0, 5.0], crash(), crash(2.0)).unexplained == 0


def test_taken_by_two() -> None:
    """What was requested while two led may come twice, whenever it is due; nothing else may."""
    two = Fault("lease key deleted", NOW - 2.5, NOW - 2.5, two_lead=True)
    assert one([0.1, 0.1], two, request=True).unexplained == 0
    assert one([0.1, 0.1, 0.1], two, request=True).unexplained == 1
    assert one([0.1, 0.1], two).unexplained == 1
    assert one([0.1, 0.1], replace(two, two_lead=False), request=True).unexplained == 1
    expected = [Expected(NOW, NOW - sent, is_request=True) for sent in (2, 5)]
    assert reckon_identical("same", expected, [NOW + 1] * 3, faults(two)).unexplained == 0
    assert reckon_identical("same", expected, [NOW + 1] * 4, faults(two)).unexplained == 1


def test_stored_under_two_keys() -> None:
    """What was being stored without an id when the leader crashed may come twice, however late."""
    requested = Expected(NOW, NOW - 5, is_request=True, has_own_key=True)
    came = [(1, NOW + 0.1), (1, NOW + 0.1)]
    crashed = faults(crash(-5.2))
    assert reckon({1: requested}, came, crashed).unexplained == 0
    assert reckon({1: requested}, came, faults(crash(-9.0))).unexplained == 1
    with_id = replace(requested, has_own_key=False)
    assert reckon({1: with_id}, came, crashed).unexplained == 1


def test_again_and_again() -> None:
    """What happens many times repeats a message as often, while it goes on."""
    cut = Fault("cut", NOW, NOW + 3, again=True)
    assert one([0.1, 1.0, 2.0, 3.0], cut).unexplained == 0
    assert one([0.1, 1.0, 2.0, 3.0], Fault("cut", NOW, NOW + 3)).unexplained == 2
    assert one([0.1, 1.0], Fault("cut", NOW - 9, NOW - 5, again=True)).unexplained == 1


def test_unsettled_until_the_crash() -> None:
    """What was sent in an election is repeated by a crash in it, but not by the election."""
    election = Fault("step-down", NOW, NOW + 5, repeats=False)
    assert one([0.1, 9.0], election).unexplained == 1
    assert one([0.1, 9.0], election, crash(5.0)).unexplained == 0


@given(spans=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5), st.booleans())))
def test_repeating_begins_with_the_first_that_matters(
    spans: list[tuple[int, int, bool]],
) -> None:
    """A repeating fault begins with the first fault that covers its beginning."""
    found = faults(*(Fault("x", NOW + at, NOW + at + long, repeat) for at, long, repeat in spans))
    assert [(fault.begin, fault.end) for fault in found.repeating()] == [
        (min(other.begin for other in found.all if other.covers(fault.begin)), fault.end)
        for fault in found.all
        if fault.repeats
    ]


def test_repeating_of_many_is_quick() -> None:
    """It is called for each group of a load, in runs with thousands of faults."""
    found = faults(*(crash(5.0 * number) for number in range(10_000)))
    began = time.process_time()
    assert len(found.repeating()) == 10_000
    assert time.process_time() - began < 3  # comparing each with each takes 20


def test_unheard() -> None:
    """Only a request may go unheard, and only while the leader's connection is broken."""
    broken = Fault("cut", NOW - 2.5, NOW - 1.5, deaf=True)
    assert one([], broken, request=True).unheard == 1
    assert one([], broken, request=True).lost == 0
    assert one([], broken).lost == 1
    assert one([], crash(), request=True).lost == 1
    assert one([], counts=False, request=True).lost == 0


def test_revived() -> None:
    """What was cancelled must not arrive."""
    assert reckon({}, [(1, NOW)], faults(), {1, 2}).revived == 1


def identical(arrivals: list[float], *all_: Fault, deaf: int = 0) -> Account:
    """Account for three identical messages, due one second after the other from NOW on."""
    expected = [Expected(NOW + number, NOW - 2, number >= deaf) for number in range(3)]
    return reckon_identical("all", expected, [NOW + after for after in arrivals], faults(*all_))


def test_identical() -> None:
    """They are counted: one missing is lost, one too many came twice, or early."""
    assert identical([0.1, 1.1, 2.1]).is_sound
    assert identical([0.1, 2.1]).lost == 1
    assert identical([0.1, 2.1], deaf=1).lost == 0
    assert identical([0.1, 0.2, 1.1, 2.1]).unexplained == 1
    assert identical([0.1, 0.2, 1.1, 2.1], crash()).unexplained == 0
    assert identical([0.1, 0.2, 0.3, 1.1, 2.1], crash(-0.95)).unexplained == 1
    early = identical([0.1, 0.9, 2.1])
    assert (early.lost, early.twice) == (1, 1)
