"""The changes that are not done: in order for each key, retried, and limited in number.

A change waits until the one before it on the same key is done. A change that the bucket does not
accept is retried, but gives way to a later cancel, or to a schedule that replaces it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Protocol

from gozo.errors import DisconnectedError
from gozo.protocol.heard import Heard
from gozo.runtime.clock import steady
from gozo.schedule.model import Entry
from gozo.schedule.timetable import Timetable
from gozo.store.behind import Behind
from gozo.store.changes import (
    GONE,
    NO_DEADLINE,
    NOT_MADE,
    WRITES_NOTHING,
    WRITTEN,
    Change,
    Occupied,
    Put,
    Remove,
    Result,
    Write,
    gives_way,
    nothing,
)
from gozo.store.delivery_hooks import DeliveryHooks
from gozo.store.protection import Protection
from gozo.store.retries import Retries
from gozo.store.run_index import RunIndex
from gozo.store.writer import Writer

MOST_IN_FLIGHT = 4_000  # writes without an answer
MOST_AT_WORK = 2 * MOST_IN_FLIGHT  # changes accepted before callers are asked to wait
MOST_WAITING = 100_000  # changes that may wait for the bucket while others are still accepted
CONGESTED_WAIT = 0.01  # seconds
SLICE = 200  # changes begun before others get a turn


class Events(Protocol):
    """Publishes events about schedules with an id."""

    @property
    def enabled(self) -> bool:
        """Whether events are published; to be asked before each call."""

    def accepted(self, entry: Entry, *, replaced: bool) -> None:
        """A schedule was stored."""

    def cancelled(self, key: str) -> None:
        """A schedule was cancelled."""


class ChangeQueue:
    """Accepts changes, and starts each when its turn comes."""

    def __init__(
        self,
        writer: Writer,
        timetable: Timetable,
        protection: Protection,
        events: Events,
        hooks: DeliveryHooks,
        start: Callable[[Change], None],
        runs: RunIndex,
    ) -> None:
        """`start` begins a change, which ends when `finish` is called with it.

        `start` may raise a `DisconnectedError`; the change is then retried later.
        """
        self._writer = writer
        self._timetable = timetable
        self._protection = protection
        self._events = events
        self._hooks = hooks
        self._start = start
        self._runs, self._any_run = runs, runs.any
        self.active: dict[str, Change] = {}
        """The current change of each key."""
        self.behind = Behind()
        """The changes that wait for the current ones."""
        self._ready: deque[Change] = deque()
        self._retries = Retries(self.again, self._give_up)
        self._overtaken: dict[Change, Put] = {}
        """For a change that is made first: the earlier one that it makes obsolete."""
        self.holds = False
        """Whether changes that requests asked for wait; see `hold`."""
        self.outstanding = 0
        """How many changes are not done."""
        self._pumping = self._pumps_soon = False
        self._progress = asyncio.Event()

    def submit(self, change: Change) -> None:
        """Accept a change."""
        key = change.key
        if self._protection.protected and key in self.active and self._disturbs(change):
            change.done = True
            change.on_result(Result.PROTECTED, "")
            return
        self.outstanding += 1
        if key in self.active:
            self.behind.add(change)
            self._hooks.withdraw(key)
            active = self.active.get(key)
            if isinstance(active, Write) and active.wait and active is not change:
                self._expire_in_time(change)
                self._let_pass(active, (change,))
            return
        self.active[key] = change
        self._timetable.hold(key)
        self._ready.append(change)
        self._pump()

    def begin(self, change: Write) -> None:
        """Begin a change that belongs to a reservation, before those that wait for the key."""
        self.outstanding += 1
        self.active[change.key] = change
        self._ready.append(change)
        self._pump()

    def again(self, changes: Iterable[Write]) -> None:
        """Restart changes that are not done yet."""
        self._ready.extend(changes)
        self._pump()

    def is_wanted(self, key: str) -> bool:
        """Tell whether another change waits for a key."""
        return key in self.behind.queues

    def _disturbs(self, change: Change) -> bool:
        """Tell whether a change will be refused, and would only delay occurrences until then."""
        active = self.active[change.key]
        occupied = active.holder if isinstance(active, Put) else isinstance(active, Occupied)
        if not occupied or isinstance(change, WRITES_NOTHING) or self.is_wanted(change.key):
            return False
        return self._protection.barred(change) is Result.PROTECTED

    # How much there is

    @property
    def unstored(self) -> int:
        """How many schedules are not stored yet; reads all changes."""
        return sum(
            isinstance(change, Put) and change.holder is None and change.alter is None
            for change in (*self.active.values(), *self.behind)
        )

    @property
    def has_room(self) -> bool:
        """Whether more changes should be submitted now.

        Changes behind another of their key do not count: thousands of requests for one id must
        not keep others waiting.
        """
        waiting = self._retries.count + self.behind.count
        return self.outstanding - waiting < MOST_AT_WORK and waiting < MOST_WAITING

    async def progress(self) -> None:
        """Wait until a change is done."""
        self._progress.clear()
        await self._progress.wait()

    def asked_for(self) -> list[tuple[Write, Heard]]:
        """Return the changes that requests asked for, each with its request."""
        changes = chain(self.active.values(), self.behind, self._overtaken.values())
        writes = (change for change in changes if isinstance(change, Write))
        return [(change, change.origin) for change in writes if change.origin is not None]

    # Starting

    def hold(self) -> None:
        """Start no changes that requests asked for: another replica may lead, and make them."""
        self.holds = True

    def go_on(self) -> None:
        """Start such changes again."""
        self.holds = False

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Start no changes meanwhile."""
        self._pumping, pumping = True, self._pumping
        try:
            yield
        finally:
            self._pumping = pumping
        self._pump()

    def _pump(self) -> None:
        if self._pumping:
            return
        self._pumping = True
        left = SLICE
        try:
            ready = self._ready
            while ready and self._writer.in_flight < MOST_IN_FLIGHT:
                if not left:
                    self._pump_soon()
                    break
                left -= 1
                if self._writer.is_congested:
                    # On a slow link, more in the buffer would only delay the lease and the PINGs.
                    asyncio.get_running_loop().call_later(CONGESTED_WAIT, self._pump)
                    break
                change = ready.popleft()
                if change.done or (self.holds and self._holds_back(change)):
                    continue
                try:
                    self._start(change)
                except DisconnectedError:
                    self.postpone(change)
        finally:
            self._pumping = False

    def _holds_back(self, change: Change) -> bool:
        """Delay a change that a request asked for; False for others."""
        if not isinstance(change, Write) or change.origin is None:
            return False
        self.delay(change)
        return True

    def _pump_soon(self) -> None:
        """Go on after others had their turn: thousands of changes of one id may end at once."""
        if not self._pumps_soon:
            self._pumps_soon = True
            asyncio.get_running_loop().call_soon(self._pump_on)

    def _pump_on(self) -> None:
        self._pumps_soon = False
        self._pump()

    # Ending

    def finish(self, change: Change, result: Result, words: str = "") -> None:
        """End the current change of a key, and let the next one start."""
        change.done = True
        self.outstanding -= not isinstance(change, Occupied)
        waiting = self._retries.waiting
        if waiting.queue and result in WRITTEN and isinstance(change, Write):
            self._ready.extend(waiting.after_success(change, steady()))
        if self._overtaken:
            result = self._resolve_overtaken(change, result)
        key = change.key
        any_run = self._any_run  # usually false, and tested without a call
        has_runs = _ends_runs(change) and bool(self._runs.of(key)) if any_run else False
        if has_runs and isinstance(change, Remove) and result in GONE:
            # Only runs are left: these are cancelled.
            result = Result.CANCELLED if self._runs.ends_with(key) else result
        if isinstance(change, Put) and change.holder is not None:
            self.active[key] = change.holder
        elif key in self.behind.queues:
            self.active[key] = later = self.behind.take(key)
            self._ready.append(later)
        else:
            del self.active[key]
            if self._timetable.release(key):
                self._hooks.wake()  # it may have become due meanwhile
        self._progress.set()
        if self._events.enabled:
            _publish(self._events, change, result)
        if has_runs and result in WRITTEN:
            self._hooks.end_runs(key, partial(change.on_result, result, words))
        else:
            change.on_result(result, words)
        if self._ready:
            self._pump()

    def drop(self, change: Write) -> None:
        """End a change, current or waiting, because another leader makes it."""
        change.parked = False
        if self.active.get(change.key) is change:
            self.finish(change, Result.DROPPED)
        elif change in self.behind:
            self.behind.remove(change)
            self._abandon(change, Result.DROPPED)
        else:
            later = next(later for later, earlier in self._overtaken.items() if earlier is change)
            del self._overtaken[later]
            self._abandon(change, Result.DROPPED)

    def _abandon(self, change: Write, result: Result, words: str = "") -> None:
        """End a change that is not the current one of its key."""
        change.done = True
        self.outstanding -= 1
        change.on_result(result, words)

    # Retrying

    def postpone(self, change: Change, words: str = "there is no connection") -> None:
        """Retry a change until the bucket accepts it, unless a later one makes it unnecessary."""
        assert isinstance(change, Write)
        behind = self.behind.of(change.key)
        if not change.wait:
            for other in behind:
                self._expire_in_time(other)
        self._retries.add(change, words)
        self._let_pass(change, behind)
        # Others may be accepted meanwhile, among them a cancel that frees space.
        self._progress.set()

    def delay(self, change: Write) -> None:
        """Retry a change in a moment: it only waits for another write to its key."""
        self._retries.delay(change)
        self._progress.set()

    def _give_up(self, change: Write, words: str) -> None:
        self.finish(change, Result.UNAVAILABLE, words)

    def _expire_in_time(self, change: Change) -> None:
        """Give up a change at its deadline if it is still behind another one."""
        if isinstance(change, Put) and change.deadline < NO_DEADLINE:
            wait = max(0.0, change.deadline - steady())
            asyncio.get_running_loop().call_later(wait, self._expire, change)

    def _expire(self, change: Put) -> None:
        if change in self.behind:
            self.behind.remove(change)
            self._abandon(change, Result.UNAVAILABLE, "an earlier change is waiting for the bucket")

    # Giving way

    def _let_pass(self, change: Write, behind: Sequence[Change]) -> None:
        """Make at once the first of the changes behind that a waiting change gives way to."""
        later = next((later for later in behind if self._may_pass(change, later)), None)
        if later is None:
            return
        assert isinstance(change, Put)
        change.parked = False
        if change.holder is not None:
            self.behind.remove(later)
            self.behind.add(later, first=True)
            self.finish(change, Result.SUPERSEDED)  # and the reservation ends
            return
        self.behind.remove(later)
        earlier: Put | None = change
        if change.deadline < NO_DEADLINE:  # it must be answered in time
            earlier = self._overtaken.pop(change, None)
            self._abandon(change, Result.SUPERSEDED)
        if earlier is not None:
            self._overtaken[later] = earlier
        self.active[change.key] = later
        self._ready.append(later)
        self._pump()

    def _may_pass(self, change: Write, later: Change) -> bool:
        """Tell whether a waiting change gives way to a later one that will not be refused."""
        if not isinstance(later, Write) or not gives_way(change, later):
            return False
        return self._protection.barred(later) is None

    def _resolve_overtaken(self, change: Change, result: Result) -> Result:
        """End the earlier change that a change overtook, or resume it if that failed.

        Returns the result of the later change: a cancel of what was never stored succeeded.
        """
        earlier = self._overtaken.pop(change, None)
        if earlier is None:
            return result
        if result in NOT_MADE:
            self.behind.add(earlier, first=True)
            return result
        while earlier is not None:
            self._abandon(earlier, Result.SUPERSEDED)
            earlier = self._overtaken.pop(earlier, None)
        return Result.CANCELLED if isinstance(change, Remove) else result


def _ends_runs(change: Change) -> bool:
    """Tell whether a change ends the runs of its schedule; one of a delivery does not."""
    return isinstance(change, Write) and not (change.revision or change.spares_runs)


def _publish(events: Events, change: Change, result: Result) -> None:
    if isinstance(change, Remove):
        if result is Result.CANCELLED and change.on_result is not nothing:
            events.cancelled(change.key)
    elif (
        isinstance(change, Put)
        and result in (Result.STORED, Result.REPLACED)
        and not change.revision  # else gozo itself rewrites a version
        and change.entry.id is not None
        and change.entry.run is None
    ):
        replaced = result is Result.REPLACED or change.alter is not None
        events.accepted(change.entry, replaced=replaced)
