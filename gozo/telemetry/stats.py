"""Counts what a daemon has done since its start."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate, repeat

WINDOW = 60.0  # seconds
STEPS = 8  # intervals for each doubling, so that values are exact to a sixteenth
_BITS = 3  # STEPS is two to this power

LIMITS_US = (
    *(100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000),
    *(1_000_000, 2_000_000, 5_000_000, 10_000_000, 20_000_000, 30_000_000, 60_000_000),
)
"""The upper bounds of the buckets that count all deliveries, in microseconds."""


class Lateness:
    """A histogram of lateness, in intervals that grow with the lateness.

    Two windows alternate, so that quantiles cover one to two minutes. All deliveries since the
    start are counted too, in the few buckets of `LIMITS_US`.
    """

    __slots__ = ("_all", "_before", "_began", "_now", "sum_us")

    def __init__(self) -> None:
        self._now: Counter[int] = Counter()
        self._before: Counter[int] = Counter()
        self._all: Counter[int] = Counter()
        self._began = 0.0
        self.sum_us = 0
        """The sum of the lateness of all deliveries."""

    def note(self, late_us: list[int], at: float) -> None:
        """Count some deliveries, `at` seconds of a steady clock."""
        self._turn(at)
        self._now.update(map(_interval, late_us))
        self._all.update(map(bisect_left, repeat(LIMITS_US), late_us))
        self.sum_us += sum(late_us)

    def cumulated(self) -> list[int]:
        """Return how many deliveries were late by at most each of `LIMITS_US`, then their total."""
        counts = (self._all[number] for number in range(len(LIMITS_US) + 1))
        return list(accumulate(counts))

    def quantiles(self, *shares: float, at: float) -> list[int]:
        """Return the quantiles of the lateness for some shares of the deliveries, in microseconds.

        All are 0 without a delivery.
        """
        self._turn(at)
        counts = self._before + self._now
        total = counts.total()
        found: list[int] = []
        for share in shares:
            left = share * total
            value = 0
            for interval in sorted(counts):
                value = _upper(interval)
                left -= counts[interval]
                if left <= 0:
                    break
            found.append(value)
        return found

    def _turn(self, at: float) -> None:
        if at - self._began < WINDOW:
            return
        self._before = self._now if at - self._began < 2 * WINDOW else Counter()
        self._now = Counter()
        self._began = at


def _interval(us: int) -> int:
    if us < STEPS:
        return max(us, 0)
    shift = us.bit_length() - _BITS - 1
    return (shift + 1) * STEPS + (us >> shift) - STEPS


def _upper(interval: int) -> int:
    if interval < STEPS:
        return interval
    shift, step = divmod(interval, STEPS)
    return ((step + STEPS + 1) << (shift - 1)) - 1


@dataclass(slots=True)
class Stats:
    """Counts since the start of the process."""

    accepted: int = 0
    """Requests accepted, to schedule and to cancel."""
    delivered: int = 0
    """Messages delivered: the server, or a stream, has confirmed them."""
    refused: Counter[str] = field(default_factory=Counter)
    """Refused requests, and ids that the leader's verbs refused, by refusal code."""
    refused_by_verbs: int = 0
    """How many of these the verbs refused."""
    calls: Counter[str] = field(default_factory=Counter)
    """Answered calls of the leader's verbs, by verb."""
    refused_calls: Counter[str] = field(default_factory=Counter)
    """Of these, calls that were refused, or some of whose ids were."""
    undeliverable: int = 0
    """Failed attempts: denied, too large, or refused or not acknowledged by a stream."""
    retried: int = 0
    """Failed attempts, and those repeated at once since no stream acknowledged the first."""
    failed: int = 0
    """Messages given up: no attempts were left, or no replica to hand them over to."""
    dead_letters: int = 0
    """Of those, messages that a stream took as dead letters."""
    held_back: float = 0.0
    """Seconds that due messages waited because of `--max-deliver-rate`."""
    missed: int = 0
    """Schedules and occurrences that were skipped because they were too late."""
    skipped: int = 0
    """Occurrences skipped because earlier ones of their schedule were not settled."""
    answers: Counter[str] = field(default_factory=Counter)
    """Answers of receivers, by what they say."""
    invalid_headers: int = 0
    """Headers of answers that were ignored because their values are invalid."""
    outcomes: Counter[str] = field(default_factory=Counter)
    """Occurrences that their receivers have to confirm, by outcome."""
    unanswered: int = 0
    """Attempts whose receivers were silent for too long."""
    latest_us: int = 0
    """The greatest lateness of a delivery, in microseconds."""
    lateness: Lateness = field(default_factory=Lateness)
    """The histogram of lateness."""
