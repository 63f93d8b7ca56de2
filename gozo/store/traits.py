"""Properties of schedules that must be known before their messages are read.

Each set holds keys of the bucket, by the latest known version of each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from gozo.schedule.model import PLAIN, RARE, Entry, State
from gozo.schedule.record import is_failing
from gozo.schedule.recurrence import ran_ahead
from gozo.store.expectations import Expectations
from gozo.store.run_index import RunIndex
from gozo.store.successes import Successes

LARGE = 16 * 1024  # bytes of payload from which a size is remembered
NO_SUCCESSES = Successes()
_PENDING = State.PENDING  # looked up once, for the most frequent test


class Traits:
    """Remembers uncommon properties: most schedules have none of these traits."""

    def __init__(self, server_us: Callable[[], int], successes: Successes = NO_SUCCESSES) -> None:
        """`server_us` returns the server's clock, as estimated."""
        self._server_us = server_us
        self.invalid: dict[str, tuple[int, str]] = {}
        """Revision and reason of each entry that gozo cannot serve."""
        self.too_large: dict[str, tuple[int, int, bytes | None, int | None]] = {}
        """The arguments of `BucketIndex.take` for entries too large to be sent."""
        self.newer: set[str] = set()
        """Entries of a format that a later version wrote."""
        self.large: dict[str, int] = {}
        """Bytes of each payload that is large."""
        self.recurring: set[str] = set()
        self.confirming: set[str] = set()
        """Schedules whose messages a stream must acknowledge."""
        self.protected: set[str] = set()
        """Entries that requests can neither replace nor cancel, readable or not."""
        self.paused: set[str] = set()
        self.failed: set[str] = set()
        """Schedules that are kept after their delivery was given up."""
        self.dead_letters: dict[str, str] = {}
        """Occurrences of schedules that a stream confirms, which were given up and wait as dead
        letters, with the keys of these schedules."""
        self._dead: Counter[str] = Counter()
        self.retrying: set[str] = set()
        """Schedules whose last attempt failed, and that will be retried."""
        self.ahead: set[str] = set()
        """Schedules whose next occurrence is too late, computed by a clock that ran ahead."""
        self.answered: set[str] = set()
        """Schedules whose receivers must confirm the delivery, and their runs."""
        self.runs = RunIndex()
        self.failing: set[str] = set()
        """Those of these whose last occurrence failed, or of which none succeeded in time."""
        self.expectations = Expectations()
        """The schedules of these that should succeed within a time."""
        self.successes = successes

    def dead_letters_of(self, key: str) -> int:
        """Return the number of dead letters of a schedule that no stream has yet."""
        return self._dead[key]

    def note_size(self, key: str, size: int) -> None:
        """Remember the size of the payload of a key, in bytes."""
        if size > LARGE:
            self.large[key] = size
        elif self.large:
            self.large.pop(key, None)

    def note(self, key: str, entry: Entry | None) -> None:
        """Remember the traits of the latest version of a key, except for the size.

        None: the schedule has no traits, or does not exist any more.
        """
        if self.ahead or self.retrying:
            self.ahead.discard(key)
            self.retrying.discard(key)
        if self.invalid or self.paused or self.failed or self.protected or self.dead_letters:
            self._forget(key)
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
        if entry.confirm or entry.is_dead_letter:
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
            self.expectations.note(key, entry)
            self.successes.note(key, entry)
            if is_failing(entry):
                self.failing.add(key)
            elif self.failing:
                self.failing.discard(key)
        elif key in self.answered:
            self.answered.discard(key)
            self.failing.discard(key)
            self.runs.note(key, None)
            self.expectations.note(key, None)
            self.successes.note(key, None)

    def _forget(self, key: str) -> None:
        """Forget what holds for few schedules, and is looked at only where there are some."""
        self.invalid.pop(key, None)
        self.too_large.pop(key, None)
        self.newer.discard(key)
        self.paused.discard(key)
        self.failed.discard(key)
        self.protected.discard(key)
        schedule = self.dead_letters.pop(key, None)
        if schedule is not None:
            self._dead[schedule] -= 1
            if not self._dead[schedule]:
                del self._dead[schedule]

    def _note_state(self, key: str, entry: Entry) -> None:
        if entry.is_dead_letter:
            schedule = key if entry.run is None else entry.run.key
            self.dead_letters[key] = schedule
            self._dead[schedule] += 1
        if ran_ahead(entry, self._server_us()):
            self.ahead.add(key)
        if entry.run is not None and entry.is_answered:
            return  # `runs` has its state
        if entry.state is State.PAUSED:
            self.paused.add(key)
        elif entry.state is State.FAILED:
            self.failed.add(key)
        elif entry.state is State.RETRYING:
            self.retrying.add(key)
