"""Which schedule is next, and which revision of each key is the latest. Pure.

The timetable knows keys, due times and revisions; callers pass the time in. Times are
microseconds since the Unix epoch.

A live key is in one of three states: waiting; taken, which is from when it was popped for
delivery until its removal is known; or held, while a request that changes it is being
written. Only a waiting key is ever popped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Container
from heapq import heapify, heappop, heappush
from itertools import takewhile
from typing import NamedTuple

from gozo.schedule.departures import Departures
from gozo.schedule.model import NEVER, Reason
from gozo.schedule.tombstones import (
    GROUP_BITS,
    REVISION_SHIFT,
    Tombstone,
    Tombstones,
    before,
    end_of,
    reason_of,
    stone_of,
)


class Item(NamedTuple):
    """One version of a schedule. Items sort by due time, then by order of storing."""

    due_us: int
    revision: int
    key: str


_Row = tuple[int, int, str]
"""An item as it is kept: a plain tuple takes 16 bytes less, and Python's garbage collector soon
leaves it alone, where it would look at a million items again and again."""


_MAKE = tuple.__new__
"""Creates an item from a row, as `Item._make` does, without a call of a Python function."""

_LAST: _Row = (NEVER + 1, 0, "")
"""Behind all others."""


class Timetable:
    """All keys of a bucket, and the order in which they are due."""

    def __init__(self, group_bits: int = GROUP_BITS) -> None:
        """`group_bits` is how many bits of a tombstone's end do not count: see `Endings`."""
        # The rows of the heaps below, not others like them: memory for millions counts.
        self._live: dict[str, _Row] = {}
        self.departures = Departures()
        """What became of the keys of which there is no tombstone any more."""
        self._stones = stones = Tombstones(self.departures, group_bits)
        # Changed for each delivery, so not by a call of another object.
        self._tombstones, self._purged = stones.kept, stones.purged
        self._endings, self._lasting = stones.endings, stones.lasting
        self.forget_ended = stones.forget_ended
        self.count_forgotten = stones.count_forgotten
        self.count_ending = stones.count_ending
        self.pop_lasting = stones.pop_lasting
        self.put_back_lasting = stones.put_back_lasting
        self._taken: dict[str, int] = {}
        self._held: set[str] = set()
        # A heap of what is due beyond a horizon. What comes nearer is taken from it ahead of
        # time, and waits in order; what is put before the horizon has a heap of its own. Each
        # that is nearer is reported once, so that it can be prepared.
        self._far: list[_Row] = []
        self._near: deque[_Row] = deque()
        self._soon: list[_Row] = []
        self._crossed: list[_Row] = []
        self.horizon_us = 0
        """Until when `approach` has come, in microseconds since the Unix epoch."""

    def __len__(self) -> int:
        return len(self._live)

    def __contains__(self, key: str) -> bool:
        return key in self._live

    @property
    def tombstones(self) -> Collection[str]:
        """The removed keys that the bucket still remembers; not to be changed."""
        return self._tombstones

    @property
    def taken(self) -> dict[str, int]:
        """The keys out for delivery, with the revision that is; not to be changed."""
        return self._taken

    def keys(self) -> list[str]:
        """All live keys."""
        return list(self._live)

    def rows(self) -> list[tuple[int, int, str]]:
        """All live items, as plain tuples: due time, revision, key."""
        return list(self._live.values())

    def revision(self, key: str) -> int:
        """The latest revision of a key that is live or has a marker; 0 if there is none."""
        live = self._live.get(key)
        if live is not None:
            return live[1]
        return self._tombstones.get(key, 0) >> REVISION_SHIFT

    def seen(self, key: str) -> int:
        """The latest revision known of a key, purged or not; 0 if there is none."""
        live = self._live.get(key)
        if live is not None:
            return live[1]
        if not self._tombstones and not self._purged:
            return 0
        return (self._tombstones.get(key) or self._purged.get(key, 0)) >> REVISION_SHIFT

    def tombstone(self, key: str) -> Tombstone | None:
        """What is known of a removed key."""
        stone = self._tombstones.get(key) or self._purged.get(key)
        if not stone:
            return None
        return Tombstone(stone >> REVISION_SHIFT, end_of(stone), reason_of(stone))

    def departure(self, key: str) -> Reason | None:
        """Tell what became of a key that is not live; None where that is not known any more."""
        stone = self._tombstones.get(key) or self._purged.get(key)
        return reason_of(stone) if stone else self.departures.reason(key)

    def knows(self, key: str) -> bool:
        """Tell whether a key is live, or was so not long ago."""
        return key in self._live or self.departure(key) is not None

    def is_taken(self, key: str) -> bool:
        """Tell whether the latest version of a key is out for delivery."""
        live = self._live.get(key)
        return live is not None and self._taken.get(key) == live[1]

    def holds(self, item: Item) -> bool:
        """Tell whether an item is the latest version of its key, out for delivery or not."""
        live = self._live.get(item.key)
        return live is not None and live[1] == item.revision

    def is_current(self, item: Item) -> bool:
        """Tell whether a popped item is still the latest version of its key."""
        _, revision, key = item
        live = self._live.get(key)
        return live is not None and live[1] == revision == self._taken.get(key)

    def put(self, key: str, due_us: int, revision: int) -> bool:
        """Take in a version of a schedule; False if this or a newer one is known already."""
        if revision <= self.seen(key):
            return False
        if self._tombstones or self._purged:
            self._tombstones.pop(key, None)
            self._purged.pop(key, None)
        row = self._live[key] = (due_us, revision, key)
        if key not in self._held:
            self._push(row)
        return True

    def remove(
        self,
        key: str,
        revision: int,
        until_us: int = NEVER,
        reason: Reason = Reason.UNKNOWN,
        *,
        lasting: bool = False,
    ) -> bool:
        """Take in a removal; False if this or something newer is known already.

        `lasting`: the server does not remove the marker by itself. `NEVER`: nobody does.
        """
        if revision <= self.seen(key):
            return False
        self._live.pop(key, None)
        self._taken.pop(key, None)
        self._purged.pop(key, None)
        self._tombstones[key] = stone_of(revision, until_us, reason, lasting=lasting)
        if until_us < NEVER:
            (self._lasting if lasting else self._endings).add(key, until_us)
        return True

    def purge(self, key: str, revision: int, until_us: int, reason: Reason) -> None:
        """Take in a purge: the bucket holds nothing under the key, not even a marker.

        The next write to it expects no revision, as for a new key. What the bucket held up to
        this `revision` may still be on its way from there, and is not taken in again.
        """
        if revision >= self.seen(key):
            self.forget(key)
            self._purged[key] = stone_of(revision, until_us, reason, lasting=False)
            self._endings.add(key, until_us)

    def forget_purged(self) -> None:
        """Forget all purges: what the bucket holds from now on was not purged."""
        self._stones.forget_purged()

    def forget(self, key: str) -> None:
        """Drop a key altogether: the bucket holds nothing under it, not even a marker."""
        live = self._live.pop(key, None)
        self._taken.pop(key, None)
        if (self._tombstones or self._purged) and self._stones.forget(key):
            return
        if live is not None and self.departures.reason(key):
            self.departures.note(key, Reason.UNKNOWN)  # what is known is of an earlier schedule

    def hold(self, key: str) -> None:
        """Keep a key from being popped while a change of it is on its way."""
        self._held.add(key)

    def release(self, key: str) -> bool:
        """End a hold: the key waits again, if it is live and not taken; False if not."""
        self._held.discard(key)
        live = self._live.get(key)
        if live is None or self._taken.get(key) == live[1]:
            return False
        self._push(live)
        return True

    def give_back(self, item: Item) -> None:
        """Let an item wait again that was popped and could not be delivered.

        Its due time may be a later one by now: that is when it is popped again.
        """
        if self._taken.get(item.key) == item.revision:
            del self._taken[item.key]
            if self.holds(item):
                row = self._live[item.key] = (item.due_us, item.revision, item.key)
                if item.key not in self._held:
                    self._push(row)

    def take(self, item: Item) -> None:
        """Keep an item from being popped, as if it had been, until it is given back."""
        if self.holds(item):
            self._taken[item.key] = item.revision

    def approach(self, horizon_us: int, limit: int) -> list[Item]:
        """Move the horizon: return each item that is now due before it, once.

        At most `limit` items are looked at; `lags` tells whether there may be more.
        """
        self.horizon_us = max(self.horizon_us, horizon_us)
        far, crossed = self._far, self._crossed
        while len(crossed) < limit and far and far[0][0] < self.horizon_us:
            row = heappop(far)
            self._near.append(row)
            crossed.append(row)
        looked_at = crossed[:limit]
        del crossed[:limit]  # where thousands are left, quicker than a list of these
        return [_MAKE(Item, row) for row in looked_at if self._is_waiting(row)]

    @property
    def lags(self) -> bool:
        """Whether items may be due before the horizon that `approach` has not returned."""
        return bool(self._crossed or (self._far and self._far[0][0] < self.horizon_us))

    def pop_due(self, now_us: int, limit: int) -> list[Item]:
        """Take at most `limit` items that are due, soonest first."""
        popped: list[Item] = []
        while len(popped) < limit:
            row, heap = self._soonest()
            if row[0] > now_us:
                break
            if heap is None:
                self._near.popleft()
            else:
                heappop(heap)
            if self._is_waiting(row):
                self._taken[row[2]] = row[1]
                popped.append(_MAKE(Item, row))
        return popped

    def _soonest(self) -> tuple[_Row, list[_Row] | None]:
        """Find the soonest row, waiting or not, and the heap that it is in; None: it is near."""
        near, soon, far = self._near, self._soon, self._far
        row = near[0] if near else _LAST
        heap: list[_Row] | None = None
        if soon and soon[0] < row:
            row, heap = soon[0], soon
        if far and far[0] < row:  # only where `approach` was not called in time
            row, heap = far[0], far
        return row, heap

    def drop_outdated(self, limit: int) -> bool:
        """Drop what is due first and not waiting: a standby never pops what others delivered.

        At most `limit` are dropped; returns whether there may be more. Where most of what is far
        off was cancelled, all of that is dropped, whatever is due before it.
        """
        near = self._near
        while limit and near and not self._is_waiting(near[0]):
            near.popleft()
            limit -= 1
        for heap in (self._soon, self._far):
            while limit and heap and not self._is_waiting(heap[0]):
                heappop(heap)
                limit -= 1
        if limit:
            self._compact()
        return not limit

    def next_due(self) -> int | None:
        """When the soonest waiting item is due, or None; drops the rows before it."""
        while True:
            row, heap = self._soonest()
            if row[0] >= NEVER:
                return None
            if self._is_waiting(row):
                return row[0]
            if heap is None:
                self._near.popleft()
            else:
                heappop(heap)

    def due_before(self, moment_us: int) -> list[Item]:
        """All live items that are due before a moment; reads all of them."""
        return [Item._make(row) for row in self._live.values() if row[0] < moment_us]

    def count_due(self, now_us: int, but: Container[str] = ()) -> int:
        """Count the waiting items that are due by `now_us`, without some; reads only these."""
        near = takewhile(lambda row: row[0] <= now_us, self._near)
        due = {row[2] for row in near if self._is_waiting(row)}
        for heap in (self._soon, self._far):
            due.update(row[2] for row in before(heap, now_us + 1) if self._is_waiting(row))
        return sum(key not in but for key in due)

    def _is_waiting(self, row: _Row) -> bool:
        _, revision, key = row
        return (
            self._live.get(key) is row
            and key not in self._held
            and self._taken.get(key) != revision
        )

    def _push(self, row: _Row) -> None:
        if row[0] < self.horizon_us:
            heappush(self._soon, row)
            self._crossed.append(row)
            return
        heappush(self._far, row)
        self._compact()

    def _compact(self) -> None:
        """Drop what is far off and not waiting, if it is most of that.

        Rows that were replaced stay in the heap until they surface; where most are such, a heap of
        the others is smaller and costs less than it saves.
        """
        if len(self._far) > 2 * len(self._live) + 1_000:
            # Each once; of two that are equal, only the one that is kept above is waiting.
            self._far = list(set(filter(self._is_waiting, self._far)))
            heapify(self._far)
