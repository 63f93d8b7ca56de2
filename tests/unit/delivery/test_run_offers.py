"""Offers are repeated by the steady clock, however the wall clock is set."""

from __future__ import annotations

import pytest

from gozo.delivery import run_offers
from gozo.delivery.run_offers import RunOffers
from gozo.schedule.timetable import Timetable

NOW_US, HOUR_US = 1_795_000_000_000_000, 3_600_000_000
KEY = "=_run.a.1"


class World:
    """One offer, which was made at 100 s on the steady clock, and waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(run_offers, "steady", lambda: self.now)
        self.timetable = Timetable()
        self.offers = RunOffers(self.timetable)
        self.timetable.put(KEY, NOW_US, 1)
        (item,) = self.timetable.pop_due(NOW_US, 9)
        self.offers.note(KEY, "token")
        self.timetable.give_back(item._replace(due_us=NOW_US + self.offers.wait_us(KEY)))


@pytest.mark.parametrize("by_us", [-HOUR_US, HOUR_US])
def test_a_clock_that_is_set(monkeypatch: pytest.MonkeyPatch, by_us: int) -> None:
    """The offer is checked once more, and repeated neither early nor late."""
    world = World(monkeypatch)
    world.now += 0.5
    world.offers.look_again(NOW_US + by_us)
    (item,) = world.timetable.pop_due(NOW_US + by_us, 9)
    assert item.key == KEY
    assert world.offers.token(KEY) == "token"
    assert 1_500_000 <= world.offers.wait_us(KEY) <= 1_900_000
    world.now += 2
    assert -500_000 <= world.offers.wait_us(KEY) <= -100_000


def test_an_offer_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is neither repeated nor checked again."""
    world = World(monkeypatch)
    world.offers.end(KEY)
    assert world.offers.token(KEY) is None
    world.offers.look_again(NOW_US)
    assert world.timetable.pop_due(NOW_US, 9) == []


def test_a_replica_that_leads_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """It forgets its offers: the next leader makes its own."""
    world = World(monkeypatch)
    world.offers.clear()
    assert world.offers.token(KEY) is None
