"""Requests that were received and not processed yet, in order of arrival. Pure.

A standby keeps them as the leader does, and strikes out those that the leader reports as handled.
So the next leader finds here exactly the requests that its predecessor has not handled.

Requests have no number that is common to all replicas, and NATS only orders the messages of one
connection, so handled requests are reported by digest. Of several identical requests the earliest
is struck out, since they are handled in order, unless the position shows that the reported one
was dropped here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from gozo.protocol.heard import Heard


class Backlog:
    """A queue of requests that can also be removed from its middle."""

    def __init__(self) -> None:
        self.size = 0
        """Approximate bytes of memory that the requests take."""
        self.dropped = -1
        """The highest position of a dropped request; -1 without one, since 0 may be the position of
        a request that an older leader has handled."""
        self._queue: OrderedDict[int, Heard] = OrderedDict()
        self._numbers: dict[bytes, list[int]] = {}
        """The numbers of the requests with each digest, in order; see `index`."""
        self._indexed = False
        self._count = 0

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def first(self) -> int:
        """The number of the first request; if there is none, above `last`."""
        return next(iter(self._queue), self.last + 1)

    @property
    def last(self) -> int:
        """The number of the last request added; they are numbered in order."""
        return self._count

    @property
    def requests(self) -> Iterable[Heard]:
        """All requests, in order."""
        return self._queue.values()

    def add(self, heard: Heard) -> None:
        """Add a request at the end."""
        self._count += 1
        self._queue[self._count] = heard
        self.size += heard.size
        if self._indexed:
            self._numbers.setdefault(heard.digest, []).append(self._count)

    def take(self) -> Heard:
        """Remove and return the first request."""
        number, heard = self._queue.popitem(last=False)
        self.size -= heard.size
        if self._indexed:
            self._forget(number, heard.digest)
        return heard

    def index(self, wanted: bool) -> None:
        """Maintain the index that `strike` needs, or drop it to save work."""
        self._indexed = wanted
        self._numbers.clear()
        if wanted:
            for number, heard in self._queue.items():
                self._numbers.setdefault(heard.digest, []).append(number)

    def strike(self, digest: bytes, position: int) -> bool:
        """Strike out the first request with a digest; False if it is not here or was dropped."""
        numbers = self._numbers.get(digest)
        if numbers is None or position <= self.dropped:
            return False
        number = numbers[0]
        self._forget(number, digest)
        self.size -= self._queue.pop(number).size
        return True

    def between(self, after: int, last: int) -> list[Heard]:
        """Return the requests with a position greater than `after`, up to `last`."""
        return [heard for heard in self._queue.values() if after < heard.position <= last]

    def copies(self, digest: bytes) -> int:
        """Count the requests with a digest; needs the index."""
        return len(self._numbers.get(digest, ()))

    def forget(self, last: int) -> None:
        """Drop the requests with a position up to `last`."""
        for number in [n for n, heard in self._queue.items() if heard.position <= last]:
            heard = self._queue.pop(number)
            self.size -= heard.size
            if self._indexed:
                self._forget(number, heard.digest)

    def take_before(self, time_us: int) -> list[Heard]:
        """Remove and return the requests that came before a time."""
        taken: list[Heard] = []
        while self._queue and next(iter(self._queue.values())).received_us < time_us:
            taken.append(self.take())
        return taken

    def shrink(self, most: int) -> int:
        """Drop the oldest requests until the others take at most `most` bytes; return how many."""
        dropped = 0
        while self._queue and self.size > most:
            self.dropped = self.take().position
            dropped += 1
        return dropped

    def note_dropped(self, position: int) -> None:
        """Note the highest position of requests that were removed and dropped elsewhere."""
        self.dropped = position

    def move_to(self, other: Backlog) -> None:
        """Move all requests to the end of another backlog."""
        while self._queue:
            other.add(self.take())

    def shift(self, by_us: int) -> None:
        """Shift the times of arrival of all requests: the clock was set."""
        for number, heard in self._queue.items():
            self._queue[number] = heard._replace(received_us=heard.received_us + by_us)

    def clear(self) -> None:
        """Drop all requests."""
        self._queue.clear()
        self._numbers.clear()
        self.size = 0

    def _forget(self, number: int, digest: bytes) -> None:
        numbers = self._numbers[digest]
        numbers.remove(number)
        if not numbers:
            del self._numbers[digest]
