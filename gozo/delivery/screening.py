"""What is due and is not sent: it is too late for it, or too large for the server."""

from __future__ import annotations

from gozo.delivery.failures import Failures
from gozo.delivery.source import Due
from gozo.runtime.logs import get_logger
from gozo.schedule.model import MICROSECONDS, Outgoing
from gozo.schedule.recurrence import is_left_out
from gozo.telemetry.events import EventSink
from gozo.telemetry.stats import Stats
from gozo.transport.connection import Connection

log = get_logger("gozo.delivery")


class Screening:
    """Looks at each message before it is sent."""

    def __init__(
        self, connection: Connection, failures: Failures, stats: Stats, events: EventSink
    ) -> None:
        self._connection = connection
        self._failures = failures
        self._stats = stats
        self._events = events

    def rejects(self, due: Due, message: Outgoing, now_us: int) -> bool:
        """Tell whether a message is not sent, for one reason or the other."""
        if message.entry is not None and self.is_missed(due, message, now_us):
            return True
        # Looked at here: it is asked for each message, and few are too large.
        return message.size > self._connection.max_payload and self.is_too_large(due, message)

    def is_missed(self, due: Due, message: Outgoing, now_us: int) -> bool:
        """Tell whether a message is too late to be sent by its spec; then it is skipped."""
        entry = message.entry
        if entry is None:
            return False
        item, source = due
        source.sending(item, message, now_us)
        if not is_left_out(entry, now_us):
            return False
        self._stats.missed += 1
        late_s = (now_us - entry.due_us) / MICROSECONDS
        log.limited("warning", "schedule.missed", id=entry.id, late_s=late_s)
        self._events.missed(entry.id, entry.due_us)
        source.missed(item)
        return True

    def is_too_large(self, due: Due, message: Outgoing) -> bool:
        """Tell whether the server takes no message of this size; then the attempt failed."""
        if message.size <= self._connection.max_payload:
            return False
        self._connection.doubt_limits()
        self._failures.fail(due, f"{message.size} bytes exceed the server's max_payload")
        return True
