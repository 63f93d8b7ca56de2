"""Imports point one way, as the layers in pyproject.toml say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.readme import ROOT


def test_layers() -> None:
    """No module imports one of a layer above its own."""
    path = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run(
        [path, "--no-cache", "--no-logo"],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
