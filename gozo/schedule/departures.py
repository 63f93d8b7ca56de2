"""How schedules left the bucket, kept for ten minutes after their delete markers are gone. Pure.

A million take 12 MB: only a 61-bit hash of each key is kept, with the reason. So one in 10^12
questions about a key that never existed gets a wrong answer.

The hashes are in chunks that are filled one after the other and dropped as a whole, so that
expiry does not visit each hash. Callers pass the time in, in seconds of a monotonic clock.
"""

from __future__ import annotations

from array import array
from collections import deque

from gozo.schedule.model import Reason

KEPT = 600.0  # seconds
CHUNK_AGE = 60.0  # seconds after which a new chunk is started, so that the old one can expire
SMALLEST, LARGEST = 1 << 9, 1 << 18  # slots of 8 bytes in a chunk
LOAD = 0.7  # fraction of slots in use: beyond that, lookups probe too many slots

_REASONS = (Reason.UNKNOWN, Reason.DELIVERED, Reason.CANCELLED, Reason.MISSED, Reason.FAILED)
_CODES = {reason: code for code, reason in enumerate(_REASONS, 1)}
"""The low bits of a used slot; an empty slot is 0."""
_CODE_BITS = 3
_CODE = (1 << _CODE_BITS) - 1
_HASH = (1 << 64) - 1 - _CODE


class _Chunk:
    """A hash table with open addressing."""

    __slots__ = ("closed_at", "last", "opened_at", "room", "slots")

    def __init__(self, size: int) -> None:
        self.slots = array("Q", bytes(8 * size))
        self.last = size - 1
        self.room = int(size * LOAD)
        self.opened_at: float | None = None
        self.closed_at: float | None = None

    def find(self, hashed: int) -> int:
        """Return the slot that contains a hash, or the empty slot for it."""
        slots, last = self.slots, self.last
        at = hashed >> _CODE_BITS & last
        while (found := slots[at]) and found ^ hashed > _CODE:
            at = at + 1 & last
        return at


class Departures:
    """The reasons why keys left the bucket."""

    def __init__(self, smallest: int = SMALLEST, largest: int = LARGEST) -> None:
        """Both are numbers of slots in a chunk, and powers of two."""
        self._chunks: deque[_Chunk] = deque()
        """The oldest first; the last is being filled, unless it is closed."""
        self._smallest, self._largest = smallest, largest
        self._size = smallest

    @property
    def bytes(self) -> int:
        """Bytes of memory of the tables."""
        return sum(8 * len(chunk.slots) for chunk in self._chunks)

    def note(self, key: str, reason: Reason) -> None:
        """Record the reason for a key, replacing an earlier one."""
        code = _CODES.get(reason)
        if code is None:
            return  # not a schedule
        chunk = self._chunks[-1] if self._chunks else None
        if chunk is None or chunk.closed_at is not None or not chunk.room:
            chunk = self._begin(chunk)
        hashed = hash(key) & _HASH
        at = chunk.find(hashed)
        chunk.room -= not chunk.slots[at]
        chunk.slots[at] = hashed | code

    def reason(self, key: str) -> Reason | None:
        """Return the reason for a key; None if it is not, or no longer, known."""
        hashed = hash(key) & _HASH
        for chunk in reversed(self._chunks):
            if found := chunk.slots[chunk.find(hashed)]:
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
            self._size = min(4 * len(before.slots), self._largest)
        chunk = _Chunk(self._size)
        self._chunks.append(chunk)
        return chunk

    def _close(self, chunk: _Chunk, now: float) -> None:
        """Stop filling a chunk; the next is likely to need as many slots as were used."""
        chunk.closed_at = now
        size = len(chunk.slots)
        if chunk.room > size * LOAD / 2:
            self._size = max(size // 2, self._smallest)
