"""Keys of items that are not in the bucket: no key of a bucket has these prefixes. Pure."""

from __future__ import annotations

from gozo.schedule.timetable import Item

IN_MEMORY = "\0"
"""The prefix of keys of schedules in the leader's memory only."""
OCCURRENCE = "\1"
"""The prefix of keys of occurrences whose entry is still being written."""


def is_in_memory(item: Item) -> bool:
    """Return whether an item is of a schedule in memory, not of the bucket."""
    return item.key.startswith(IN_MEMORY)
