"""The occurrences of recurring schedules, from when one is due until the next is in the bucket.

Once an occurrence is delivered, its entry is rewritten with the next due time. That takes a
moment, or a long time if the bucket cannot be written; the next occurrence does not wait for it,
but is taken from memory when it is due. Until the bucket has the latest state, the schedule is
under way: its key is reserved, so that a change by others is made after the occurrences sent so
far are recorded, and before another one is sent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from heapq import heapify, heappop, heappush
from itertools import count

from gozo.delivery import dead_letters
from gozo.delivery.attempts import after_expiry, after_failure
from gozo.delivery.failures import Failures
from gozo.delivery.wakeup import Wakeup
from gozo.protocol.deliveries import delivery
from gozo.runtime.clock_watch import ClockWatch
from gozo.runtime.logs import get_logger
from gozo.schedule.model import MICROSECONDS, Entry, Outgoing, Reason, State
from gozo.schedule.recurrence import onward, shortest_us
from gozo.schedule.timetable import Item, Timetable
from gozo.store.changes import Result
from gozo.store.message_cache import MessageCache
from gozo.store.reservations import Reservations

SLICE = 50  # schedules advanced before others get a turn
ROOM_WAIT = 0.002  # seconds between checks for room in the store
ADVANCE_DELAY = 0.005  # seconds between checks whether a burst is over, for schedules that can wait
CAN_WAIT_US = 10 * MICROSECONDS
"""Schedules whose occurrences are at least this far apart are advanced after a burst."""
MOST_WAITING = 200_000  # schedules that may wait for a burst to end
FIRST_NUMBER = -(1 << 62)
"""Occurrences from memory have negative numbers in place of a revision, unlike any version in the
bucket."""

log = get_logger("gozo.occurrences")


class _Course:
    """A schedule under way."""

    __slots__ = (
        *("changed", "entry", "from_memory", "key", "message", "out", "payload", "reason"),
        *("revision", "sent_us", "waiting", "writing"),
    )

    def __init__(self, item: Item) -> None:
        self.key = item.key
        self.revision = item.revision
        """The version that the bucket is known to have."""
        self.out: Item | None = item
        """The occurrence that is being delivered."""
        self.from_memory = False
        """Whether that occurrence came from memory rather than from the timetable."""
        self.waiting: Item | None = None
        """The next occurrence, which waits in memory."""
        self.entry: Entry | None = None
        """The latest state of the schedule; None: not read yet, or ended."""
        self.reason = Reason.DELIVERED
        """The outcome of the last occurrence."""
        self.sent_us = 0
        """When an occurrence was last sent or skipped: those overdue then are past."""
        self.payload = b""
        self.message: Outgoing | None = None
        """The message of the occurrence from memory."""
        self.changed = False
        """Whether the bucket lacks the latest state."""
        self.writing = False


class Occurrences:
    """The schedules under way as a source of due occurrences; see `Source`."""

    def __init__(
        self,
        reservations: Reservations,
        timetable: Timetable,
        cache: MessageCache,
        failures: Failures,
        clock: ClockWatch,
        wakeup: Wakeup,
    ) -> None:
        self._failures = failures
        self._clock = clock
        self._wakeup = wakeup
        self._reservations = reservations
        self._timetable = timetable
        self._cache = cache
        self._courses: dict[str, _Course] = {}
        self._next: list[Item] = []
        self._sent: deque[Item] = deque()
        self._waiting: deque[Item] = deque()
        """Delivered occurrences whose schedules wait for a burst to end."""
        self._unwritten: deque[_Course] = deque()
        """Schedules that wait for room in the store."""
        self._numbers = count(FIRST_NUMBER)

    @property
    def is_idle(self) -> bool:
        """Whether the new state of every sent occurrence is being stored."""
        return not (self._sent or self._waiting or self._unwritten)

    # From the timetable to sending

    def begin(self, item: Item) -> None:
        """Take over an occurrence that was popped from the timetable."""
        self._reservations.occupy(item)
        self._courses[item.key] = _Course(item)

    def next_due(self) -> int | None:
        """When the next occurrence in memory is due, even if it is outdated."""
        return self._next[0].due_us if self._next else None

    def pop_due(self, now_us: int, limit: int) -> list[Item]:
        """Take at most `limit` due occurrences from memory."""
        popped: list[Item] = []
        while self._next and self._next[0].due_us <= now_us and len(popped) < limit:
            item = heappop(self._next)
            course = self._courses.get(item.key)
            if course is None or course.waiting != item:
                continue
            course.waiting, course.out, course.from_memory = None, item, True
            if self.is_current(item):
                popped.append(item)
            else:
                self.let_go(item)
        return popped

    def is_current(self, item: Item) -> bool:
        """Tell whether an occurrence may still be sent."""
        course = self._course(item)
        if course is None:
            return False
        if not course.from_memory:
            return self._timetable.is_current(item)
        return not self._reservations.is_wanted(course.key) and not self._is_stale(course)

    def message(self, item: Item) -> Outgoing | None:
        """The message of an occurrence, if it is in memory."""
        course = self._course(item)
        if course is None or not course.from_memory:
            return self._cache.get(item)
        if course.entry is None:
            return None
        if course.message is None:
            course.message = delivery(course.entry, course.payload)
        return course.message

    def sending(self, item: Item, message: Outgoing, now_us: int) -> None:
        """Note the state of a schedule before an occurrence is sent or skipped."""
        course = self._course(item)
        if course is None:
            return
        course.sent_us = now_us
        if course.entry is None:
            course.entry, course.payload = message.entry, message.payload

    # Outcomes of earlier occurrences

    def amend(self, key: str, change: Callable[[Entry], Entry]) -> None:
        """Change the state of a schedule whose occurrence is about to be skipped."""
        course = self._courses.get(key)
        if course is not None and course.entry is not None:
            course.entry = change(course.entry)

    def take_note(self, key: str, change: Callable[[Entry], Entry]) -> bool:
        """Change the state of a schedule, and store it; False if it is not in memory.

        It is not while an occurrence from the timetable is sent, which may be given back.
        """
        course = self._courses.get(key)
        if course is None or course.entry is None:
            return False
        if course.out is not None and not course.from_memory:
            return False
        course.entry, course.changed = change(course.entry), True
        self._rest(course)
        return True

    # Results of an occurrence

    def delivered(self, item: Item) -> None:
        """Go on to the next occurrence: the server, or a stream, has this one."""
        course = self._course(item)
        if course is None:
            return
        if course.entry is None or shortest_us(course.entry) >= CAN_WAIT_US:
            if not self._waiting:
                asyncio.get_running_loop().call_later(ADVANCE_DELAY, self._go_on_later)
            self._waiting.append(item)
        else:
            if not self._sent:
                asyncio.get_running_loop().call_soon(self._go_on)
            self._sent.append(item)

    def missed(self, item: Item) -> None:
        """Go on to the next occurrence: this one was too late, and is skipped."""
        course = self._course(item)
        if course is not None and course.entry is not None:
            course.reason = Reason.MISSED
            self._move_on(course, onward(course.entry, course.sent_us, sent=False))

    def failed(self, item: Item, reason: str) -> None:
        """Handle a failed attempt: retry later, or give the occurrence up for the next one."""
        self._note(item, lambda entry, now_us: after_failure(item.key, entry, reason, now_us))

    def expired(self, item: Item) -> None:
        """Give up an occurrence that is too old to be tried for the next one."""
        self._note(item, partial(after_expiry, item.key))

    def _note(self, item: Item, change: Callable[[Entry, int], Entry]) -> None:
        course = self._course(item)
        if course is None or course.entry is None:
            return
        entry = change(course.entry, self._clock.now_us())
        if entry.is_dead_letter and self._has_room_for(course, entry):
            self._keep_dead_letter(course, item, entry)
        elif entry.state is State.FAILED:
            self._give_up(course, entry)
        else:
            self._move_on(course, entry)
            self._failures.note(entry)

    def _has_room_for(self, course: _Course, entry: Entry) -> bool:
        has_room = self._reservations.has_room_for_dead_letter(course.key)
        if not has_room:
            log.limited("error", "dead_letter.dropped", key=course.key, reason=entry.reason)
        return has_room

    def _keep_dead_letter(self, course: _Course, item: Item, entry: Entry) -> None:
        """Give an occurrence up once its dead letter is stored, however long that takes."""
        key, kept = dead_letters.of_occurrence(course.key, entry)

        def on_result(result: Result, words: str) -> None:
            if self._courses.get(course.key) is not course or course.out != item:
                return
            if result in (Result.SUPERSEDED, Result.DROPPED):
                self.give_back(item)  # another replica leads, and tries it again
                return
            if result not in (Result.STORED, Result.REPLACED):
                log.limited("error", "dead_letter.refused", key=key, reason=words or result)
            self._give_up(course, entry)

        self._reservations.keep(key, kept, course.payload, on_result)

    def _give_up(self, course: _Course, entry: Entry) -> None:
        course.reason = Reason.FAILED
        self._move_on(course, onward(entry, self._clock.now_us(), sent=True))
        self._failures.note(entry)

    def give_back(self, item: Item, due_us: int | None = None) -> None:
        """Let an occurrence that was not sent wait again, until its own time or a later one."""
        course = self._course(item)
        if course is None:
            return
        if due_us is not None:
            item = item._replace(due_us=due_us)
        if course.from_memory:
            course.out, course.waiting = None, item
            heappush(self._next, item)
            self._rest(course)
        else:
            self._timetable.give_back(item)
            self._end(course)

    def let_go(self, item: Item) -> None:
        """Drop an occurrence whose schedule was changed or removed."""
        course = self._course(item)
        if course is not None:
            course.out = None
            self._rest(course)

    def shown(self, item: Item) -> str:
        """Return the name of an occurrence in logs: the key of its schedule."""
        return item.key

    def stop(self) -> None:
        """Send nothing more; have the state of all schedules stored in the bucket."""
        for course in list(self._courses.values()):
            self._rest(course)

    # From one occurrence to the next

    def _course(self, item: Item) -> _Course | None:
        course = self._courses.get(item.key)
        return course if course is not None and course.out == item else None

    def _is_stale(self, course: _Course) -> bool:
        """Tell whether others changed the schedule."""
        return not course.writing and self._timetable.revision(course.key) != course.revision

    def _go_on(self) -> None:
        self._take_some(self._sent)
        if self._sent:
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on_later(self) -> None:
        if not self._wakeup.is_pending or len(self._waiting) > MOST_WAITING:
            self._take_some(self._waiting)
        if self._waiting:
            asyncio.get_running_loop().call_later(
                ADVANCE_DELAY if self._wakeup.is_pending else 0.0, self._go_on_later
            )

    def _take_some(self, items: deque[Item]) -> None:
        for _ in range(min(SLICE, len(items))):
            course = self._course(items.popleft())
            if course is not None:
                course.reason = Reason.DELIVERED
                entry = course.entry and onward(course.entry, course.sent_us, sent=True)
                self._move_on(course, entry)

    def _move_on(self, course: _Course, entry: Entry | None) -> None:
        if course.out is not None and not course.from_memory:
            self._cache.discard(course.key, course.out.revision)
        course.out, course.entry, course.changed, course.message = None, entry, True, None
        if entry is not None:
            course.waiting = Item(entry.wake_us, next(self._numbers), course.key)
            heappush(self._next, course.waiting)
            self._shrink()
            self._wakeup.soon()
        self._rest(course)

    def _shrink(self) -> None:
        """Drop outdated items, which are most: idle schedules wait in the timetable."""
        if len(self._next) > 2 * len(self._courses) + 1_000:
            waiting = (course.waiting for course in self._courses.values())
            self._next = [item for item in waiting if item is not None]
            heapify(self._next)

    def _rest(self, course: _Course) -> None:
        """Store the latest state, or end the course if the bucket already has it."""
        if course.writing or (course.out is not None and not course.changed):
            return
        if self._is_stale(course) or not course.changed:
            if course.out is None:
                self._end(course)
            return
        if not self._reservations.has_room:
            if not self._unwritten:
                asyncio.get_running_loop().call_later(ROOM_WAIT, self._write_on)
            self._unwritten.append(course)
        elif course.entry is None:
            del self._courses[course.key]
            self._reservations.conclude(course.key, course.reason)
        else:
            self._write(course, course.entry)

    def _write_on(self) -> None:
        for _ in range(min(SLICE, len(self._unwritten))):
            if not self._reservations.has_room:
                break
            course = self._unwritten.popleft()
            if self._courses.get(course.key) is course:
                self._rest(course)
        if self._unwritten:
            asyncio.get_running_loop().call_later(ROOM_WAIT, self._write_on)

    def _write(self, course: _Course, entry: Entry) -> None:
        course.writing, course.changed = True, False

        def on_result(result: Result, words: str) -> None:
            self._on_written(course, result, words)

        self._reservations.advance(
            course.key, entry, course.payload, on_result, lambda: course.out is None
        )

    def _on_written(self, course: _Course, result: Result, words: str) -> None:
        course.writing = False
        if result in (Result.STORED, Result.REPLACED):
            course.revision = self._reservations.version(course.key)
        elif result is Result.REFUSED:
            # If it continued from memory, it would start over from the old state at each start.
            self._reservations.set_aside(course.key, words)
            self._end(course)
            return
        else:
            # The timetable has the old state, which can be taken again.
            self._timetable.give_back(Item(self._clock.now_us(), course.revision, course.key))
            self._end(course)
            return
        if self._is_stale(course):
            self._end(course)
        else:
            self._rest(course)

    def _end(self, course: _Course) -> None:
        """Return the schedule to the timetable, and allow changes by others."""
        del self._courses[course.key]
        self._reservations.vacate(course.key)
