"""Failed attempts to deliver: counted, logged, published, and retried later."""

from __future__ import annotations

from gozo.delivery.source import Due
from gozo.runtime.clock_watch import ClockWatch
from gozo.runtime.logs import get_logger
from gozo.schedule.model import LONGEST_WAIT_US, MICROSECONDS, Entry, State
from gozo.schedule.retry import FIRST_WAIT_US
from gozo.schedule.timetable import Item
from gozo.telemetry.events import EventSink
from gozo.telemetry.stats import Stats

LONGEST_UNREAD_US = MICROSECONDS
"""The longest back-off after a message could not be read: electing a leader takes seconds."""

log = get_logger("gozo.delivery")


class Failures:
    """Counts failed attempts, and postpones items that cannot be sent now."""

    def __init__(self, stats: Stats, events: EventSink, clock: ClockWatch) -> None:
        self._stats = stats
        self._events = events
        self._clock = clock
        self._attempts: dict[tuple[str, int], int] = {}
        """How often each version was postponed, by key and revision."""

    def __bool__(self) -> bool:
        """Whether any postponed item is not settled yet."""
        return bool(self._attempts)

    def fail(self, due: Due, reason: str) -> None:
        """Count a failed attempt; the source decides when the next one is due, if any."""
        self._stats.undeliverable += 1
        self._stats.retried += 1
        item, source = due
        source.failed(item, reason)

    def note(self, entry: Entry) -> None:
        """Publish the state of a schedule after a failed attempt; count it if it was given up."""
        self._stats.failed += entry.state is State.FAILED
        self._events.not_delivered(entry)

    def was_postponed(self, item: Item) -> bool:
        """Tell whether this version was postponed before."""
        return (item.key, item.revision) in self._attempts

    def postpone(
        self, due: Due, reason: str, *, unread: bool = False, event: str = "delivery.postponed"
    ) -> None:
        """Retry an item later, so that it does not hold up others.

        `event` is what the log calls that.
        """
        item, source = due
        known = (item.key, item.revision)
        attempts = self._attempts.get(known, 0)
        self._attempts[known] = attempts + 1
        longest_us = LONGEST_UNREAD_US if unread else LONGEST_WAIT_US
        wait_us = min(FIRST_WAIT_US << min(attempts, 10), longest_us)
        log.limited(
            "warning",
            event,
            key=source.shown(item),
            attempts=attempts + 1,
            wait_s=wait_us / MICROSECONDS,
            reason=reason,
        )
        source.give_back(item, self._clock.now_us() + wait_us)

    def forget(self, item: Item) -> None:
        """Forget an item that was delivered, or is no longer current."""
        self._attempts.pop((item.key, item.revision), None)
