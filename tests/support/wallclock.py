"""A wall clock that a test sets, for one process: libfaketime, never the machine's own clock."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path

from tests.support.programs import require_program


class WallClock:
    """The wall clock of the processes that are started with `variables`.

    It differs from the machine's by an offset that can be changed while they run. Their steady
    clocks are the machine's.
    """

    def __init__(self, folder: Path, offset: float = 0.0) -> None:
        program = require_program("faketime", package="faketime")
        _tidy()
        shown = subprocess.run(
            [program, "-f", "+0", "printenv", "LD_PRELOAD"],
            capture_output=True,
            text=True,
            check=True,
        )
        folder.mkdir(exist_ok=True)
        self._file = folder / "offset"
        self.variables = {
            "LD_PRELOAD": shown.stdout.strip(),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        """What the environment of such a process needs."""
        self.offset = 0.0
        self.set(offset)

    def set(self, offset: float) -> None:
        """Set the clock to so many seconds ahead of the machine's."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{offset:+f}")
        new.replace(self._file)
        self.offset = offset

    def time(self) -> float:
        """What the clock shows, Unix epoch, seconds."""
        return time.time() + self.offset


def _tidy() -> None:
    """Remove what libfaketime keeps for processes that were killed.

    It is named by their number, and the next process with that number would fail because of it.
    """
    for path in Path("/dev/shm").glob("*faketime_*"):  # noqa: S108  # where libfaketime keeps it
        try:
            os.kill(int(path.name.rpartition("_")[2]), 0)
        except ProcessLookupError:
            with contextlib.suppress(OSError):
                path.unlink()
        except (PermissionError, ValueError):
            pass  # somebody else's
