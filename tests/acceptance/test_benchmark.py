"""The benchmark works; what it measures is for people to read, not for tests to judge."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest

from tests.benchmarks.result import evaluate
from tests.support.patience import allow
from tests.support.readme import ROOT


@pytest.mark.parametrize("rate", [400, 0])
async def test_small_run(rate: int) -> None:
    """200 schedules, spread or all at once: none lost, none twice, none early."""
    options = ["--json", "--count", "200", "--lead", "1"]
    result = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "tests.benchmarks", *options, "--rate", str(rate)],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=allow(10),
    )
    assert result.returncode == 0, result.stdout + result.stderr
    figures = json.loads(result.stdout)
    assert (figures["lost"], figures["twice"], figures["early"]) == (0, 0, 0)
    assert 0 <= figures["p50_ms"] <= figures["p99_ms"] <= figures["max_ms"]


def test_figures() -> None:
    """Lost, twice and early are told apart, and percentiles are those of the arrivals."""
    dues = [1_000_000, 2_000_000, 3_000_000, 3_000_000]  # microseconds
    late = [1_000_000, 2_000_000, -1, 4_000_000]  # nanoseconds
    arrivals = [due * 1000 + one for due, one in zip(dues, late, strict=True)]
    result = evaluate(5, [0, 1, 2, 2], dues, arrivals, None)
    assert (result.lost, result.twice, result.early) == (2, 1, 1)
    assert (result.p50_ms, result.max_ms) == (1.0, 4.0)
    assert not result.is_sound
