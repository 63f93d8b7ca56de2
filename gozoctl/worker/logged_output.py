"""The output of a command, in the log."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from gozo.runtime.log_writer import LogWriter
from gozo.runtime.logs import get_logger

MOST = 1_048_576  # characters of the log that wait for its reader, until commands wait too

log = get_logger("gozo.exec")


class LoggedOutput:
    """Logs each line with the id of the schedule; a command waits for the reader of the log."""

    def __init__(self, writer: LogWriter, id_: str | None) -> None:
        self._writer = writer
        self._id = id_

    def take(self, stream: str, lines: Sequence[bytes]) -> None:
        """Log lines."""
        log.each("info", "command.output", "line", lines, id=self._id, stream=stream)

    @property
    def is_full(self) -> bool:
        """Whether the reader of the log is far behind."""
        return self._writer.waiting > MOST

    def when_ready(self, call: Callable[[], None]) -> None:
        """Call something once the reader has caught up."""
        loop = asyncio.get_running_loop()

        def ready() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(call)

        self._writer.when_below(MOST // 2, ready)
