"""The source itself: lint, format, types."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.readme import ROOT

CHECKS = {
    "lint": ["ruff", "check"],
    "format": ["ruff", "format", "--check"],
    "types": ["mypy"],
}


@pytest.mark.parametrize("name", CHECKS)
def test_check(name: str) -> None:
    """Ruff and mypy --strict have nothing to say."""
    program, *arguments = CHECKS[name]
    path = Path(sys.executable).with_name(program)
    result = subprocess.run(
        [path, *arguments], cwd=ROOT, capture_output=True, encoding="utf-8", check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
