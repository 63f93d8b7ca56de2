"""The periodic work of a replica, whether it leads or stands by."""

from __future__ import annotations

import asyncio
from typing import NoReturn

from gozo.daemon.giving_way import GivingWay
from gozo.daemon.leadership import CatchingUp
from gozo.daemon.step_down import StepDown
from gozo.delivery.dispatcher import Delivery
from gozo.delivery.in_memory import InMemory
from gozo.leadership.tenure import Tenure
from gozo.monitoring.health import BucketHealth
from gozo.protocol.subject_policy import too_small
from gozo.requests.intake import Intake
from gozo.runtime.clock import steady
from gozo.runtime.clock_watch import CURE, WARN_US, WRONG_US, ClockWatch
from gozo.runtime.gc_control import GcControl
from gozo.runtime.logs import get_logger
from gozo.runtime.memory import Memory
from gozo.schedule.expression import print_rfc3339
from gozo.schedule.model import MICROSECONDS, Entry
from gozo.schedule.recurrence import reckoned_anew
from gozo.schedule.timetable import Item
from gozo.store.index import BucketIndex
from gozo.store.schedule_store import ScheduleStore
from gozo.telemetry.events import Bystander
from gozo.telemetry.stats import Stats
from gozo.transport.connection import Connection

INTERVAL = 0.25  # seconds between turns
QUIET_US = MICROSECONDS  # garbage is collected only if nothing is due for this long

log = get_logger("gozo.daemon")


class Repairs:
    """Rewrites entries that would otherwise be lost, or delivered at the wrong time."""

    def __init__(self, index: BucketIndex, store: ScheduleStore, clock: ClockWatch) -> None:
        self._index = index
        self._store = store
        self._clock = clock

    def make(self) -> None:
        """Rewrite entries with a time to live without it, so that the server does not remove them.

        Also compute the next occurrence again if a clock that ran ahead made it too late.
        """
        while self._index.expiring and self._store.has_room:
            key, revision = self._index.expiring.popitem()
            self._store.rewrite(Item(0, revision, key))
        while self._index.traits.ahead and self._store.has_room and self._clock.is_right:
            key = self._index.traits.ahead.pop()
            self._store.rewrite(Item(0, self._index.timetable.revision(key), key), self._recompute)

    def _recompute(self, entry: Entry) -> Entry | None:
        new = reckoned_anew(entry, self._clock.now_us())
        if new is not None:
            next_due = print_rfc3339(new.next_us or new.due_us)
            log.limited("warning", "schedule.recomputed", id=entry.id, due=next_due)
        return new


class SizeLimits:
    """Watches the server's limit on the size of messages."""

    def __init__(self, main: Connection, requests: Connection, index: BucketIndex) -> None:
        self._main, self._requests = main, requests
        self._index = index

    def doubt(self) -> None:
        """Have the limit checked on both connections: a message was too large."""
        for connection in (self._main, self._requests):
            connection.doubt_limits()

    def look(self) -> None:
        """Check whether the server accepts larger messages now; log a limit that is too low."""
        if self._index.traits.too_large:
            self._main.doubt_limits()
        if reason := too_small(self._main.max_payload):
            log.repeated("error", "server.unsuitable", reason=reason)
            self.doubt()


class Leisure:
    """Collects garbage and releases memory when idle."""

    def __init__(
        self,
        main: Connection,
        requests: Connection,
        tenure: Tenure,
        clock: ClockWatch,
        store: ScheduleStore,
        health: BucketHealth,
        stats: Stats,
        garbage: GcControl,
        memory: Memory,
    ) -> None:
        self._main, self._requests = main, requests
        self._tenure = tenure
        self._clock = clock
        self._store = store
        self._health = health
        self._stats = stats
        self._garbage = garbage
        self._memory = memory
        self._accepted = 0
        """The number of accepted requests at the last turn."""

    def use(self) -> None:
        """Collect old garbage if there is time before the next schedule is due.

        Also release memory: a standby always has time for that.
        """
        before, self._accepted = self._accepted, self._stats.accepted
        next_us = self._health.next_due_us
        is_near = next_us is not None and next_us < self._clock.now_us() + QUIET_US
        leisure = self._accepted == before and not self._store.outstanding and not is_near
        now = steady()
        if self._garbage.is_due(now, leisure=leisure):
            self._garbage.look_at_old(now, self._main.epoch + self._requests.epoch)
        self._memory.give_back(now, quiet=leisure or not self._tenure.is_active)


class Housekeeping:
    """Takes a turn every `INTERVAL`."""

    def __init__(
        self,
        tenure: Tenure,
        clock: ClockWatch,
        giving_way: GivingWay,
        catching_up: CatchingUp,
        step_down: StepDown,
        in_memory: InMemory,
        intake: Intake,
        delivery: Delivery,
        index: BucketIndex,
        bystander: Bystander,
        repairs: Repairs,
        limits: SizeLimits,
        leisure: Leisure,
    ) -> None:
        self._tenure = tenure
        self._clock = clock
        self._giving_way = giving_way
        self._catching_up = catching_up
        self._step_down = step_down
        self._in_memory = in_memory
        self._intake = intake
        self._delivery = delivery
        self._index = index
        self._bystander = bystander
        self._repairs = repairs
        self._limits = limits
        self._leisure = leisure

    async def run(self) -> NoReturn:
        """Take turns; runs until it is cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            self._turn()

    def _turn(self) -> None:
        check_clock(self._clock)
        self._giving_way.look()
        self._delivery.look()
        if self._tenure.is_active:
            self._repairs.make()
            self._bystander.tell_earlier(self._index.traits.invalid)
        if self._catching_up.is_current:
            self._catching_up.note_seen()
        elif len(self._in_memory) and self._step_down.is_done:
            self._step_down.store_memory()
        self._intake.forget_old()
        self._limits.look()
        self._intake.answer_late()
        self._leisure.use()


def check_clock(clock: ClockWatch) -> None:
    """Log that this host's clock differs from the server's."""
    clock.now_us()
    if clock.was_set:
        return
    ahead = clock.ahead_us
    if abs(ahead) > WARN_US:
        log.repeated("warning", "clock.differs", ahead_s=ahead / MICROSECONDS)
    if abs(ahead) > WRONG_US:
        log.repeated("error", "clock.wrong", ahead_s=ahead / MICROSECONDS, hint=CURE)
