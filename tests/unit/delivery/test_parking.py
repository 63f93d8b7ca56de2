"""What waits until there is room for another message without an acknowledgement."""

from __future__ import annotations

from typing import cast

from gozo.delivery.parking import MOST_SILENT, Parking
from gozo.delivery.source import Due, Source
from gozo.schedule.timetable import Item

SOURCE = cast(Source, object())  # parking asks nothing of it


def due(due_us: int, revision: int, key: str) -> Due:
    """Something that is due."""
    return Item(due_us, revision, key), SOURCE


def test_those_without_an_acknowledgement_wait_apart() -> None:
    """Also later versions and occurrences of their schedules, until one is acknowledged."""
    parking = Parking()
    good, bad, other = due(1, 1, "good"), due(1, 2, "bad"), due(2, 3, "other")
    for one in (bad, other):
        parking.note(one[0], silent=True)
    for one in (bad, other, good):
        parking.add(one)

    assert parking.first(9, silent=False) == [good]
    assert parking.first(9, silent=True) == [bad, other]
    assert parking.take("bad") == bad
    assert parking.take("bad") is None
    assert parking.clear() == [good, other]
    assert len(parking) == 0
    again = Item(2, -4, "bad")
    assert parking.is_silent(again)
    parking.note(again, silent=False)
    assert not parking.is_silent(bad[0])


def test_what_had_been_there_before_is_first_again() -> None:
    """It was taken out to be sent, and there was no room after all."""
    parking = Parking()
    parked = [due(due_us, 1, str(due_us)) for due_us in (2, 3, 1)]
    for one in parked:
        parking.add(one)
    assert parking.first(2, silent=False) == [parked[2], parked[0]]


def test_memory_is_bounded() -> None:
    """However many are never acknowledged."""
    parking = Parking()
    for number in range(MOST_SILENT + 1):
        parking.note(Item(1, 1, str(number)), silent=True)
    assert not parking.is_silent(Item(1, 1, "0"))
    assert parking.is_silent(Item(1, 1, str(MOST_SILENT)))
