"""What the bucket remembers of removed keys, and when it forgets them. Pure: see `timetable`.

There may be tens of thousands of tombstones for a few live keys. So each is a single integer, and
keys are grouped by when their tombstones end, to a quarter of a second.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from heapq import heappop, heappush
from typing import NamedTuple, TypeVar

from gozo.schedule.departures import Departures
from gozo.schedule.model import MICROSECONDS, Reason

REMEMBERED = 64  # seconds for which it is known how many tombstones were forgotten
GROUP_BITS = 18
"""Tombstones that end within the same 2^18 microseconds are forgotten together."""


class Tombstone(NamedTuple):
    """What is left of a key that was removed."""

    revision: int
    until_us: int
    """When its time is over."""
    reason: Reason


Stone = int
"""A tombstone as it is kept: from the lowest bits, its reason, whether it lasts, end, revision."""

_REASONS = tuple(Reason)
_CODES = {reason: code for code, reason in enumerate(_REASONS)}
_CODE = (1 << 3) - 1
_LASTING = 1 << 3
_END_SHIFT, _END_BITS = 4, 63
_END = (1 << _END_BITS) - 1
REVISION_SHIFT = _END_SHIFT + _END_BITS


def stone_of(revision: int, until_us: int, reason: Reason, *, lasting: bool) -> Stone:
    """Return a tombstone as it is kept."""
    stone = revision << REVISION_SHIFT | until_us << _END_SHIFT | _CODES[reason]
    return stone | _LASTING if lasting else stone


def reason_of(stone: Stone) -> Reason:
    """Return the reason of a tombstone."""
    return _REASONS[stone & _CODE]


def end_of(stone: Stone) -> int:
    """Return when a tombstone ends."""
    return stone >> _END_SHIFT & _END


class Endings:
    """Keys in groups, by when their tombstones end.

    A key stays in its group if its tombstone is replaced.
    """

    def __init__(self, group_bits: int) -> None:
        self._bits = group_bits
        self._groups: dict[int, list[str]] = {}
        self._order: list[int] = []
        """A heap of the numbers of the groups."""

    def add(self, key: str, until_us: int) -> None:
        """Add a key."""
        number = until_us >> self._bits
        group = self._groups.get(number)
        if group is None:
            self._groups[number] = [key]
            heappush(self._order, number)
        else:
            group.append(key)

    def pop(self, before_us: int) -> str | None:
        """Take a key of a group that ended before a moment; None: no group has."""
        order = self._order
        while order and (order[0] + 1) << self._bits <= before_us:
            if group := self._groups[order[0]]:
                return group.pop()
            del self._groups[heappop(order)]
        return None

    def before(self, before_us: int) -> Iterator[str]:
        """Iterate over the keys of the groups that began before a moment."""
        for number, group in self._groups.items():
            if number << self._bits < before_us:
                yield from group


class Tombstones:
    """The tombstones of a timetable's keys, and the heaps of their ends.

    The timetable adds to them by itself.
    """

    def __init__(self, departures: Departures, group_bits: int = GROUP_BITS) -> None:
        self._departures = departures
        self.kept: dict[str, Stone] = {}
        """Those of removed keys."""
        self.purged: dict[str, Stone] = {}
        """Those of purged keys, for which the bucket keeps no marker."""
        self.endings = Endings(group_bits)
        """The keys whose markers the server removes by itself, and the purged keys."""
        self.lasting = Endings(group_bits)
        """The keys whose markers it would keep for ever."""
        self._popped: dict[str, Stone] = {}
        """Those of the second that are being purged."""
        # How many tombstones were forgotten lately, by the second of their end, and which second
        # that is. In arrays: objects that stay, made while others are freed all around them, would
        # keep all that memory from being given back.
        self._forgotten = array("q", bytes(8 * REMEMBERED))
        self._seconds = array("q", bytes(8 * REMEMBERED))

    def forget_purged(self) -> None:
        """Forget all purges: what the bucket holds from now on was not purged."""
        for key, stone in self.purged.items():
            self._departures.note(key, reason_of(stone))
        self.purged.clear()

    def forget(self, key: str) -> bool:
        """Forget a key; False if there was nothing to forget."""
        stone = self.kept.pop(key, None) or self.purged.pop(key, None)
        self._popped.pop(key, None)
        if stone is None:
            return False
        self._departures.note(key, reason_of(stone))
        return True

    def forget_ended(self, before_us: int, limit: int) -> bool:
        """Drop the tombstones whose group ended before `before_us`, and the purges.

        At most `limit` are looked at; returns whether there may be more.
        """
        pop, tombstones, purged = self.endings.pop, self.kept, self.purged
        note = self._departures.note
        forgotten = 0
        while limit and (key := pop(before_us)) is not None:
            limit -= 1
            stone = tombstones.get(key)
            if stone is not None and not stone & _LASTING and end_of(stone) < before_us:
                del tombstones[key]
                forgotten += 1
            elif stone is None and (stone := purged.get(key)) and end_of(stone) < before_us:
                del purged[key]
            else:
                continue
            note(key, reason_of(stone))
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
        """How many tombstones end before a moment, or are being purged; reads few others."""
        kept = self.kept
        self._popped = {key: stone for key, stone in self._popped.items() if kept.get(key) == stone}
        ending = set(self._popped)
        for endings in (self.endings, self.lasting):
            for key in endings.before(before_us):
                stone = kept.get(key)
                if stone is not None and end_of(stone) < before_us:
                    ending.add(key)
        return len(ending)

    def pop_lasting(self, before_us: int, limit: int) -> list[tuple[str, int]]:
        """Take keys and revisions of markers to purge: their group ended before `before_us`."""
        popped: list[tuple[str, int]] = []
        while len(popped) < limit and (key := self.lasting.pop(before_us)) is not None:
            stone = self.kept.get(key)
            if stone is None or not stone & _LASTING or end_of(stone) >= before_us:
                continue
            if self._popped.get(key) != stone:
                self._popped[key] = stone
                popped.append((key, stone >> REVISION_SHIFT))
        return popped

    def put_back_lasting(self, markers: list[tuple[str, int]]) -> None:
        """Let markers that could not be purged be popped again."""
        for key, _ in markers:
            stone = self._popped.pop(key, None)
            if stone is not None and self.kept.get(key) == stone:
                self.lasting.add(key, end_of(stone))


_Row = TypeVar("_Row", bound=tuple[int, int, str])


def before(heap: list[_Row], moment_us: int) -> Iterator[_Row]:
    """Iterate over what a heap has before a moment; what is below another is not before it."""
    places = [0]
    while places:
        place = places.pop()
        if place < len(heap) and heap[place][0] < moment_us:
            yield heap[place]
            places += (2 * place + 1, 2 * place + 2)
