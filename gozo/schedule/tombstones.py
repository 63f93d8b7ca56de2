"""What the bucket remembers of removed keys, and when it forgets them. Pure: see `timetable`."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import chain
from typing import NamedTuple, TypeVar

from gozo.schedule.departures import Departures
from gozo.schedule.model import MICROSECONDS, Reason

REMEMBERED = 64  # seconds for which it is known how many tombstones were forgotten


class Tombstone(NamedTuple):
    """What is left of a key that was removed."""

    revision: int
    until_us: int
    """When its time is over."""
    reason: Reason


Stone = tuple[int, int, str, Reason]
"""A tombstone as it is kept, in a dictionary and in a heap: end, revision, key, reason."""


class Tombstones:
    """The tombstones of a timetable's keys, and the heaps of their ends.

    The timetable adds to them by itself.
    """

    def __init__(self, departures: Departures) -> None:
        self._departures = departures
        self.kept: dict[str, Stone] = {}
        """Those of removed keys."""
        self.purged: dict[str, Stone] = {}
        """Those of purged keys, for which the bucket keeps no marker."""
        self.endings: list[Stone] = []
        """A heap of those that the server removes by itself."""
        self.lasting: list[Stone] = []
        """A heap of those that it would keep for ever."""
        self._popped: dict[str, Stone] = {}
        """Those of the second that are being purged."""
        # How many tombstones were forgotten lately, by the second of their end, and which second
        # that is. In arrays: objects that stay, made while others are freed all around them, would
        # keep all that memory from being given back.
        self._forgotten = array("q", bytes(8 * REMEMBERED))
        self._seconds = array("q", bytes(8 * REMEMBERED))

    def forget_purged(self) -> None:
        """Forget all purges: what the bucket holds from now on was not purged."""
        for _, _, key, reason in self.purged.values():
            self._departures.note(key, reason)
        self.purged.clear()

    def forget(self, key: str) -> bool:
        """Forget a key; False if there was nothing to forget."""
        stone = self.kept.pop(key, None) or self.purged.pop(key, None)
        self._popped.pop(key, None)
        if stone is None:
            return False
        self._departures.note(key, stone[3])
        return True

    def forget_ended(self, before_us: int, limit: int) -> bool:
        """Drop the tombstones whose time ended before `before_us`, and the purges.

        At most `limit` are looked at; returns whether there may be more.
        """
        endings, tombstones, purged = self.endings, self.kept, self.purged
        note = self._departures.note
        forgotten = 0
        while limit and endings and endings[0][0] < before_us:
            limit -= 1
            stone = heappop(endings)
            key = stone[2]
            if tombstones.get(key) is stone:
                del tombstones[key]
                forgotten += 1
            elif purged.get(key) is stone:
                del purged[key]
            else:
                continue
            note(key, stone[3])
        if forgotten:
            second = before_us // MICROSECONDS
            place = second % REMEMBERED
            if self._seconds[place] != second:
                self._seconds[place], self._forgotten[place] = second, 0
            self._forgotten[place] += forgotten
        return not limit

    def count_forgotten(self, seconds: int, now_us: int) -> int:
        """How many tombstones were forgotten whose time ended in the last `seconds`.

        Of more than `REMEMBERED` seconds nothing is known.
        """
        since = now_us // MICROSECONDS - seconds
        numbers = zip(self._seconds, self._forgotten, strict=True)
        return sum(count for second, count in numbers if second >= since)

    def count_ending(self, before_us: int) -> int:
        """How many tombstones end before a moment, or are being purged; reads no others."""
        kept = self.kept
        self._popped = {key: stone for key, stone in self._popped.items() if kept.get(key) is stone}
        heaps = chain(before(self.endings, before_us), before(self.lasting, before_us))
        return len(self._popped) + sum(kept.get(stone[2]) is stone for stone in heaps)

    def pop_lasting(self, before_us: int, limit: int) -> list[tuple[str, int]]:
        """Take keys and revisions of markers to purge: their time ended before `before_us`."""
        popped: list[tuple[str, int]] = []
        while self.lasting and self.lasting[0][0] < before_us and len(popped) < limit:
            stone = heappop(self.lasting)
            key = stone[2]
            if self.kept.get(key) is stone:
                self._popped[key] = stone
                popped.append((key, stone[1]))
        return popped

    def put_back_lasting(self, markers: list[tuple[str, int]]) -> None:
        """Let markers that could not be purged be popped again."""
        for key, _ in markers:
            stone = self._popped.pop(key, None)
            if stone is not None and self.kept.get(key) is stone:
                heappush(self.lasting, stone)


_T = TypeVar("_T", tuple[int, int, str], Stone)


def before(heap: list[_T], moment_us: int) -> Iterator[_T]:
    """Iterate over what a heap has before a moment; what is below another is not before it."""
    places = [0]
    while places:
        place = places.pop()
        if place < len(heap) and heap[place][0] < moment_us:
            yield heap[place]
            places += (2 * place + 1, 2 * place + 2)
