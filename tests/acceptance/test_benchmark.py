"""The benchmark works; what it measures is for people to read, not for tests to judge."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.aged import compared
from tests.benchmarks.contenders import has_schedules
from tests.benchmarks.report import Comparison, as_text
from tests.benchmarks.result import Outcome, evaluate, merge
from tests.benchmarks.scenarios import GROWTH, SCENARIOS, Figure, Scenario
from tests.support.patience import allow
from tests.support.readme import ROOT

SMALL = {
    "single": ("p50_ms",),
    "restart": ("restart_s", "memory_mb"),
    "idle": ("cpu_percent",),
    "busy": ("p99_ms", "cpu_us"),
}
"""A scenario of each kind, and figures that it must show."""

CONDITIONS = {
    "nats_server": "2.15.1",
    "sync_interval": "default",
    "python": "3.11.7",
    "cores": 2,
    "rounds": 1,
}


async def benchmark(*options: str) -> Any:
    """Run it, and return what it prints as JSON."""
    result = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "tests.benchmarks", "--json", *options],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=allow(40),
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("rate", [400, 0])
async def test_custom_run(rate: int) -> None:
    """200 schedules, spread or all at once: none lost, none twice, none early."""
    options = ["--alone", "--count", "200", "--lead", "1", "--rate", str(rate)]
    figures = (await benchmark(*options))["scenarios"]["custom"]["gozo"]
    assert (figures["lost"], figures["twice"], figures["early"]) == (0, 0, 0)
    assert 0 <= figures["p50_ms"] <= figures["p99_ms"] <= figures["max_ms"]


async def test_small_scale(tmp_path: Path) -> None:
    """Scenarios of every kind run on both sides of the comparison, and a picture shows it."""
    picture = tmp_path / "lateness.svg"
    options = ["--scale", "0.002", "--only", ",".join(SMALL), "--picture", str(picture)]
    printed = await benchmark(*options)
    found = printed["scenarios"]
    assert list(found) == list(SMALL)
    compared = has_schedules(printed["conditions"]["nats_server"])
    for name, figures in SMALL.items():
        for side in ("gozo", "server") if compared else ("gozo",):
            outcome = found[name][side]
            assert (outcome["lost"], outcome["twice"], outcome["early"]) == (0, 0, 0), (name, side)
            assert all(outcome[figure] is not None for figure in figures), (name, side)
    if compared:
        drawn = ET.parse(picture).getroot()  # noqa: S314 - our own picture
        assert len(drawn.findall("{http://www.w3.org/2000/svg}path")) == 2


async def test_aged() -> None:
    """What is looked at before the deliveries is looked at again after them."""
    options = ["--alone", "--scale", "0.001", "--only", "aged"]
    figures = (await benchmark(*options))["scenarios"]["aged"]["gozo"]
    assert (figures["lost"], figures["twice"], figures["early"]) == (0, 0, 0)
    for key in ("list_s", "status_s", "client_s", "completion_s", "restart_s", "load_s"):
        assert min(figures[key], figures[f"{key}_before"]) > 0, key
    for key in ("takeover_s", "memory_mb", "standby_mb", "stored_mb"):
        assert min(figures[key], figures[f"{key}_before"]) > 0, key
    assert figures["offered_before"] == figures["offered"] == 11
    assert figures["messages_before"] >= 1_000
    assert figures["delivered_before"] == 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--only", "steady,stedy"], "'stedy'"),
        (["--only", "idle", "--picture", "lateness.svg"], "--picture"),
    ],
)
async def test_bad_options(options: list[str], named: str) -> None:
    """What cannot be done is told before anything runs, with exit code 2."""
    result = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "tests.benchmarks", *options],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert result.returncode == 2
    assert named in result.stderr.splitlines()[-1]


def test_figures() -> None:
    """Lost, twice and early are told apart, and percentiles are those of the arrivals."""
    dues = [1_000_000, 2_000_000, 3_000_000, 3_000_000]  # microseconds
    late = [1_000_000, 2_000_000, -1, 4_000_000]  # nanoseconds
    arrivals = [due * 1000 + one for due, one in zip(dues, late, strict=True)]
    outcome = evaluate(5, [0, 1, 2, 2], dues, arrivals)
    assert (outcome.lost, outcome.twice, outcome.early) == (2, 1, 1)
    assert (outcome.figures["p50_ms"], outcome.figures["max_ms"]) == (1.0, 4.0)
    assert not outcome.is_sound


def test_rounds() -> None:
    """Of several rounds the medians are shown, and one that is lost is not lost among them."""
    rounds = [Outcome({"p50_ms": value}, lost=value == 9) for value in (1.0, 9.0, None, 2.0)]
    merged = merge(rounds)
    assert merged.figures == {"p50_ms": 2.0}
    assert merged.lost == 1


def test_table() -> None:
    """The table shows both sides, what is asked, and what is not reached."""
    figures = (
        Figure("p50_ms", "lateness p50", "ms", at_most=0.2),
        Figure("p99_ms", "lateness p99", "ms", share=0.5),
        Figure("stored_per_s", "stored", "/s", at_least=40_000),
    )
    scenario = Scenario("some", "{count} with ids", figures, count=1_500)
    gozo = Outcome({"p50_ms": 0.1, "p99_ms": 150.0, "stored_per_s": 30_000.0})
    server = Outcome({"p50_ms": 125.0, "p99_ms": 200.0, "stored_per_s": 60_000.0}, lost=3)
    text = as_text(CONDITIONS, [Comparison(scenario, gozo, server)])
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert "some: 1,500 with ids" in rows
    assert "lateness p50 <= 0.20 ms 0.10 ms 125 ms 1,250 x" in rows
    assert "lateness p99 <= 100 ms 150 ms 200 ms 1.3 x not reached" in rows
    assert "stored >= 40,000/s 30,000/s 60,000/s 0.5 x not reached" in rows
    assert "lost, twice, early 0, 0, 0 0, 0, 0 3, 0, 0 not reached" in rows


def test_growth() -> None:
    """What grows with the number of pending is shown as a factor, and judged."""
    comparisons = [
        Comparison(
            scenario, Outcome({"p99_ms": p99, "cpu_us": 100.0, "delivered_before": 60_000}), None
        )
        for scenario, p99 in zip(GROWTH, (1.0, 0.5, 1.0, 2.0), strict=True)
    ]
    rows = [" ".join(line.split()) for line in as_text(CONDITIONS, comparisons).splitlines()]
    assert "lateness p99 <= 2 4.00 not reached" in rows
    assert "CPU per delivery <= 2 1.00" in rows
    assert rows.count("delivered before 60,000 -") == len(GROWTH)


def test_comparison_of_before_and_after() -> None:
    """How many times as much, and how much more; what cannot be told stays open."""
    before = {"list_s": 0.5, "memory_mb": 40.0, "restart_s": None}
    figures = compared(before, {"list_s": 1.0, "memory_mb": 60.0, "restart_s": 1.0})
    assert (figures["list_s_before"], figures["list_s"]) == (0.5, 1.0)
    assert (figures["list_times"], figures["memory_more"]) == (2.0, 20.0)
    assert (figures["restart_times"], figures["restart_more"]) == (None, None)


def test_scenarios_have_names_of_their_own() -> None:
    """Each scenario is found by its name."""
    names = [scenario.name for scenario in SCENARIOS]
    assert len(set(names)) == len(names)
