"""Requests that this replica held when it led, and that the next leader has but not yet handled.

This replica keeps them in case that leader dies, as a standby keeps received requests: perhaps no
other replica has them. The leader's answer gives its position of each (see
`gozo.requests.inheritance`), so requests that it reports as handled are struck out exactly. Those
that yet another leader reports are struck out by digest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from gozo.leadership.feed_messages import FeedMessage
from gozo.protocol.heard import Heard
from gozo.requests.backlog import Backlog

ANY = 1 << 63  # a position above all others, in place of that of dropped requests


class Entrusted:
    """The entrusted requests, in order of arrival."""

    def __init__(self) -> None:
        self.leader = b""
        """The name of the leader that has them."""
        self._requests = Backlog()
        self._requests.index(True)
        self._kept = Counter[tuple[bytes, int]]()
        """The digests and the leader's positions of the requests kept."""
        self._pending = Counter[tuple[bytes, int]]()
        """The same for requests not handled by the leader, and not (yet) kept here."""
        self._positions: dict[bytes, list[int]] = {}
        """The leader's positions of the pending ones by digest, ascending; some may be handled."""
        self._dropped = Counter[bytes]()
        """How many requests were kept and dropped since, by digest."""
        self._came_us = 0
        """When the latest request kept arrived; 0 once those with an id are forgotten."""

    def __len__(self) -> int:
        return len(self._requests)

    @property
    def size(self) -> int:
        """Approximate bytes of memory that the requests take."""
        return self._requests.size

    @property
    def requests(self) -> Iterable[Heard]:
        """All requests, in order."""
        return self._requests.requests

    def begin(self, leader: bytes, pending: Counter[tuple[bytes, int]]) -> None:
        """Begin to keep a leader's unhandled requests, given by digest and its position."""
        self.clear()
        self.leader, self._pending = leader, pending
        for digest, position in sorted(pending.elements(), key=lambda pair: pair[1]):
            self._positions.setdefault(digest, []).append(position)

    def keep(self, requests: list[Heard]) -> None:
        """Keep those requests that the leader has not handled; the others are done.

        Of several identical requests the latest are kept, since they are handled in order. Of
        several calls, the first must have the latest requests.
        """
        kept = [heard for heard in reversed(requests) if self._match(heard.digest)]
        if kept:
            self._came_us = max(self._came_us, *(heard.received_us for heard in kept))
            kept += self._requests.requests
            self._requests.clear()
            for heard in sorted(kept, key=lambda heard: heard.position):
                self._requests.add(heard)

    def _match(self, digest: bytes) -> bool:
        """Find the latest request with a digest that the leader has not handled."""
        positions = self._positions.get(digest)
        while positions:
            pair = digest, positions.pop()
            if self._pending[pair] > 0:
                self._pending[pair] -= 1
                self._kept[pair] += 1
                return True
        return False

    def end(self) -> None:
        """Keep no further requests; may be called repeatedly."""
        self._pending.clear()
        self._positions.clear()
        if not self._requests:
            self.clear()

    def handled(self, message: FeedMessage) -> None:
        """Strike out requests that the leader reports as handled."""
        if message.leader != self.leader:
            return
        for pair in zip(message.digests, message.positions, strict=True):
            if self._kept[pair] > 0:
                self._kept[pair] -= 1
                self.strike(pair[0])
            elif self._pending[pair] > 0:
                self._pending[pair] -= 1

    def strike(self, digest: bytes) -> None:
        """Strike out the first request with a digest, unless it was dropped."""
        if self._dropped[digest] > 0:
            self._dropped[digest] -= 1
        else:
            self._requests.strike(digest, ANY)

    def forget_old(self, before_us: int, lasts: Callable[[Heard], bool]) -> None:
        """Forget the requests for which `lasts` is false, once all arrived before a time."""
        if 0 < self._came_us < before_us:
            self._came_us = 0
            for _ in range(len(self._requests)):
                heard = self._requests.take()
                if lasts(heard):
                    self._requests.add(heard)
                else:
                    self._dropped[heard.digest] += 1

    def shrink(self, most: int) -> int:
        """Drop the oldest requests until the others take at most `most` bytes; return how many."""
        count = len(self._requests)
        while self._requests and self._requests.size > most:
            self._dropped[self._requests.take().digest] += 1
        return count - len(self._requests)

    def shift(self, by_us: int) -> None:
        """Shift the times of arrival of all requests: the clock was set."""
        self._requests.shift(by_us)
        if self._came_us:
            self._came_us += by_us

    def move_to(self, other: Backlog) -> None:
        """Move all requests to a backlog: this replica leads, or led, and processes them itself."""
        self._requests.move_to(other)
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.leader = b""
        self._requests.clear()
        for known in (self._kept, self._pending, self._positions, self._dropped):
            known.clear()
        self._came_us = 0
