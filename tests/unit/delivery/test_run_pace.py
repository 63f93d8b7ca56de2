"""Retries are made a few at a time, so that other work gets its turn."""

from __future__ import annotations

import asyncio
from typing import cast

from gozo.delivery.run_pace import AT_ONCE, RunPace
from gozo.delivery.source import Due, Source
from gozo.schedule.model import Outgoing
from gozo.schedule.timetable import Item

MESSAGE = Outgoing(b"to", b"", b"", 1)


class Runs:
    """The source of runs; `gone` and `unread` are those that are not current or not in memory."""

    def __init__(self) -> None:
        self.tried: list[int] = []
        self.back: list[int] = []
        self.gone: set[int] = set()
        self.unread: set[int] = set()
        self.leads = True
        self.pace = RunPace(self.attempt, lambda: self.leads)

    def add(self, *numbers: int) -> None:
        """Make runs due."""
        for number in numbers:
            due: Due = Item(1, number, f"{number}"), cast("Source", self)
            self.pace.add(due)

    def attempt(self, due: Due, message: Outgoing) -> None:
        """Count the attempts."""
        assert message is MESSAGE
        self.tried.append(due[0].revision)

    def message(self, item: Item) -> Outgoing | None:
        """Return the message, if it is in memory."""
        return None if item.revision in self.unread else MESSAGE

    def is_current(self, item: Item) -> bool:
        """Tell whether the run is unchanged."""
        return item.revision not in self.gone

    def give_back(self, item: Item) -> None:
        """Count the runs given back."""
        self.back.append(item.revision)

    def let_go(self, item: Item) -> None:
        """Do nothing."""


async def test_a_few_at_a_time() -> None:
    """Attempts are made in order, and other work is done between them."""
    runs = Runs()
    runs.add(*range(5 * AT_ONCE))
    seen = []
    while len(runs.tried) < 5 * AT_ONCE:
        seen.append(len(runs.tried))
        await asyncio.sleep(0)
    assert seen == [count * AT_ONCE for count in range(5)]
    assert runs.tried == list(range(5 * AT_ONCE))
    runs.add(7)
    await asyncio.sleep(0)
    assert runs.tried[-1] == 7


async def test_what_is_not_tried() -> None:
    """Runs that were changed meanwhile, or whose messages are not in memory, are not attempted."""
    runs = Runs()
    runs.add(1, 2, 3)
    runs.gone, runs.unread = {1}, {1, 2}
    await asyncio.sleep(0)
    assert (runs.tried, runs.back) == ([3], [2])


async def test_a_replica_that_leads_no_more() -> None:
    """All are given back, whether it notices by itself or is stopped."""
    runs = Runs()
    runs.add(1, 2)
    runs.leads = False
    await asyncio.sleep(0)
    assert (runs.tried, runs.back) == ([], [1, 2])
    runs.add(3)
    runs.pace.clear()
    assert runs.back == [1, 2, 3]
    await asyncio.sleep(0)
    assert runs.back == [1, 2, 3]
