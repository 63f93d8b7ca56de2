"""Changes that the bucket has not taken yet: which of them are retried, and when. Pure.

Each has its own back-off. Attempts are so rare overall that thousands of waiting changes do not
measurably slow down others. Each that succeeds triggers two more attempts, so that all of them are
done in a moment once the bucket takes changes again.

Callers pass the time in: seconds of the steady clock.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count

from gozo.store.changes import NO_DEADLINE, Write

FIRST_WAIT, LONGEST_WAIT = 0.25, 2.0  # seconds between two attempts, where few changes wait
ROUND = 0.25  # seconds between two rounds of attempts, as long as none succeeds
LEAST_TRIES, MOST_TRIES = 4, 100  # attempts in a round
ROUNDS = 128  # in which each is tried once, where there are so many that they exceed the least


class Waiting:
    """A queue of changes by the time of their next attempt."""

    def __init__(self) -> None:
        self.queue: list[tuple[float, int, Write]] = []
        """The changes, in no order but that the next is the first."""
        self._deadlines: list[tuple[float, int, Write, str]] = []
        self._numbers = count()
        self._round_at = 0.0
        """When the next round may begin."""

    @property
    def tries(self) -> int:
        """How many are tried in a round."""
        return min(max(len(self.queue) // ROUNDS, LEAST_TRIES), MOST_TRIES)

    def add(self, change: Write, words: str, now: float) -> None:
        """Let a change wait, at most until its deadline; `words` say why."""
        # Half as often as rounds would let them, so that one that is new gets its turn soon.
        longest = max(LONGEST_WAIT, 2 * ROUND * len(self.queue) / self.tries)
        change.wait = min(2 * change.wait, longest) or FIRST_WAIT
        change.parked = True
        heappush(self.queue, (now + change.wait, next(self._numbers), change))
        if change.deadline < NO_DEADLINE:
            heappush(self._deadlines, (change.deadline, next(self._numbers), change, words))

    def next_at(self) -> float:
        """When to look again; `NO_DEADLINE` where nothing waits."""
        at = max(self.queue[0][0], self._round_at) if self.queue else NO_DEADLINE
        return min(at, self._deadlines[0][0]) if self._deadlines else at

    def late(self, now: float) -> list[tuple[Write, str]]:
        """Take out what is to be given up, each with the reason."""
        late: list[tuple[Write, str]] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, _, change, words = heappop(self._deadlines)
            if change.parked:
                change.parked = False
                late.append((change, words))
        return late

    def due(self, now: float) -> list[Write]:
        """Begin a round, if it is time for one: take out what is to be tried."""
        if now < self._round_at:
            return []
        self._round_at = now + ROUND
        return self._take(self.tries, now)

    def after_success(self, change: Write, now: float) -> list[Write]:
        """Take out what is to be tried because the bucket took a change.

        A change that never waited proves little for the others: for all of these together, one
        other is tried in a round.
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
            if change.parked:  # else it is done, or another took its place
                change.parked = False
                taken.append(change)
        return taken
