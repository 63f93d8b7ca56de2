"""Schedules that are due in the bucket."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from gozo.delivery.attempts import after_expiry, after_failure
from gozo.delivery.failures import Failures
from gozo.delivery.settling import Settling
from gozo.runtime.clock_watch import ClockWatch
from gozo.schedule.model import Entry, Outgoing, Reason
from gozo.schedule.timetable import Item
from gozo.store.changes import Result
from gozo.store.index import BucketIndex
from gozo.store.message_cache import MessageCache
from gozo.store.schedule_store import ScheduleStore


class BucketSource:
    """The bucket as a source of due schedules; see `Source`."""

    def __init__(
        self,
        index: BucketIndex,
        cache: MessageCache,
        store: ScheduleStore,
        settling: Settling,
        failures: Failures,
        clock: ClockWatch,
    ) -> None:
        self._timetable = timetable = index.timetable
        self._cache = cache
        self._store = store
        self._settling = settling
        self._failures = failures
        self._clock = clock
        self._dead_letters = index.traits.dead_letters
        # Bound directly, without a method around it: it is called for each message.
        self.next_due = timetable.next_due
        self.pop_due = timetable.pop_due
        self.is_current = timetable.is_current
        self.message = cache.get

    def sending(self, item: Item, message: Outgoing, now_us: int) -> None:
        """Nothing to note."""

    def give_back(self, item: Item, due_us: int | None = None) -> None:
        """Let an item wait again in the timetable."""
        self._timetable.give_back(item if due_us is None else item._replace(due_us=due_us))

    def let_go(self, item: Item) -> None:
        """Nothing to do: the timetable has a later version, or none."""

    def missed(self, item: Item) -> None:
        """Remove a schedule that was too late."""
        self._cache.discard(item.key, item.revision)
        self._store.settle(item, Reason.MISSED)

    def delivered(self, item: Item) -> None:
        """Remove a delivered schedule later, together with others."""
        self._settling.add((item, self))

    def settle(self, item: Item) -> None:
        """Remove a delivered schedule."""
        self._cache.discard(item.key, item.revision)
        is_dead_letter = item.key in self._dead_letters
        self._store.settle(item, Reason.FAILED if is_dead_letter else Reason.DELIVERED)

    def failed(self, item: Item, reason: str) -> None:
        """Store the failed attempt: the entry says when the next one is due, if any.

        That of a dead letter is not stored: it is not an attempt of the schedule, and a replica
        that takes over may make the next one at once.
        """
        if item.key in self._dead_letters:
            self._failures.postpone((item, self), reason, event="dead_letter.postponed")
        else:
            self._note(item, lambda entry, now_us: after_failure(item.key, entry, reason, now_us))

    def expired(self, item: Item) -> None:
        """Store that it is given up."""
        self._note(item, partial(after_expiry, item.key))

    def _note(self, item: Item, change: Callable[[Entry, int], Entry]) -> None:
        noted: list[Entry] = []

        def note(entry: Entry) -> Entry:
            noted[:] = [change(entry, self._clock.now_us())]
            return noted[0]

        # From here on the store holds the schedule, so a waiting cancel can be made.
        self._store.retry(item, note, partial(self._on_noted, item, noted))
        self._timetable.give_back(item)

    def _on_noted(self, item: Item, noted: list[Entry], result: Result, words: str) -> None:
        if result in (Result.STORED, Result.REPLACED):
            self._failures.note(noted[0])
        elif result in (Result.REFUSED, Result.INVALID, Result.UNAVAILABLE):
            self._timetable.take(item)
            self._failures.postpone((item, self), words)

    def shown(self, item: Item) -> str:
        """Return the name of an item in logs: its key."""
        return item.key
