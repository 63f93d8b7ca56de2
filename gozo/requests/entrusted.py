"""Requests that this replica held when it led, and that the next leader has but not yet handled.

This replica keeps them in case that leader dies, as a standby keeps what it hears: no other replica
may have them. The leader's answer gives its position of each (see `gozo.requests.inheritance`), so
what it reports as handled is struck out exactly. What yet another leader reports is struck out by
digest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from gozo.leadership.feed_messages import FeedMessage
from gozo.protocol.heard import Heard
from gozo.requests.backlog import Backlog

ANY = 1 << 63  # a position above all others: dropped requests are counted here instead


class Entrusted:
    """The requests, in the order in which they came."""

    def __init__(self) -> None:
        self.leader = b""
        """The name of the leader that has them."""
        self._requests = Backlog()
        self._requests.index(True)
        self._kept = Counter[tuple[bytes, int]]()
        """Their digests and the leader's positions."""
        self._pending = Counter[tuple[bytes, int]]()
        """The same for what the leader has not handled, and is not kept here (yet)."""
        self._positions: dict[bytes, list[int]] = {}
        """The leader's positions of these by digest, ascending; some may be handled by now."""
        self._dropped = Counter[bytes]()
        """How many were kept and dropped since, by digest."""
        self._came_us = 0
        """When the latest of those kept came; 0 once those with an id are forgotten."""

    def __len__(self) -> int:
        return len(self._requests)

    @property
    def size(self) -> int:
        """Bytes of memory that the requests take, roughly."""
        return self._requests.size

    @property
    def requests(self) -> Iterable[Heard]:
        """All, in order."""
        return self._requests.requests

    def begin(self, leader: bytes, pending: Counter[tuple[bytes, int]]) -> None:
        """Keep what a leader has not handled, by digest and the leader's position."""
        self.clear()
        self.leader, self._pending = leader, pending
        for digest, position in sorted(pending.elements(), key=lambda pair: pair[1]):
            self._positions.setdefault(digest, []).append(position)

    def keep(self, requests: list[Heard]) -> None:
        """Keep those requests that the leader has not handled; the others are done.

        Of several identical ones the latest are kept, since they are handled in order. If it is
        called several times, the later requests come first.
        """
        kept = [heard for heard in reversed(requests) if self._match(heard.digest)]
        if kept:
            self._came_us = max(self._came_us, *(heard.received_us for heard in kept))
            kept += self._requests.requests
            self._requests.clear()
            for heard in sorted(kept, key=lambda heard: heard.position):
                self._requests.add(heard)

    def _match(self, digest: bytes) -> bool:
        """Find the latest with a digest that the leader has not handled."""
        positions = self._positions.get(digest)
        while positions:
            pair = digest, positions.pop()
            if self._pending[pair] > 0:
                self._pending[pair] -= 1
                self._kept[pair] += 1
                return True
        return False

    def end(self) -> None:
        """Keep nothing further; may be called repeatedly."""
        self._pending.clear()
        self._positions.clear()
        if not self._requests:
            self.clear()

    def handled(self, message: FeedMessage) -> None:
        """Strike out what the leader reports as handled."""
        if message.leader != self.leader:
            return
        for pair in zip(message.digests, message.positions, strict=True):
            if self._kept[pair] > 0:
                self._kept[pair] -= 1
                self.strike(pair[0])
            elif self._pending[pair] > 0:
                self._pending[pair] -= 1

    def strike(self, digest: bytes) -> None:
        """Strike out the first with a digest, unless that one was dropped."""
        if self._dropped[digest] > 0:
            self._dropped[digest] -= 1
        else:
            self._requests.strike(digest, ANY)

    def forget_old(self, before_us: int, lasts: Callable[[Heard], bool]) -> None:
        """Forget those for which `lasts` is false, once all of them came before a time."""
        if 0 < self._came_us < before_us:
            self._came_us = 0
            for _ in range(len(self._requests)):
                heard = self._requests.take()
                if lasts(heard):
                    self._requests.add(heard)
                else:
                    self._dropped[heard.digest] += 1

    def shrink(self, most: int) -> int:
        """Drop the first until the others take no more than `most` bytes; returns how many."""
        count = len(self._requests)
        while self._requests and self._requests.size > most:
            self._dropped[self._requests.take().digest] += 1
        return count - len(self._requests)

    def shift(self, by_us: int) -> None:
        """Move the times at which all came: the clock was set meanwhile."""
        self._requests.shift(by_us)
        if self._came_us:
            self._came_us += by_us

    def move_to(self, other: Backlog) -> None:
        """Move all to a backlog: this replica leads, or led, and has to see to them itself."""
        self._requests.move_to(other)
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.leader = b""
        self._requests.clear()
        for known in (self._kept, self._pending, self._positions, self._dropped):
            known.clear()
        self._came_us = 0
