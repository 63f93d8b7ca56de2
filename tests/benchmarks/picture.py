"""The picture of the lateness: gozo and the server's own, on a logarithmic scale. Plain SVG."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from tests.benchmarks.report import Comparison
from tests.benchmarks.result import MILLISECOND, percentile
from tests.benchmarks.scenarios import Kind, Scenario

WIDTH, HEIGHT = 760, 310
LEFT, RIGHT, TOP, BOTTOM = 24, 736, 98, 264  # the frame of the curves
BINS = 16  # per decade
FIRST, LAST = -2, 3  # decades of milliseconds: from 0.01 ms to 1 s

STYLE = """\
  <style>
    text { font: 13px system-ui, sans-serif; fill: #57606a }
    .title { font-size: 15px; font-weight: 600; fill: #1f2328 }
    .grid { stroke: #d0d7de }
    .gozo { fill: #0969da } .server { fill: #bc4c00 }
    path { fill-opacity: 0.35; stroke-width: 1.5 }
    path.gozo { stroke: #0969da } path.server { stroke: #bc4c00 }
    text.gozo, text.server { font-weight: 600 }
    @media (prefers-color-scheme: dark) {
      text { fill: #9198a1 }
      .title { fill: #f0f6fc }
      .grid { stroke: #3d444d }
      .gozo { fill: #4493f8 } .server { fill: #f0883e }
      path.gozo { stroke: #4493f8 } path.server { stroke: #f0883e }
    }
  </style>"""


def draw(comparisons: Sequence[Comparison]) -> str | None:
    """Draw the first scenario in which both were late; None if there is none."""
    for one in comparisons:
        if not can_draw(one.scenario) or one.server is None:
            continue
        if one.gozo.late_ns and one.server.late_ns:
            return "\n".join(_lines(one.scenario.heading, one.gozo.late_ns, one.server.late_ns))
    return None


def can_draw(scenario: Scenario) -> bool:
    """Tell whether a scenario's lateness is worth a picture."""
    return scenario.kind is Kind.SPREAD and scenario.rivalled


def _lines(title: str, gozo: Sequence[int], server: Sequence[int]) -> Iterator[str]:
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img">'
    )
    yield f"  <title>How late messages arrive: {title}</title>"
    yield STYLE
    yield f'  <text class="title" x="{LEFT}" y="24">How late messages arrive</text>'
    yield f'  <text x="{LEFT}" y="44">{title}; the scale is logarithmic</text>'
    for decade in range(FIRST, LAST + 1):
        x = _x(decade)
        yield f'  <line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{BOTTOM}"/>'
        anchor, tick = _anchor(decade), _tick(decade)
        yield f'  <text x="{x:.1f}" y="{BOTTOM + 20}" text-anchor="{anchor}">{tick}</text>'
    yield f'  <line class="grid" x1="{LEFT}" y1="{BOTTOM}" x2="{RIGHT}" y2="{BOTTOM}"/>'
    shares = {"gozo": _shares(gozo), "server": _shares(server)}
    most = max(max(share.values()) for share in shares.values())
    for name, late, label in (
        ("gozo", gozo, "gozo"),
        ("server", server, "schedules of nats-server"),
    ):
        yield f'  <path class="{name}" d="{_outline(shares[name], most)}"/>'
        yield _legend(name, label, late)
    yield "</svg>\n"


def _x(decade: float) -> float:
    """Return where a power of ten of milliseconds is."""
    return LEFT + (decade - FIRST) / (LAST - FIRST) * (RIGHT - LEFT)


def _anchor(decade: int) -> str:
    return "start" if decade == FIRST else "end" if decade == LAST else "middle"


def _tick(decade: int) -> str:
    return "1 s" if decade == LAST else f"{10.0**decade:g} ms"


def _decade(late_ns: int) -> float:
    """Return a lateness as a power of ten of milliseconds, within the picture."""
    return min(max(math.log10(max(late_ns, 1) / MILLISECOND), FIRST), LAST)


def _shares(late_ns: Sequence[int]) -> dict[int, float]:
    """Return which share of the messages falls into each bin."""
    bins = Counter(
        min(int((_decade(one) - FIRST) * BINS), (LAST - FIRST) * BINS - 1) for one in late_ns
    )
    return {number: count / len(late_ns) for number, count in bins.items()}


def _outline(shares: dict[int, float], most: float) -> str:
    """Return the outline of the bins that are in use, from the ground to the ground."""
    first, last = min(shares), max(shares)
    points = [f"M{_x(FIRST + first / BINS):.1f} {BOTTOM}"]
    for number in range(first, last + 1):
        y = BOTTOM - shares.get(number, 0.0) / most * (BOTTOM - TOP)
        left, right = _x(FIRST + number / BINS), _x(FIRST + (number + 1) / BINS)
        points.append(f"L{left:.1f} {y:.1f}L{right:.1f} {y:.1f}")
    points.append(f"L{_x(FIRST + (last + 1) / BINS):.1f} {BOTTOM}Z")
    return "".join(points)


def _legend(name: str, label: str, late_ns: Sequence[int]) -> str:
    """Return the label with its figures, above the median."""
    median, most = percentile(late_ns, 0.5) or 0, percentile(late_ns, 0.99) or 0
    decade = _decade(median)
    x = min(max(_x(decade), LEFT + 90), RIGHT - 110)
    figures = f"p50 {_print(median)}, p99 {_print(most)}"
    return (
        f'  <text class="{name}" x="{x:.1f}" y="{TOP - 20}" text-anchor="middle">{label}</text>\n'
        f'  <text x="{x:.1f}" y="{TOP - 4}" text-anchor="middle">{figures}</text>'
    )


def _print(late_ns: int) -> str:
    ms = late_ns / MILLISECOND
    return f"{ms:.0f} ms" if ms >= 10 else f"{ms:.2g} ms"
