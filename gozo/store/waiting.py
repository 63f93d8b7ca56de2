"""Changes that the bucket has not accepted yet: which are retried, and when. Pure.

Each change has its own back-off. Attempts are so rare overall that thousands of waiting changes do
not measurably slow down others. Each success triggers two more attempts, so that all changes are
done soon after the bucket accepts changes again.

Callers pass the time, in seconds of the steady clock.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count

from gozo.store.changes import NO_DEADLINE, Write

FIRST_WAIT, LONGEST_WAIT = 0.25, 2.0  # seconds between two attempts, while few changes wait
ROUND = 0.25  # seconds between two rounds of attempts, while none succeeds
LEAST_TRIES, MOST_TRIES = 4, 100  # attempts in a round
ROUNDS = 128  # rounds in which each change is tried once, if there are enough changes


class Waiting:
    """A queue of changes by the time of their next attempt."""

    def __init__(self) -> None:
        self.queue: list[tuple[float, int, Write]] = []
        """The changes, as a heap: the first one is the next to be tried."""
        self._deadlines: list[tuple[float, int, Write, str]] = []
        self._numbers = count()
        self._round_at = 0.0
        """The earliest time of the next round."""

    @property
    def tries(self) -> int:
        """How many changes are tried in a round."""
        return min(max(len(self.queue) // ROUNDS, LEAST_TRIES), MOST_TRIES)

    def add(self, change: Write, words: str, now: float) -> None:
        """Add a change, to wait until its deadline at most; `words` say why."""
        # Half as often as the rounds allow, so that a new change gets its turn soon.
        longest = max(LONGEST_WAIT, 2 * ROUND * len(self.queue) / self.tries)
        change.wait = min(2 * change.wait, longest) or FIRST_WAIT
        change.parked = True
        heappush(self.queue, (now + change.wait, next(self._numbers), change))
        if change.deadline < NO_DEADLINE:
            heappush(self._deadlines, (change.deadline, next(self._numbers), change, words))

    def next_at(self) -> float:
        """When to call `late` and `due` again; `NO_DEADLINE` if nothing waits."""
        at = max(self.queue[0][0], self._round_at) if self.queue else NO_DEADLINE
        return min(at, self._deadlines[0][0]) if self._deadlines else at

    def late(self, now: float) -> list[tuple[Write, str]]:
        """Remove and return the changes to give up, each with the reason."""
        late: list[tuple[Write, str]] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, _, change, words = heappop(self._deadlines)
            if change.parked:
                change.parked = False
                late.append((change, words))
        return late

    def due(self, now: float) -> list[Write]:
        """Start a round if it is time for one: remove and return the changes to try."""
        if now < self._round_at:
            return []
        self._round_at = now + ROUND
        return self._take(self.tries, now)

    def after_success(self, change: Write, now: float) -> list[Write]:
        """Remove and return the changes to try because another one succeeded.

        The success of a change that never waited says little about the others: all such changes
        together trigger one attempt in a round.
        """
        if change.wait:
            return self._take(2, NO_DEADLINE)
        if now < self._round_at:
            return []
        self._round_at = now + ROUND
        return self._take(1, NO_DEADLINE)

    def _take(self, most: int, until: float) -> list[Write]:
        taken: list[Write] = []
        while self.queue and self.queue[0][0] <= until and len(taken) < most:
            change = heappop(self.queue)[2]
            if change.parked:  # else it is done or superseded
                change.parked = False
                taken.append(change)
        return taken
