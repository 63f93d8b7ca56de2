"""A terminal: an interactive program in a pty, and what its screen shows."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyte

from tests.support.patience import allow

LINES, COLUMNS = 40, 120

# What takes the pty as its controlling terminal, as a login does, before it becomes the program.
LOGIN = "import os, sys; os.login_tty(0); os.execvp(sys.argv[1], sys.argv[1:])"


class _Screen(pyte.Screen):
    """A screen that answers when a program asks where the cursor is, or what it can do."""

    def __init__(self, to_program: int, columns: int) -> None:
        super().__init__(columns, LINES)
        self._to_program = to_program

    def write_process_input(self, data: str) -> None:
        """Send an answer to the program."""
        os.write(self._to_program, data.encode())


class Terminal:
    """One program in a terminal of its own, with no other variables than those given."""

    def __init__(
        self,
        command: Sequence[str],
        variables: Mapping[str, str],
        folder: Path,
        columns: int = COLUMNS,
    ) -> None:
        self._pty, theirs = pty.openpty()
        self._is_open = True
        self._screen = _Screen(self._pty, columns)
        self.resize(columns)
        self._stream = pyte.ByteStream(self._screen)
        self._process = subprocess.Popen(
            [sys.executable, "-c", LOGIN, *command],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={"TERM": "xterm", **variables},
            cwd=folder,
        )
        os.close(theirs)
        self.raw = ""
        """Everything that the program has written, as it is."""

    @property
    def text(self) -> str:
        """What the screen shows, without blanks at the ends of lines."""
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip()

    @property
    def colours(self) -> set[tuple[str, str]]:
        """The colours of what the screen shows: of the letters, and behind them."""
        cells = (cell for row in self._screen.buffer.values() for cell in row.values())
        return {(cell.fg, cell.bg) for cell in cells if cell.data.strip()}

    def press(self, keys: str) -> None:
        """Press keys, TAB and Enter among them."""
        os.write(self._pty, keys.encode())

    def resize(self, columns: int) -> None:
        """Give the terminal another width."""
        size = struct.pack("HHHH", LINES, columns, 0, 0)
        fcntl.ioctl(self._pty, termios.TIOCSWINSZ, size)
        self._screen.resize(LINES, columns)

    def hang_up(self) -> None:
        """Close the terminal, as who closes its window does; the program gets a SIGHUP."""
        os.close(self._pty)
        self._is_open = False

    def shows(self, what: str | Callable[[str], Any]) -> str:
        """Wait until the screen shows a text, or what a function looks for; return the screen."""
        deadline = time.monotonic() + allow(10)
        while not (what in self.text if isinstance(what, str) else what(self.text)):
            left = deadline - time.monotonic()
            if left <= 0 or not self._read(left):
                raise AssertionError(f"{what!r} does not appear; the screen shows:\n{self.text}")
        return self.text

    def ends(self) -> int:
        """Read what there is to read until the program has ended, and return its exit code."""
        while self._is_open and self._read(allow(10)):
            pass
        return self._process.wait(allow(10))

    def _read(self, timeout: float) -> bool:
        """Take what the program writes next; return False where nothing comes, or it has ended."""
        ready, _, _ = select.select([self._pty], [], [], timeout)
        try:
            data = os.read(self._pty, 65_536) if ready else b""
        except OSError:  # EIO: the other side is closed
            return False
        self.raw += data.decode("utf-8", "replace")
        self._stream.feed(data)
        return bool(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        if self._is_open:
            os.close(self._pty)
