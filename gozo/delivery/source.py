"""What delivers needs of a place that schedules come from: the bucket, memory, recurring ones.

Whatever is due carries its source along, and the source knows what becomes of it.
"""

from __future__ import annotations

from typing import Protocol

from gozo.schedule.model import Outgoing
from gozo.schedule.timetable import Item


class Source(Protocol):
    """A place that schedules come from."""

    def next_due(self) -> int | None:
        """When the next schedule is due; None if none waits."""

    def pop_due(self, now_us: int, limit: int, /) -> list[Item]:
        """Take at most `limit` items that are due, soonest first."""

    def is_current(self, item: Item, /) -> bool:
        """Tell whether an item may still be sent: it was not changed or removed meanwhile."""

    def message(self, item: Item, /) -> Outgoing | None:
        """The message to send, if it is in memory."""

    def sending(self, item: Item, message: Outgoing, now_us: int) -> None:
        """A message that has a spec is about to be sent, or skipped."""

    def give_back(self, item: Item, due_us: int | None = None) -> None:
        """An item was not sent: let it wait again, until its own time or a later one."""

    def let_go(self, item: Item) -> None:
        """An item is not current, and is not sent."""

    def missed(self, item: Item) -> None:
        """An item was too late, and is skipped."""

    def delivered(self, item: Item) -> None:
        """The server, or a stream, has the message."""

    def failed(self, item: Item, reason: str) -> None:
        """An attempt failed: try again later, or give up."""

    def shown(self, item: Item) -> str:
        """What logs call an item."""


Due = tuple[Item, Source]
"""What is due, with its source. A plain tuple: one is made for each message."""


def give_back(batch: list[Due]) -> None:
    """Let items wait again, each in its source."""
    for item, source in batch:
        source.give_back(item)
