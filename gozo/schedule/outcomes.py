"""How schedules left the bucket, for ten minutes after their delete markers are gone. Pure.

A million of them take 12 MB: of each key only a hash is kept, of 61 bits, beside what became of
it. So one in 10^12 questions about a key that was never there gets a wrong answer.

The hashes lie in chunks that are filled one after the other, and dropped as a whole: nothing is
looked for one by one when its time is over. Callers pass the time in, in seconds of a clock that
only goes forward.
"""

from __future__ import annotations

from array import array
from collections import deque

from gozo.schedule.model import Reason

KEPT = 600.0  # seconds
CHUNK_AGE = 60.0  # seconds after which another chunk is begun, so that what is in it can go
SMALLEST, LARGEST = 1 << 9, 1 << 18  # slots of 8 bytes in a chunk
LOAD = 0.7  # of the slots that are used: with more, one is looked for in too many of them

_REASONS = (Reason.UNKNOWN, Reason.DELIVERED, Reason.CANCELLED, Reason.MISSED, Reason.FAILED)
_CODES = {reason: code for code, reason in enumerate(_REASONS, 1)}
"""What the low bits of a used slot say; all of an empty one's are 0."""
_CODE_BITS = 3
_CODE = (1 << _CODE_BITS) - 1
_HASH = (1 << 64) - 1 - _CODE


class _Chunk:
    """A table of open addressing."""

    __slots__ = ("closed_at", "last", "opened_at", "room", "slots")

    def __init__(self, size: int) -> None:
        self.slots = array("Q", bytes(8 * size))
        self.last = size - 1
        self.room = int(size * LOAD)
        self.opened_at: float | None = None
        self.closed_at: float | None = None

    def find(self, hashed: int) -> int:
        """Return the slot of a hash: what is in it, or an empty one where it belongs."""
        slots, last = self.slots, self.last
        at = hashed >> _CODE_BITS & last
        while (found := slots[at]) and found ^ hashed > _CODE:
            at = at + 1 & last
        return at


class Outcomes:
    """What became of the keys that are gone."""

    def __init__(self, smallest: int = SMALLEST, largest: int = LARGEST) -> None:
        """Both are the slots of a chunk, and powers of two."""
        self._chunks: deque[_Chunk] = deque()
        """The oldest first; only the last is being filled, if it is not closed."""
        self._smallest, self._largest = smallest, largest
        self._size = smallest

    @property
    def bytes(self) -> int:
        """How much memory the tables take."""
        return sum(8 * len(chunk.slots) for chunk in self._chunks)

    def note(self, key: str, reason: Reason) -> None:
        """Remember what became of a key, instead of what was remembered of it before."""
        code = _CODES.get(reason)
        if code is None:
            return  # no schedule
        chunk = self._chunks[-1] if self._chunks else None
        if chunk is None or chunk.closed_at is not None or not chunk.room:
            chunk = self._begin(chunk)
        hashed = hash(key) & _HASH
        at = chunk.find(hashed)
        chunk.room -= not chunk.slots[at]
        chunk.slots[at] = hashed | code

    def reason(self, key: str) -> Reason | None:
        """Tell what became of a key; None where that is not known, or not any more."""
        hashed = hash(key) & _HASH
        for chunk in reversed(self._chunks):
            if found := chunk.slots[chunk.find(hashed)]:
                return _REASONS[(found & _CODE) - 1]
        return None

    def turn(self, now: float) -> None:
        """Drop what is over; to be called about once a second."""
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
        """Fill a chunk no more; what comes next is likely to need as much as was used."""
        chunk.closed_at = now
        size = len(chunk.slots)
        if chunk.room > size * LOAD / 2:
            self._size = max(size // 2, self._smallest)
