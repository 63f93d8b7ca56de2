"""Keys of what is not in the bucket: no key of a bucket begins like these. Pure."""

from __future__ import annotations

from gozo.schedule.timetable import Item

IN_MEMORY = "\0"
"""How the keys of schedules begin that are in the leader's memory only."""
OCCURRENCE = "\1"
"""How the keys of occurrences begin whose entry is still being written."""


def is_in_memory(item: Item) -> bool:
    """Tell an item of the schedules in memory from one of the bucket's."""
    return item.key.startswith(IN_MEMORY)
