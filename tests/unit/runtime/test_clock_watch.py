"""Whether this host's clock may be gone by, with clocks that a test sets."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gozo.runtime.clock_watch import ALONE_US, WRONG_US, ClockKeeper, ClockWatch

SECOND = 1_000_000
HOUR = 3_600 * SECOND
START_US = 1_795_593_600 * SECOND


class Clocks:
    """A host's clocks, and the server's, and a watch over them."""

    def __init__(self, ahead_us: int = 0) -> None:
        self.steady = 50 * SECOND
        self.ahead_us = ahead_us
        """How far the host's wall clock is ahead of the true time."""
        self.server_ahead_us = 0
        self.wanted = 0
        """How often a comparison was wanted."""
        self.set_by: list[int] = []
        self.watch = ClockWatch(self._want, wall_ns=self.wall_ns, steady_ns=self.now_ns)
        self.watch.on_set.append(self.set_by.append)
        self.compare()

    def now_ns(self) -> int:
        """The steady clock."""
        return self.steady * 1_000

    def wall_ns(self) -> int:
        """The host's wall clock."""
        return self.wall() * 1_000

    def true(self) -> int:
        """What time it is."""
        return START_US + self.steady

    def wall(self) -> int:
        """The same in microseconds."""
        return self.true() + self.ahead_us

    def compare(self, error_us: int = 0) -> None:
        """Compare the clocks."""
        self.watch.compared(START_US + self.server_ahead_us, error_us)

    def _want(self) -> None:
        self.wanted += 1


def test_a_clock_that_is_right() -> None:
    """It is gone by, and steps that leave it right are followed at once."""
    clocks = Clocks()
    assert clocks.watch.now_us() == clocks.wall()
    for ahead_us in (SECOND, -SECOND, WRONG_US):
        clocks.ahead_us = ahead_us
        assert clocks.watch.now_us() == clocks.watch.reading_us() == clocks.wall()
        assert clocks.watch.is_right
    assert clocks.set_by == [SECOND, -2 * SECOND, 3 * SECOND]
    assert clocks.watch.server_us() == clocks.true()
    assert not clocks.watch.in_doubt
    assert not clocks.wanted


@pytest.mark.parametrize("ahead_us", [HOUR, -24 * HOUR, WRONG_US + 1, -WRONG_US - 1])
def test_a_clock_that_is_set_wrong(ahead_us: int) -> None:
    """From the first look on time goes on as before, and a comparison is wanted, once it helps."""
    clocks = Clocks()
    clocks.ahead_us = ahead_us
    clocks.steady += SECOND
    assert clocks.watch.now_us() == clocks.watch.reading_us() == clocks.true()
    assert clocks.watch.in_doubt
    assert not clocks.watch.is_wrong
    assert not clocks.watch.may_lead(held=False)
    wanted = clocks.wanted
    assert wanted
    clocks.compare(error_us=SECOND)
    assert not clocks.watch.is_wrong, "an answer that took long tells nothing"
    clocks.compare()
    wanted = clocks.wanted
    assert clocks.watch.is_wrong
    assert clocks.watch.now_us() == clocks.true()
    assert clocks.wanted == wanted
    clocks.ahead_us = 0
    assert clocks.watch.now_us() == clocks.wall()
    assert not clocks.watch.in_doubt
    assert clocks.set_by == []


def test_the_servers_clock_was_set_as_well() -> None:
    """Where it agrees, the new time counts; where it alone was set, nothing is in doubt."""
    clocks = Clocks()
    clocks.ahead_us = clocks.server_ahead_us = HOUR
    clocks.watch.now_us()
    assert clocks.watch.in_doubt
    clocks.compare()
    assert not clocks.watch.in_doubt
    assert clocks.watch.now_us() == clocks.wall()
    assert clocks.set_by == [HOUR]
    clocks.server_ahead_us = 0
    clocks.compare()
    assert not clocks.watch.in_doubt
    assert not clocks.watch.is_right
    assert not clocks.watch.may_lead(held=False)
    clocks.ahead_us = -HOUR
    assert clocks.watch.now_us() == clocks.true() + HOUR
    assert clocks.watch.in_doubt


