"""Requests that this replica had when it led, and that the next leader has and has not handled.

They are kept as a standby keeps what it hears, in case that leader dies: it may be the only other
replica that has them. That leader said under which positions it had them (see
`gozo.inheritance`), so what it tells as handled is struck out exactly. What another leader tells
is struck out by digest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from gozo.backlog import Backlog, Heard
from gozo.told import Told

ANY = 1 << 63  # a position above all: nothing that is kept here was dropped


class Entrusted:
    """The requests, in the order in which they came."""

    def __init__(self) -> None:
        self.leader = b""
        """Who has them."""
        self._requests = Backlog()
        self._requests.index(True)
        self._pending = Counter[tuple[bytes, int]]()
        """Digest and the leader's position of each that it has not handled, of others too."""
        self._unmatched = Counter[bytes]()
        """By digest, those of them that are not among the requests here."""
        self._came_us = 0
        """When the last came that is kept, until those with an id are forgotten."""

    def __len__(self) -> int:
        return len(self._requests)

    @property
    def size(self) -> int:
        """Bytes of memory that the requests take, roughly."""
        return self._requests.size

    def begin(self, leader: bytes, pending: Counter[tuple[bytes, int]]) -> None:
        """Keep what a leader has, by digest and the leader's position."""
        self.clear()
        self.leader, self._pending = leader, pending
        for (digest, _), count in pending.items():
            self._unmatched[digest] += count

    def keep(self, requests: list[Heard]) -> None:
        """Keep those of some requests that the leader has not handled; the others are over.

        Of several identical ones the latest are kept, since they are handled in order.
        """
        kept: list[Heard] = []
        for heard in reversed(requests):
            if self._unmatched[heard.digest] > 0:
                self._unmatched[heard.digest] -= 1
                kept.append(heard)
        for heard in reversed(kept):
            self._requests.add(heard)
            self._came_us = max(self._came_us, heard.received_us)

    def handled(self, told: Told) -> None:
        """Strike out what the leader tells as handled."""
        if not self._pending or told.leader != self.leader:
            return
        for pair in zip(told.digests, told.positions, strict=True):
            if self._pending[pair] > 0:
                self._pending[pair] -= 1
                self.strike(pair[0])

    def strike(self, digest: bytes) -> None:
        """Strike out the first with a digest."""
        if not self._requests.strike(digest, ANY) and self._unmatched[digest] > 0:
            self._unmatched[digest] -= 1

    def forget_old(self, before_us: int, lasts: Callable[[Heard], bool]) -> None:
        """Forget those that do not last, once all came before a time."""
        if 0 < self._came_us < before_us:
            self._came_us = 0
            for _ in range(len(self._requests)):
                heard = self._requests.take()
                if lasts(heard):
                    self._requests.add(heard)

    def shrink(self, most: int) -> int:
        """Drop the first until the others take no more than `most` bytes; returns how many."""
        return self._requests.shrink(most)

    def shift(self, by_us: int) -> None:
        """Move the times at which all came: the clock was set meanwhile."""
        self._requests.shift(by_us)
        if self._came_us:
            self._came_us += by_us

    def take_all(self) -> Iterable[Heard]:
        """Take all out, in order: they are this replica's again."""
        requests = list(self._requests.requests)
        self.clear()
        return requests

    def clear(self) -> None:
        """Keep none."""
        self.leader = b""
        self._requests.clear()
        self._pending, self._unmatched = Counter(), Counter()
        self._came_us = 0
