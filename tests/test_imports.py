"""Imports point one way, as the layers in pyproject.toml say; tests import only their support."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support.readme import ROOT

LEVELS = ("tests.unit", "tests.integration", "tests.acceptance")


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


def imported(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: give the module's whole name"
            yield node.module or ""


def test_tests_know_no_other_tests() -> None:
    """What two of them need is in tests/support, which knows none of them."""
    found = {
        f"{path.relative_to(ROOT)} imports {name}"
        for path in ROOT.glob("tests/**/*.py")
        for name in imported(path)
        if name.startswith(LEVELS)
    }
    assert not found, "move what they share to tests/support"
