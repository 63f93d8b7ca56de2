"""What waits until there is room for another message without an acknowledgement."""

from __future__ import annotations

from gozo.delivery.parking import MOST_SILENT, Parking
from gozo.schedule.timetable import Item


def test_those_without_an_acknowledgement_wait_apart() -> None:
    """Also as occurrences from memory, until one is acknowledged."""
    parking = Parking()
    good, bad, again = Item(1, 1, "good"), Item(1, 2, "bad"), Item(2, 3, "\1bad")
    parking.note(bad, silent=True)
    for item in (bad, again, good):
        parking.add(item)

    assert parking.first(9, silent=False) == [good]
    assert parking.first(9, silent=True) == [bad, again]
    assert parking.take("bad") == bad
    assert parking.take("bad") is None
    assert parking.clear() == [good, again]
    assert len(parking) == 0
    parking.note(again, silent=False)
    assert not parking.is_silent(bad)


def test_what_had_been_there_before_is_first_again() -> None:
    """It was taken out to be sent, and there was no room after all."""
    parking = Parking()
    items = [Item(due_us, 1, str(due_us)) for due_us in (2, 3, 1)]
    for item in items:
        parking.add(item)
    assert parking.first(2, silent=False) == [items[2], items[0]]


def test_memory_is_bounded() -> None:
    """However many are never acknowledged."""
    parking = Parking()
    for number in range(MOST_SILENT + 1):
        parking.note(Item(1, 1, str(number)), silent=True)
    assert not parking.is_silent(Item(1, 1, "0"))
    assert parking.is_silent(Item(1, 1, str(MOST_SILENT)))
