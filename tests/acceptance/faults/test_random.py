"""The run of random faults works: what it finds in an hour is its own business."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.support.patience import allow
from tests.support.readme import ROOT

KINDS = {"stored", "with id", "without id", "identical", "cancelled", "recurring"}


def test_a_few_seconds() -> None:
    """A reloading server harms nobody, and each kind of load has an account."""
    command = [sys.executable, "-m", "tests.random_faults", "--minutes", "0.05", "--only", "reload"]
    run = subprocess.run(
        command, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=allow(20), check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "SIGHUP" in run.stdout
    accounts = re.findall(r"^(\w[\w ]*?) +created (\d+), .*lost 0", run.stdout, re.MULTILINE)
    assert {name for name, created in accounts if int(created)} == KINDS
