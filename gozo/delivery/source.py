"""The interface of a source of due schedules: the bucket, memory, or recurring schedules.

Each due item carries its source, which is notified of the result.
"""

from __future__ import annotations

from typing import Protocol

from gozo.schedule.model import Outgoing
from gozo.schedule.timetable import Item


class Source(Protocol):
    """A source of due schedules."""

    def next_due(self) -> int | None:
        """When the next schedule is due; None without one."""

    def pop_due(self, now_us: int, limit: int, /) -> list[Item]:
        """Take at most `limit` due items, soonest first."""

    def is_current(self, item: Item, /) -> bool:
        """Tell whether an item may still be sent, since it was not changed or removed meanwhile."""

    def message(self, item: Item, /) -> Outgoing | None:
        """The message to send, if it is in memory."""

    def sending(self, item: Item, message: Outgoing, now_us: int) -> None:
        """Called before a message with a spec is sent or skipped."""

    def give_back(self, item: Item, due_us: int | None = None) -> None:
        """Let an item that was not sent wait again, until its own time or a later one."""

    def let_go(self, item: Item) -> None:
        """Called when an item is not sent because it is not current."""

    def missed(self, item: Item) -> None:
        """Called when an item is skipped because it is too late."""

    def delivered(self, item: Item) -> None:
        """Called when the server, or a stream, has the message."""

    def failed(self, item: Item, reason: str) -> None:
        """Called when an attempt failed: the source retries later or gives up."""

    def expired(self, item: Item) -> None:
        """An item is too old to be tried: give up."""

    def shown(self, item: Item) -> str:
        """Return the name of an item in logs."""


Due = tuple[Item, Source]
"""A due item with its source. A plain tuple, since one is created for each message."""


def give_back(batch: list[Due]) -> None:
    """Let items wait again, each in its source."""
    for item, source in batch:
        source.give_back(item)
