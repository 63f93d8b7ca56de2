"""Programs that tests need and pip cannot install."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NoReturn

import pytest


def require_program(name: str, *, package: str) -> Path:
    """Return the path of a program, or skip the test and say which Debian package has it.

    With the environment variable CI set a missing program is a failure: there, `.ci/run`
    installs what tests need.
    """
    found = shutil.which(name)
    if found is None:
        _miss(name, package)
    return Path(found)


def require_file(path: Path, *, package: str) -> None:
    """Do the same for a file that a package brings."""
    if not path.exists():
        _miss(str(path), package)


def _miss(what: str, package: str) -> NoReturn:
    reason = f"{what} is missing: apt-get install {package}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
