"""The answers that a replica which does not act on them keeps for a while. Pure.

Anybody who may publish on their subjects can send any number of them, with reply subjects as long
as the server allows. So the bytes that they take are limited, and the oldest are dropped.
"""

from __future__ import annotations

from collections import deque

from gozo.delivery.run_outcomes import Heard

KEPT = 60.0  # seconds; a change of lead takes less
MOST_BYTES = 20 * 1024 * 1024
OVERHEAD = 420  # bytes of an answer in memory without its texts, measured


class KeptAnswers:
    """Answers, the oldest first."""

    def __init__(self) -> None:
        self._answers: deque[tuple[float, Heard]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._answers)

    def add(self, heard: Heard, now: float) -> None:
        """Keep an answer that has just come; drop those that are too old or too many."""
        self._answers.append((now, heard))
        self._bytes += _size(heard)
        while self._answers[0][0] < now - KEPT or self._bytes > MOST_BYTES:
            self._bytes -= _size(self._answers.popleft()[1])

    def take(self, now: float) -> list[Heard]:
        """Return the answers that are not too old, and keep none."""
        kept = [heard for at, heard in self._answers if at >= now - KEPT]
        self._answers.clear()
        self._bytes = 0
        return kept


def _size(heard: Heard) -> int:
    """Return how many bytes an answer takes, at most; a character may take four."""
    return OVERHEAD + len(heard.reply) + 4 * len(heard.answer.reason)
