"""What has to be known of schedules before their messages are read.

Each set holds keys of the bucket: of the latest version that was seen of each.
"""

from __future__ import annotations

from collections.abc import Callable

from gozo.schedule.model import PLAIN, RARE, Entry, State
from gozo.schedule.recurrence import ran_ahead
from gozo.store.run_index import RunIndex

LARGE = 16 * 1024  # bytes of payload from which a size is remembered
_PENDING = State.PENDING  # at hand, for the most frequent question


class Traits:
    """Remembers what few schedules are: most of them have none of these traits."""

    def __init__(self, server_us: Callable[[], int]) -> None:
        """`server_us` is the server's clock, as far as it is known."""
        self._server_us = server_us
        self.invalid: dict[str, tuple[int, str]] = {}
        """Revision and reason of each entry that gozo cannot serve."""
        self.too_large: dict[str, tuple[int, int, bytes | None, int | None]] = {}
        """What `BucketIndex.take` was given of entries too large to be sent as messages."""
        self.newer: set[str] = set()
        """Entries of a format that a later version wrote."""
        self.large: dict[str, int] = {}
        """Bytes of each payload that is large."""
        self.recurring: set[str] = set()
        self.confirming: set[str] = set()
        """Schedules whose messages a stream has to acknowledge."""
        self.protected: set[str] = set()
        """What requests can neither replace nor cancel, readable or not."""
        self.paused: set[str] = set()
        self.failed: set[str] = set()
        """Schedules that were given up, and are kept."""
        self.retrying: set[str] = set()
        """Schedules whose last attempt failed, and that are tried again."""
        self.ahead: set[str] = set()
        """Schedules that wait too long, since a clock that ran ahead moved them on."""
        self.answered: set[str] = set()
        """Schedules that become runs, and the runs: receivers have to confirm them."""
        self.runs = RunIndex()

    def note_size(self, key: str, size: int) -> None:
        """Remember how large the payload of a key is, in bytes; 0: there is none."""
        if size > LARGE:
            self.large[key] = size
        elif self.large:
            self.large.pop(key, None)

    def note(self, key: str, entry: Entry | None) -> None:
        """Remember the traits of the latest version of a key, except for the size.

        None: it has none of them, or there is no schedule any more.
        """
        if self.ahead or self.retrying:
            self.ahead.discard(key)
            self.retrying.discard(key)
        if self.invalid or self.paused or self.failed or self.protected:
            self.invalid.pop(key, None)
            self.too_large.pop(key, None)
            self.newer.discard(key)
            self.paused.discard(key)
            self.failed.discard(key)
            self.protected.discard(key)
        if self.answered:
            self._note_answered(key, entry)
        if entry is None or entry[RARE:] == PLAIN:
            if self.recurring or self.confirming:
                self.recurring.discard(key)
                self.confirming.discard(key)
        else:
            self._note_rare(key, entry)

    def _note_rare(self, key: str, entry: Entry) -> None:
        """Remember the traits of an entry that has some, probably."""
        if entry.recurs:
            self.recurring.add(key)
            if ran_ahead(entry, self._server_us()):
                self.ahead.add(key)
        else:
            self.recurring.discard(key)
        if entry.confirm:
            self.confirming.add(key)
        else:
            self.confirming.discard(key)
        if entry.is_answered and not self.answered:
            self._note_answered(key, entry)
        if entry.protected:
            self.protected.add(key)
        if entry.state is not _PENDING:
            self._note_state(key, entry)

    def _note_answered(self, key: str, entry: Entry | None) -> None:
        if entry is not None and entry.is_answered:
            self.answered.add(key)
            self.runs.note(key, entry)
        elif key in self.answered:
            self.answered.discard(key)
            self.runs.note(key, None)

    def _note_state(self, key: str, entry: Entry) -> None:
        if entry.run is not None:
            return
        if entry.state is State.PAUSED:
            self.paused.add(key)
        elif entry.state is State.FAILED:
            self.failed.add(key)
        elif entry.state is State.RETRYING:
            self.retrying.add(key)
            if ran_ahead(entry, self._server_us()):
                self.ahead.add(key)
