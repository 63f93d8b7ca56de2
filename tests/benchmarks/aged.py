"""What deliveries of the past cost: the same questions before a long run and right after it.

The scheduler is examined with nothing but what is pending in its store, then delivers at a
steady rate, and is examined again. What was sent meanwhile is due a little ahead, so hardly more
is pending at any moment than before.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from tests.benchmarks.contenders import Contender
from tests.benchmarks.load import NANOSECONDS, Plan, process, receive, stream
from tests.benchmarks.processes import cpu_seconds
from tests.benchmarks.result import MILLISECOND, Outcome, evaluate, percentile
from tests.benchmarks.ways import MICROSECONDS

LONGEST_WINDOW = 30.0  # seconds at the beginning and at the end that are compared
SETTLED = 1.0  # seconds from the first due time to the beginning
LAST = 0.3  # seconds before the last due time that the end ends: all of it is still under way


def measure_aged(contender: Contender, plan: Plan) -> Outcome:
    """Run the scenario: examine, deliver, examine."""
    before = contender.examine() | contender.size()
    window = min(LONGEST_WINDOW, plan.duration / 4)
    with process(receive, plan) as receiver:
        receiver.recv()  # it listens
        with process(stream, plan) as sender:
            first = sender.recv() / NANOSECONDS
            begins = (first + SETTLED, first + plan.duration - window - LAST)
            used: list[float | None] = []
            half: dict[str, float | None] = {}
            for begin in begins:
                if used:
                    _sleep_until(first + plan.duration / 2)
                    half = contender.size()
                _sleep_until(begin)
                cpu = cpu_seconds(contender.pid)
                _sleep_until(begin + window)
                now = cpu_seconds(contender.pid)
                used.append(None if cpu is None or now is None else now - cpu)
            sender.recv()  # it is done
        _sleep_until(first + plan.duration)
        after = contender.size()
        numbers, dues, arrivals = receiver.recv()
    after |= contender.examine()
    outcome = evaluate(plan.count, numbers, dues, arrivals)
    figures = outcome.figures | compared(before, after)
    figures |= {f"{key}_half": value for key, value in half.items()}
    parts: list[dict[str, float | None]] = []
    for begin, cpu in zip(begins, used, strict=True):
        late = sorted(
            at - due * 1000
            for due, at in zip(dues, arrivals, strict=True)
            if begin <= due / MICROSECONDS < begin + window
        )
        p99 = percentile(late, 0.99)
        parts.append(
            {
                "p99_ms": None if p99 is None else p99 / MILLISECOND,
                "cpu_us": None if cpu is None or not late else cpu / len(late) * MICROSECONDS,
            }
        )
    first_part, last_part = parts
    for key, value in first_part.items():
        name = key.partition("_")[0]
        figures |= {f"{key}_first": value, key: last_part[key]}
        figures[f"{name}_times"] = _times(value, last_part[key])
    return replace(outcome, figures=figures)


def compared(
    before: Mapping[str, float | None], after: Mapping[str, float | None]
) -> dict[str, float | None]:
    """Return both, how many times as much each is afterwards, and how much more."""
    figures = {f"{key}_before": value for key, value in before.items()} | dict(after)
    for key, value in before.items():
        name = key.rpartition("_")[0] or key
        later = after.get(key)
        figures[f"{name}_times"] = _times(value, later)
        figures[f"{name}_more"] = None if value is None or later is None else later - value
    return figures


def _times(before: float | None, after: float | None) -> float | None:
    return after / before if before and after is not None else None


def _sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.time()))
