"""The figures of a run, from what arrived and when."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

MILLISECOND = 1_000_000  # ns
SECOND = 1_000_000_000  # ns


@dataclass(frozen=True, slots=True)
class Result:
    """What a run showed. Times in milliseconds, rates per second."""

    p50_ms: float
    p99_ms: float
    max_ms: float
    delivered_per_s: float
    stored_per_s: float | None
    """None: the first was due before all were stored, so that it cannot be told."""
    lost: int
    twice: int
    early: int

    @property
    def is_sound(self) -> bool:
        """Whether each arrived once, and none before its time."""
        return not (self.lost or self.twice or self.early)


def evaluate(
    count: int,
    numbers: Sequence[int],
    dues_us: Sequence[int],
    arrivals_ns: Sequence[int],
    stored_per_s: float | None,
) -> Result:
    """Make the figures of a run of `count` schedules."""
    late = sorted(at - due * 1000 for at, due in zip(arrivals_ns, dues_us, strict=True))
    times = Counter(numbers)
    span = max(arrivals_ns) - min(arrivals_ns) if late else 0
    return Result(
        p50_ms=percentile(late, 0.50) / MILLISECOND,
        p99_ms=percentile(late, 0.99) / MILLISECOND,
        max_ms=percentile(late, 1.00) / MILLISECOND,
        delivered_per_s=len(numbers) * SECOND / span if span else math.nan,
        stored_per_s=stored_per_s,
        lost=count - len(times),
        twice=len(numbers) - len(times),
        early=sum(1 for one in late if one < 0),
    )


def percentile(ordered: Sequence[int], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
