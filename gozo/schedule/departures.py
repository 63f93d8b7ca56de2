"""How schedules left the bucket, kept for ten minutes after their delete markers are gone. Pure.

A million take 8 MB: only a hash of each key is kept, with the reason. So one in 10^11 questions
about a key that never existed gets a wrong answer.

The hashes are in chunks that are filled one after the other and dropped as a whole, so that
expiry does not visit each hash. At thousands a second, a chunk is full before the next one is due:
a larger one would be half empty for ten minutes. Callers pass the time in, in seconds of a
monotonic clock.
"""

from __future__ import annotations

from array import array
from collections import deque

from gozo.schedule.model import Reason

KEPT = 600.0  # seconds
CHUNK_AGE = 60.0  # seconds after which a new chunk is started, so that the old one can expire
SLOT = 6  # bytes
SMALLEST, LARGEST = 1 << 9, 1 << 17  # slots in a chunk
LOAD = 0.75  # fraction of slots in use: beyond that, lookups probe too many slots

_REASONS = (Reason.UNKNOWN, Reason.DELIVERED, Reason.CANCELLED, Reason.MISSED, Reason.FAILED)
_CODES = {reason: code for code, reason in enumerate(_REASONS, 1)}

# The lowest bits of a hash choose its slot, which holds the next 16 and the highest 29. These share
# a word with the code of the reason.
_PLACE_BITS = 17
_LOW = (1 << 16) - 1
_CODE = (1 << 3) - 1
_HIGH_SHIFT = 32
_HIGH = (1 << 32) - 1 - _CODE


class _Chunk:
    """A hash table with open addressing."""

    __slots__ = ("closed_at", "high", "last", "low", "opened_at", "room")

    def __init__(self, size: int) -> None:
        self.high = array("I", (0,)) * size
        """The highest bits of each hash, and its reason; 0 if the slot is empty."""
        self.low = array("H", (0,)) * size
        self.last = size - 1
        self.room = int(size * LOAD)
        self.opened_at: float | None = None
        self.closed_at: float | None = None

    def find(self, hashed: int) -> int:
        """Return the slot that contains a hash, or the empty slot for it."""
        highs, lows, last = self.high, self.low, self.last
        high, low = hashed >> _HIGH_SHIFT & _HIGH, hashed >> _PLACE_BITS & _LOW
        at = hashed & last
        while (found := highs[at]) and (found ^ high > _CODE or lows[at] != low):
            at = at + 1 & last
        return at


class Departures:
    """The reasons why keys left the bucket."""

    def __init__(self, smallest: int = SMALLEST, largest: int = LARGEST) -> None:
        """Both are numbers of slots in a chunk, and powers of two; at most `LARGEST`."""
        self._chunks: deque[_Chunk] = deque()
        """The oldest first; the last is being filled, unless it is closed."""
        self._smallest, self._largest = smallest, largest
        self._size = smallest

    @property
    def bytes(self) -> int:
        """Bytes of memory of the tables."""
        return sum(SLOT * len(chunk.high) for chunk in self._chunks)

    def note(self, key: str, reason: Reason) -> None:
        """Record the reason for a key, replacing an earlier one."""
        code = _CODES.get(reason)
        if code is None:
            return  # not a schedule
        chunk = self._chunks[-1] if self._chunks else None
        if chunk is None or chunk.closed_at is not None or not chunk.room:
            chunk = self._begin(chunk)
        hashed = hash(key)
        at = chunk.find(hashed)
        if not chunk.high[at]:
            chunk.room -= 1
            chunk.low[at] = hashed >> _PLACE_BITS & _LOW
        chunk.high[at] = hashed >> _HIGH_SHIFT & _HIGH | code

    def reason(self, key: str) -> Reason | None:
        """Return the reason for a key; None if it is not, or no longer, known."""
        hashed = hash(key)
        for chunk in reversed(self._chunks):
            if found := chunk.high[chunk.find(hashed)]:
                return _REASONS[(found & _CODE) - 1]
        return None

    def turn(self, now: float) -> None:
        """Drop expired chunks; call it about once a second."""
        chunks = self._chunks
        for chunk in chunks:
            if chunk.opened_at is None:
                chunk.opened_at = now
            if chunk.closed_at is None and (
                not chunk.room or chunk is not chunks[-1] or now - chunk.opened_at >= CHUNK_AGE
            ):
                self._close(chunk, now)
        while chunks and chunks[0].closed_at is not None and now - chunks[0].closed_at > KEPT:
            chunks.popleft()

    def clear(self) -> None:
        """Forget everything."""
        self._chunks.clear()

    def _begin(self, before: _Chunk | None) -> _Chunk:
        if before is not None and not before.room:
            self._size = min(4 * len(before.high), self._largest)
        chunk = _Chunk(self._size)
        self._chunks.append(chunk)
        return chunk

    def _close(self, chunk: _Chunk, now: float) -> None:
        """Stop filling a chunk; the next is likely to need as many slots as were used."""
        chunk.closed_at = now
        size = len(chunk.high)
        if chunk.room > size * LOAD / 2:
            self._size = max(size // 2, self._smallest)
