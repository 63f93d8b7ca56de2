"""Due schedules that are only in memory."""

from __future__ import annotations

from gozo.delivery.failures import Failures
from gozo.delivery.in_memory import InMemory, shown_key
from gozo.delivery.settling import Settling
from gozo.runtime.clock_watch import ClockWatch
from gozo.schedule.model import Outgoing
from gozo.schedule.retry import expired, retried
from gozo.schedule.timetable import Item


class MemorySource:
    """The schedules in memory as a source of due schedules; see `Source`."""

    def __init__(
        self, in_memory: InMemory, settling: Settling, failures: Failures, clock: ClockWatch
    ) -> None:
        self._in_memory = in_memory
        self._any, self._timetable = in_memory.any, in_memory.timetable
        self._settling = settling
        self._failures = failures
        self._clock = clock
        # Bound directly, without a method around it: it is called for each message.
        self.is_current = in_memory.timetable.is_current
        self.message = in_memory.get
        self.settle = in_memory.remove

    def next_due(self) -> int | None:
        """When the next schedule is due; None without one."""
        return self._timetable.next_due() if self._any else None

    def pop_due(self, now_us: int, limit: int) -> list[Item]:
        """Take at most `limit` due items, soonest first."""
        return self._timetable.pop_due(now_us, limit) if self._any else []

    def sending(self, item: Item, message: Outgoing, now_us: int) -> None:
        """Nothing to note."""

    def give_back(self, item: Item, due_us: int | None = None) -> None:
        """Let an item wait again in the timetable."""
        self._timetable.give_back(item if due_us is None else item._replace(due_us=due_us))

    def let_go(self, item: Item) -> None:
        """Nothing to do."""

    def missed(self, item: Item) -> None:
        """Forget a schedule that was too late: only those in the bucket have a spec for that."""
        self._in_memory.remove(item)

    def delivered(self, item: Item) -> None:
        """Forget a delivered schedule later, together with others."""
        self._settling.add((item, self))

    def failed(self, item: Item, reason: str) -> None:
        """Retry a request later; a triggered schedule is tried only once."""
        entry = self._in_memory.entry(item)
        if self._in_memory.fail(item, reason):
            if entry is not None:
                once = entry._replace(attempts=1)
                self._failures.note(retried(once, reason, self._clock.now_us()))
            return
        if entry is not None and not self._failures.was_postponed(item):
            self._failures.note(retried(entry, reason, self._clock.now_us()))
        self._failures.postpone((item, self), reason)

    def expired(self, item: Item) -> None:
        """Give up a triggered delivery; requests with a maximum age are in the bucket."""
        entry = self._in_memory.entry(item)
        if entry is not None:
            self.failed(item, expired(entry, self._clock.now_us()).reason)

    def shown(self, item: Item) -> str:
        """Return the name of an item in logs."""
        return shown_key(item.key)
