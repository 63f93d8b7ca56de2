"""The figures of a run, from what arrived and when."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

MILLISECOND = 1_000_000  # ns
SECOND = 1_000_000_000  # ns


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run showed."""

    figures: dict[str, float | None]
    """By name, which ends in the unit; None: it cannot be told."""
    lost: int = 0
    twice: int = 0
    early: int = 0
    late_ns: Sequence[int] = field(default=(), repr=False)
    """How late each arrival was, in ascending order."""

    @property
    def is_sound(self) -> bool:
        """Whether each arrived once, and none before its time."""
        return not (self.lost or self.twice or self.early)


def evaluate(
    count: int, numbers: Sequence[int], dues_us: Sequence[int], arrivals_ns: Sequence[int]
) -> Outcome:
    """Make the figures of a run of `count` schedules."""
    late = sorted(at - due * 1000 for at, due in zip(arrivals_ns, dues_us, strict=True))
    times = Counter(numbers)
    span = max(arrivals_ns) - min(arrivals_ns) if late else 0
    return Outcome(
        figures={
            "p50_ms": _milliseconds(percentile(late, 0.50)),
            "p99_ms": _milliseconds(percentile(late, 0.99)),
            "max_ms": _milliseconds(percentile(late, 1.00)),
            "delivered_per_s": len(numbers) * SECOND / span if span else None,
        },
        lost=count - len(times),
        twice=len(numbers) - len(times),
        early=sum(1 for one in late if one < 0),
        late_ns=late,
    )


def percentile(ordered: Sequence[int], share: float) -> int | None:
    """Return the smallest value that at least this share of the values does not exceed."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def merge(rounds: Sequence[Outcome]) -> Outcome:
    """Return the medians of several rounds; what must not happen is added up."""
    figures: dict[str, float | None] = {}
    for key in rounds[0].figures:
        values = [one.figures[key] for one in rounds]
        told = [value for value in values if value is not None]
        figures[key] = statistics.median(told) if told else None
    return Outcome(
        figures,
        lost=sum(one.lost for one in rounds),
        twice=sum(one.twice for one in rounds),
        early=sum(one.early for one in rounds),
        late_ns=sorted(late for one in rounds for late in one.late_ns),
    )


def _milliseconds(ns: int | None) -> float | None:
    return None if ns is None else ns / MILLISECOND
