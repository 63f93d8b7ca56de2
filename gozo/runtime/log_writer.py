"""Writes to a file without ever waiting for its reader: a thread does.

A pipe is full once its reader is slow or stopped; whoever writes then waits, and does nothing else.
"""

from __future__ import annotations

import io
import os
import select
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

LAST = 5.0  # seconds to wait at the end for a reader
LARGEST_WRITE = 64 * 1024  # bytes


class LogWriter(io.TextIOBase):
    """A text stream for logs, open while it is entered."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._news = threading.Condition()
        self._texts: list[str] = []
        self._waiting = 0
        self._below: list[tuple[int, Callable[[], None]]] = []
        self._is_ending = False
        self._thread = threading.Thread(target=self._work, name="write logs", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write the rest, as long as somebody reads it."""
        with self._news:
            self._is_ending = True
            self._news.notify()
        self._thread.join(LAST)

    def fileno(self) -> int:
        """Return the number of the file."""
        return self._fd

    def write(self, text: str) -> int:
        """Have a text written after those before it."""
        with self._news:
            self._texts.append(text)
            self._waiting += len(text)
            self._news.notify()
        return len(text)

    @property
    def waiting(self) -> int:
        """How many characters are not written yet."""
        return self._waiting

    def when_below(self, most: int, call: Callable[[], None]) -> None:
        """Call something, from a thread, once at most so many characters wait."""
        with self._news:
            self._below.append((most, call))
            self._news.notify()

    def _work(self) -> None:
        while texts := self._next():
            data = "".join(texts).encode("utf-8", "backslashreplace")
            try:
                while data:
                    data = data[self._write(data[:LARGEST_WRITE]) :]
            except OSError:
                pass  # nobody reads it any more
            self._wrote(sum(map(len, texts)))

    def _next(self) -> list[str]:
        """Wait for texts; return an empty list at the end."""
        with self._news:
            while not self._texts and not self._is_ending:
                self._call()
                self._news.wait()
            texts, self._texts = self._texts, []
            return texts

    def _write(self, data: bytes) -> int:
        try:
            return os.write(self._fd, data)
        except BlockingIOError:
            select.select([], [self._fd], [])
            return 0

    def _wrote(self, count: int) -> None:
        with self._news:
            self._waiting -= count
            self._call()

    def _call(self) -> None:
        ready = [one for one in self._below if self._waiting <= one[0]]
        self._below = [one for one in self._below if self._waiting > one[0]]
        for _, call in ready:
            call()
