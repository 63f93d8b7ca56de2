"""When schedules succeeded last, for the metrics: of a bounded number, by patterns of ids. Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Sequence

from gozo.schedule.model import Entry

MOST = 1_000  # ids: each is a time series, which a client could otherwise make many of


class Successes:
    """The schedules with an id that matches a pattern, and when each succeeded last."""

    def __init__(self, globs: Sequence[str] = ()) -> None:
        """`globs`: patterns of ids, in which `*` and `?` are wildcards."""
        self._patterns = [re.compile(fnmatch.translate(glob)) for glob in globs]
        self._at: dict[str, tuple[str, int]] = {}
        """Id and time in microseconds, by key."""

    def __iter__(self) -> Iterator[tuple[str, int]]:
        """Iterate over ids and times, in microseconds."""
        return iter(dict(self._at.values()).items())  # an id twice would spoil all metrics

    def note(self, key: str, entry: Entry | None) -> None:
        """Note the latest version of the key of a schedule; None if there is none."""
        if not self._patterns:
            return
        record = None if entry is None or entry.run is not None else entry.record
        at_us = 0 if record is None else record.last_success_us
        id_ = None if entry is None else entry.id
        if not at_us or id_ is None or not any(one.match(id_) for one in self._patterns):
            self._at.pop(key, None)
        elif key in self._at or len(self._at) < MOST:
            self._at[key] = id_, at_us
