"""What a daemon has done so far, counted."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from itertools import accumulate, repeat

WINDOW = 60.0  # seconds
STEPS = 8  # intervals for each doubling: a figure is exact to a sixteenth
_BITS = 3  # STEPS is two to this power

LIMITS_US = (
    *(100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000),
    *(1_000_000, 2_000_000, 5_000_000, 10_000_000, 20_000_000, 30_000_000, 60_000_000),
)
"""Microseconds: the upper ends of the buckets in which all deliveries are counted."""


class Lateness:
    """How many deliveries were how late, in intervals that grow with the lateness.

    Two windows follow each other, so that figures cover between one minute and two. Apart from
    these, all deliveries are counted in the few buckets of `LIMITS_US`.
    """

    __slots__ = ("_all", "_before", "_began", "_now", "sum_us")

    def __init__(self) -> None:
        self._now: Counter[int] = Counter()
        self._before: Counter[int] = Counter()
        self._all: Counter[int] = Counter()
        self._began = 0.0
        self.sum_us = 0
        """The lateness of all deliveries together."""

    def note(self, late_us: list[int], at: float) -> None:
        """Count some deliveries, `at` seconds of a steady clock."""
        self._turn(at)
        self._now.update(map(_interval, late_us))
        self._all.update(map(bisect_left, repeat(LIMITS_US), late_us))
        self.sum_us += sum(late_us)

    def cumulated(self) -> list[int]:
        """Return how many of all deliveries were late by each of `LIMITS_US` at most, then all."""
        counts = (self._all[number] for number in range(len(LIMITS_US) + 1))
        return list(accumulate(counts))

    def quantiles(self, *shares: float, at: float) -> list[int]:
        """Return the lateness, in microseconds, that these shares of the deliveries had at most.

        0 for each where there was no delivery.
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
    """Requests taken: to schedule and to cancel."""
    delivered: int = 0
    """Messages that the server confirmed to have."""
    refused: Counter[str] = field(default_factory=Counter)
    """Requests, and ids of the leader's verbs, refused, by the code of the reason."""
    refused_by_verbs: int = 0
    """Those of them that were no requests."""
    calls: Counter[str] = field(default_factory=Counter)
    """Calls of each of the leader's verbs that were answered."""
    refused_calls: Counter[str] = field(default_factory=Counter)
    """Those of them that were refused, or some of whose ids were."""
    undeliverable: int = 0
    """Attempts that the server did not permit, or that do not fit."""
    retried: int = 0
    """Attempts in vain, after which a message is sent again unless it is given up."""
    failed: int = 0
    """Messages given up: tried as often as was asked for, or not to be handed over."""
    held_back: float = 0.0
    """Seconds for which what was due waited for `--max-deliver-rate`."""
    missed: int = 0
    """Schedules that were left out because they were too late."""
    latest_us: int = 0
    """The greatest lateness of a delivery, in microseconds."""
    lateness: Lateness = field(default_factory=Lateness)
    """How late the deliveries of the last minute or two were."""
