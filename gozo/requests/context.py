"""The parts shared by all code that processes requests and calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from gozo.delivery.in_memory import InMemory
from gozo.requests.in_progress import InProgress
from gozo.requests.replies import Replies
from gozo.schedule.model import Entry
from gozo.store.changes import OnResult
from gozo.store.schedule_store import ScheduleStore
from gozo.telemetry.events import EventSink
from gozo.telemetry.stats import Stats


class BeginRun(Protocol):
    """Begins a run; see `gozo.delivery.runs.Runs.trigger`."""

    def __call__(
        self, key: str, entry: Entry, payload: bytes, on_result: OnResult, *, force: bool
    ) -> None:
        """Begin a run of the schedule under a key, and call back once it is stored.

        Raises:
            RequestError: `running` or `unavailable`.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The parts that `RequestHandler`, `AdminVerbs` and `RequestLoop` share."""

    store: ScheduleStore
    in_memory: InMemory
    in_progress: InProgress
    replies: Replies
    stats: Stats
    events: EventSink
    wake_delivery: Callable[[], None]
    """Called when a new schedule in memory may be due."""
    begin_run: BeginRun
    """Begins a run of a schedule whose receivers must confirm it."""


class Processor:
    """Processes messages with these parts, its own attributes to save a look-up for each one."""

    def __init__(self, context: Context) -> None:
        self._store = context.store
        self._in_memory = context.in_memory
        self._in_progress = context.in_progress
        self._replies = context.replies
        self._stats = context.stats
        self._events = context.events
        self._wake_delivery = context.wake_delivery
