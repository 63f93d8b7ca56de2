"""Rejects due messages that are too late, too old, or too large for the server."""

from __future__ import annotations

from gozo.delivery.failures import Failures
from gozo.delivery.outcome_recorder import OutcomeRecorder
from gozo.delivery.source import Due
from gozo.runtime.logs import get_logger
from gozo.schedule.model import MICROSECONDS, Outgoing
from gozo.schedule.outcome import Result
from gozo.schedule.recurrence import is_left_out
from gozo.schedule.retry import is_expired
from gozo.telemetry.events import EventSink
from gozo.telemetry.stats import Stats
from gozo.transport.connection import Connection

log = get_logger("gozo.delivery")


class Screening:
    """Checks each message before it is sent."""

    def __init__(
        self,
        connection: Connection,
        failures: Failures,
        recorder: OutcomeRecorder,
        stats: Stats,
        events: EventSink,
    ) -> None:
        self._connection = connection
        self._recorder = recorder
        self._failures = failures
        self._stats = stats
        self._events = events

    def rejects(self, due: Due, message: Outgoing, now_us: int) -> bool:
        """Tell whether a message is rejected for one of these reasons."""
        if message.entry is not None and self.is_missed(due, message, now_us):
            return True
        # Compared here to save a call for each message: few are too large.
        return message.size > self._connection.max_payload and self.is_too_large(due, message)

    def is_missed(self, due: Due, message: Outgoing, now_us: int) -> bool:
        """Tell whether a message is too late by its entry.

        If so, it is skipped by its misfire policy, or given up by its maximum age.
        """
        entry = message.entry
        if entry is None:
            return False
        item, source = due
        source.sending(item, message, now_us)
        if not is_left_out(entry, now_us):
            if message.answered or not is_expired(entry, now_us):
                return False  # the age of runs is looked at when their attempts are made
            source.expired(item)
            return True
        self._stats.missed += 1
        late_s = (now_us - entry.due_us) / MICROSECONDS
        log.limited("warning", "schedule.missed", id=entry.id, late_s=late_s)
        if message.answered:
            self._recorder.leave_out(item.key, entry, Result.MISSED)
        else:
            self._events.missed(entry.id, entry.due_us)
        source.missed(item)
        return True

    def is_too_large(self, due: Due, message: Outgoing) -> bool:
        """Tell whether a message is too large for the server; if so, the attempt failed."""
        if message.size <= self._connection.max_payload:
            return False
        self._connection.doubt_limits()
        self._failures.fail(due, f"{message.size} bytes exceed the server's max_payload")
        return True