def test_suspended() -> None:
    """The steady clock counts the time for which the host slept."""
    clocks = Clocks()
    clocks.steady += 8 * HOUR
    assert clocks.watch.now_us() == clocks.wall()
    assert not clocks.watch.in_doubt


def test_alone() -> None:
    """Who gave way leads again by its clock once nobody else has led for some time."""
    clocks = Clocks()
    watch = clocks.watch
    clocks.ahead_us = HOUR
    clocks.compare()
    assert watch.is_wrong
    watch.lease_lost()
    assert watch.waits
    clocks.steady += ALONE_US - 1
    assert not watch.may_lead(held=False)
    clocks.steady += 1
    assert watch.may_lead(held=False)
    assert not watch.in_doubt
    assert watch.now_us() == clocks.wall()
    assert clocks.set_by == [HOUR]
    clocks.compare()
    assert not watch.in_doubt
    clocks.ahead_us = 2 * HOUR
    watch.now_us()
    assert watch.in_doubt
    clocks.ahead_us = 0
    assert watch.now_us() == clocks.wall()
    clocks.compare()
    assert not watch.waits
    assert watch.may_lead(held=False)


def test_not_alone() -> None:
    """Once another has led, who gave way leads no more before its clock is right."""
    clocks = Clocks()
    clocks.ahead_us = HOUR
    clocks.compare()
    clocks.watch.lease_lost()
    assert not clocks.watch.may_lead(held=True)
    clocks.steady += 2 * ALONE_US
    assert not clocks.watch.may_lead(held=False)
    clocks.ahead_us = 0
    clocks.compare()
    assert clocks.watch.may_lead(held=False)


def test_wrong_from_the_start() -> None:
    """It does not lead, however long nobody does; set right, it does."""
    clocks = Clocks(ahead_us=HOUR)
    clocks.steady += 2 * ALONE_US
    assert not clocks.watch.may_lead(held=False)
    clocks.ahead_us = 0
    assert not clocks.watch.may_lead(held=False), "it was not compared yet"
    clocks.compare()
    assert clocks.watch.may_lead(held=False)


@pytest.mark.parametrize(("ahead_us", "side"), [(HOUR, "ahead of"), (-HOUR, "behind")])
async def test_a_leader_gives_a_reason(ahead_us: int, side: str) -> None:
    """It names the distance from the server's clock, never with a minus sign."""
    clocks, doubted = Clocks(), asyncio.Event()
    clocks.ahead_us = ahead_us
    reasons: list[str] = []

    async def compare() -> None:
        clocks.watch.now_us()
        clocks.compare()

    async def leave(reason: str) -> None:
        reasons.append(reason)
        raise asyncio.CancelledError

    keeper = ClockKeeper(clocks.watch, doubted, compare=compare, leads=lambda: True, leave=leave)
    doubted.set()
    with suppress(asyncio.CancelledError):
        await keeper.run()
    assert reasons == [f"the clock was set 3600.0 s {side} the server's"]


@given(
    steps=st.lists(
        st.tuples(
            st.integers(-3 * SECOND, 3 * SECOND) | st.sampled_from([HOUR, -24 * HOUR]),
            st.integers(0, 3 * SECOND),
            st.booleans(),
        ),
        max_size=20,
    )
)
def test_time_never_leaves_the_servers(steps: list[tuple[int, int, bool]]) -> None:
    """Whatever becomes of the host's clock, what is gone by is never further off than may be."""
    clocks = Clocks()
    for ahead_us, passed_us, compares in steps:
        clocks.ahead_us = ahead_us
        clocks.steady += passed_us
        if compares:
            clocks.compare()
        assert abs(clocks.watch.now_us() - clocks.true()) <= WRONG_US
        assert clocks.watch.in_doubt == (abs(ahead_us) > WRONG_US)
