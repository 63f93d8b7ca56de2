"""Waits for receivers, on the steady clock, while their answers can arrive. Pure.

A wait counts from the last sign of life, or from when this leader began to receive, whichever is
later: after a takeover, a new connection, or a pause of the process. So it may be shorter than a
takeover takes.
"""

from __future__ import annotations

from heapq import heappop, heappush

GAP = 1.0  # seconds between two looks after which the daemon counts as paused
NEVER = float("inf")


class RunWaits:
    """When each run counts as unanswered."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []
        self._signs: dict[str, tuple[float, float]] = {}
        """When the receiver of each run last gave a sign of life, and how long it may be silent."""
        self._look_at: dict[str, float] = {}
        """When each run is looked at next; later times for it in the heap are ignored."""
        self._heard_since = self._looked_at = 0.0

    def __contains__(self, key: str) -> bool:
        return key in self._signs

    def begin_hearing(self, now: float) -> None:
        """Count no silence before now: nothing could be received then."""
        self._heard_since = self._looked_at = now

    def note(self, key: str, seconds: float, now: float) -> None:
        """Wait for the receiver of a run, which just gave a sign of life or gets its message."""
        self._signs[key] = now, seconds
        if self._look_at.get(key, NEVER) > now + seconds:
            self._set(key, now + seconds)

    def end(self, key: str) -> None:
        """Stop waiting for a run."""
        self._signs.pop(key, None)

    def clear(self) -> None:
        """Stop waiting for all runs."""
        self._signs.clear()
        self._look_at.clear()
        self._heap.clear()

    def late(self, now: float, renewed_at: float, most: int) -> list[str]:
        """Return up to `most` runs whose receivers were silent for too long, each once.

        Call it several times a second. `renewed_at` is when the last successful renewal of
        the lease was sent: a leader without one since cannot know what others received.
        """
        if now - self._looked_at > GAP:
            self._heard_since = now
        self._looked_at = now
        late: list[str] = []
        heap = self._heap
        while heap and heap[0][0] <= now and len(late) < most:
            at, key = heappop(heap)
            if self._look_at.get(key) != at:
                continue
            del self._look_at[key]
            known = self._signs.get(key)
            if known is None:
                continue
            sign, seconds = known
            until = max(sign, self._heard_since) + seconds
            if until > now:
                self._set(key, until)
            elif renewed_at < until:
                self._set(key, now + GAP / 4)
            else:
                del self._signs[key]
                late.append(key)
        return late

    def _set(self, key: str, at: float) -> None:
        self._look_at[key] = at
        heappush(self._heap, (at, key))
