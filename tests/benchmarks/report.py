"""What was measured, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.result import Outcome
from tests.benchmarks.scenarios import COUNT, FLATNESS, GROWING, GROWTH, Figure, Scenario

INCOMPARABLE = ("MB", "%", "us", "x", COUNT)
"""Units of what is the daemon's on one side, and the whole server's on the other."""

LABEL = 30  # columns that a figure's label has
HEADER = ("", "asked", "gozo", "server's own", "better by", "")
NOTE = """\
Lateness is from the due time to when the receiver's process had read the message, by the one
clock of this machine: the server and two ways through the loopback included. The server's own
schedules go into a stream and come out of a push consumer without acknowledgements. Their
memory and CPU are those of the whole server, those of gozo are the daemon's."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A scenario, and what came of it."""

    scenario: Scenario
    gozo: Outcome
    server: Outcome | None

    @property
    def is_sound(self) -> bool:
        """Whether nothing was lost, came twice or early."""
        return self.gozo.is_sound and (self.server is None or self.server.is_sound)


def as_json(conditions: dict[str, Any], comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """Return everything, ready to be printed as JSON."""
    scenarios = {}
    for one in comparisons:
        scenarios[one.scenario.name] = {
            "title": one.scenario.heading,
            "asked": {
                figure.key: bounds for figure in one.scenario.figures if (bounds := _bounds(figure))
            },
            "gozo": _outcome_as_json(one.gozo),
            "server": None if one.server is None else _outcome_as_json(one.server),
        }
    growth = {
        figure.key: factor
        for figure in GROWING
        if (factor := _factor(comparisons, figure.key)) is not None
    }
    return {"conditions": conditions, "scenarios": scenarios, "growth": growth}


def _bounds(figure: Figure) -> dict[str, float]:
    bounds = {
        "at_most": figure.at_most,
        "at_least": figure.at_least,
        "share_of_server": figure.share,
    }
    return {name: bound for name, bound in bounds.items() if bound is not None}


def _outcome_as_json(outcome: Outcome) -> dict[str, Any]:
    counts = {"lost": outcome.lost, "twice": outcome.twice, "early": outcome.early}
    return outcome.figures | counts


def as_text(conditions: dict[str, Any], comparisons: Sequence[Comparison]) -> str:
    """Return the table and under which conditions it was measured."""
    rows = [HEADER, *(row for one in comparisons for row in _rows(one)), *_growth(comparisons)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = []
    for first, *rest in rows:
        if not any(rest):
            lines += ["", first]
            continue
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        lines.append("  ".join([first.ljust(LABEL), *cells]).rstrip())
    about = (
        f"nats-server {conditions['nats_server']}, file storage, sync_interval: "
        f"{conditions['sync_interval']}; Python {conditions['python']}, "
        f"{conditions['cores']} cores; rounds: {conditions['rounds']}"
    )
    return "\n".join([about, "", *lines, "", NOTE])


def _rows(one: Comparison) -> Iterator[tuple[str, ...]]:
    yield (f"{one.scenario.name}: {one.scenario.heading}", "", "", "", "", "")
    for figure in one.scenario.figures:
        value = one.gozo.figures.get(figure.key)
        rival = None if one.server is None else one.server.figures.get(figure.key)
        reached = None if value is None else figure.is_reached(value, rival)
        yield (
            f"  {figure.label}",
            _asked(figure, rival),
            _number(value, figure.unit),
            _number(rival, figure.unit),
            _ratio(value, rival, figure.unit),
            "not reached" if reached is False else "",
        )
    yield (
        "  lost, twice, early",
        "0, 0, 0",
        _counts(one.gozo),
        "-" if one.server is None else _counts(one.server),
        "",
        "" if one.is_sound else "not reached",
    )


def _growth(comparisons: Sequence[Comparison]) -> Iterator[tuple[str, ...]]:
    found = [(figure, _factor(comparisons, figure.key)) for figure in GROWING]
    if any(factor is not None for _, factor in found):
        yield ("growth: the most of these against the least", "", "", "", "", "")
    for figure, factor in found:
        if factor is not None:
            reached = "" if factor <= FLATNESS else "not reached"
            asked = f"<= {FLATNESS:g}"
            yield (f"  {figure.label}", asked, f"{factor:.2f}", "", "", reached)


def _factor(comparisons: Sequence[Comparison], key: str) -> float | None:
    """Return how much larger a figure is at its most than at its least, over all of `GROWTH`."""
    names = {scenario.name for scenario in GROWTH}
    values = [
        value
        for one in comparisons
        if one.scenario.name in names and (value := one.gozo.figures.get(key))
    ]
    return max(values) / min(values) if len(values) > 1 else None


def _asked(figure: Figure, rival: float | None) -> str:
    if figure.at_most is not None:
        return f"<= {_number(figure.at_most, figure.unit)}"
    if figure.at_least is not None:
        return f">= {_number(figure.at_least, figure.unit)}"
    if figure.share is not None and rival is not None:
        return f"<= {_number(figure.share * rival, figure.unit)}"
    return ""


def _number(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    digits = 0 if value >= 100 or unit == COUNT else 1 if value >= 10 else 2
    return f"{value:,.{digits}f}{unit if unit in ('/s', COUNT) else f' {unit}'}"


def _ratio(value: float | None, rival: float | None, unit: str) -> str:
    """Return how many times as good as the server's own figure a figure is."""
    if not value or not rival or unit in INCOMPARABLE:
        return ""
    ratio = value / rival if unit == "/s" else rival / value
    return f"{ratio:,.0f} x" if ratio >= 10 else f"{ratio:.2g} x"


def _counts(outcome: Outcome) -> str:
    return f"{outcome.lost}, {outcome.twice}, {outcome.early}"
