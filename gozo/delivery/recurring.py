"""The occurrences of recurring schedules, from when one is due until the next is in the bucket.

Once an occurrence is delivered, its entry is rewritten with the next due time. That takes a
while, and a long one where the bucket cannot be written; the next occurrence does not wait for
it, but is due from memory. From when an occurrence is taken up until the bucket has all that
became of the schedule, it is under way: its key is occupied, so that changes by others come
after what was sent, and are not overtaken by more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush

from gozo.protocol.requests import delivery
from gozo.runtime.clock_watch import ClockWatch
from gozo.runtime.logs import get_logger
from gozo.schedule.keys import OCCURRENCE
from gozo.schedule.model import MICROSECONDS, Entry, Outgoing, Reason, State, retried
from gozo.schedule.recurrence import onward, shortest_us
from gozo.schedule.timetable import Item, Timetable
from gozo.store.changes import Result
from gozo.store.message_cache import MessageCache
from gozo.store.reservations import Reservations

SLICE = 50  # schedules moved on before others get a turn
ROOM_WAIT = 0.002  # seconds
GATHER = 0.005  # seconds that those wait for a burst to end whose next occurrence is far off
FAR_US = 10 * MICROSECONDS  # how far off that is
MOST_WAITING = 200_000

log = get_logger("gozo.occurrences")


class _Course:
    """A schedule under way."""

    __slots__ = (
        *("changed", "entry", "key", "message", "out", "payload", "reason", "revision"),
        *("sent_us", "waiting", "writing"),
    )

    def __init__(self, item: Item) -> None:
        self.key = item.key
        self.revision = item.revision
        """The version that the bucket has, as far as is known."""
        self.out: Item | None = item
        """The occurrence that was taken up, and of which it is not known what became of it."""
        self.waiting: Item | None = None
        """The next occurrence, due from memory."""
        self.entry: Entry | None = None
        """What the schedule is now; None: not read yet, or over."""
        self.reason = Reason.DELIVERED
        """What became of the last occurrence."""
        self.sent_us = 0
        """When it was last sent, or left out: what was overdue then is past."""
        self.payload = b""
        self.message: Outgoing | None = None
        """The message of that occurrence."""
        self.changed = False
        """Whether the bucket has to be told."""
        self.writing = False


class Occurrences:
    """The schedules under way."""

    def __init__(
        self,
        reservations: Reservations,
        timetable: Timetable,
        cache: MessageCache,
        clock: ClockWatch,
    ) -> None:
        self._clock = clock
        self._reservations = reservations
        self._timetable = timetable
        self._cache = cache
        self._courses: dict[str, _Course] = {}
        self._next: list[Item] = []
        self._sent: deque[Item] = deque()
        self._waiting: deque[Item] = deque()
        """Those sent that wait for a burst to end."""
        self._unwritten: deque[_Course] = deque()
        """Those that wait for the store to have room."""
        self._count = 0
        self.out: set[Item] = set()
        """The occurrences that were taken up, and of which it is not known what became of them;
        not to be changed."""
        self.on_due: Callable[[], None] = lambda: None
        """Told that another occurrence may be due."""
        self.is_busy: Callable[[], bool] = lambda: False
        """Whether there is more to send at once: that goes first."""

    @property
    def is_idle(self) -> bool:
        """Whether all that was sent is being stored."""
        return not (self._sent or self._waiting or self._unwritten)

    # From the timetable to the subject

    def begin(self, item: Item) -> None:
        """Take up an occurrence that the timetable gave."""
        self._reservations.occupy(item)
        self._courses[item.key] = _Course(item)
        self.out.add(item)

    def next_due(self) -> int | None:
        """When the next occurrence from memory is due; may name one that is not valid any more."""
        return self._next[0].due_us if self._next else None

    def pop_due(self, now_us: int, limit: int) -> list[Item]:
        """Take up at most `limit` occurrences from memory that are due."""
        popped: list[Item] = []
        while self._next and self._next[0].due_us <= now_us and len(popped) < limit:
            item = heappop(self._next)
            course = self._courses.get(item.key[1:])
            if course is None or course.waiting != item:
                continue
            course.waiting, course.out = None, item
            self.out.add(item)
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
        if not item.key.startswith(OCCURRENCE):
            return self._timetable.is_current(item)
        return not self._reservations.is_wanted(course.key) and not self._is_stale(course)

    def get(self, item: Item) -> Outgoing | None:
        """The message of an occurrence, if it is in memory."""
        if not item.key.startswith(OCCURRENCE):
            return self._cache.get(item)
        course = self._course(item)
        if course is None or course.entry is None:
            return None
        if course.message is None:
            course.message = delivery(course.entry, course.payload)
        return course.message

    def take(self, item: Item, message: Outgoing, now_us: int) -> None:
        """Take in what is to be sent, or left out, at this moment."""
        course = self._course(item)
        if course is None:
            return
        course.sent_us = now_us
        if course.entry is None:
            course.entry, course.payload = message.entry, message.payload

    # What becomes of an occurrence

    def delivered(self, item: Item) -> None:
        """It was sent, and that is confirmed."""
        self.out.discard(item)
        course = self._course(item)
        if course is None:
            return
        if course.entry is None or shortest_us(course.entry) >= FAR_US:
            if not self._waiting:
                asyncio.get_running_loop().call_later(GATHER, self._go_on_later)
            self._waiting.append(item)
        else:
            if not self._sent:
                asyncio.get_running_loop().call_soon(self._go_on)
            self._sent.append(item)

    def leave_out(self, item: Item) -> None:
        """It was missed, and is not sent."""
        self.out.discard(item)
        course = self._course(item)
        if course is not None and course.entry is not None:
            course.reason = Reason.MISSED
            self._move_on(course, onward(course.entry, course.sent_us, sent=False))

    def failed(self, item: Item, reason: str) -> Entry | None:
        """It was tried in vain: it is tried again, or given up on for the next one.

        Returns the schedule after that attempt; None if it is not known any more.
        """
        self.out.discard(item)
        course = self._course(item)
        if course is None or course.entry is None:
            return None
        now_us = self._clock.now_us()
        entry = after_failure(course.key, course.entry, reason, now_us)
        if entry.state is State.FAILED:
            course.reason = Reason.FAILED
            self._move_on(course, onward(entry, now_us, sent=True))
        else:
            self._move_on(course, entry)
        return entry

    def give_back(self, item: Item, due_us: int | None = None) -> None:
        """It was not sent: it waits again, at its own time or a later one."""
        self.out.discard(item)
        course = self._course(item)
        if course is None:
            return
        if item.key.startswith(OCCURRENCE):
            course.out, course.waiting = None, item
            heappush(self._next, item)
            self._rest(course)
        else:
            self._timetable.give_back(item if due_us is None else item._replace(due_us=due_us))
            self._end(course)

    def let_go(self, item: Item) -> None:
        """It is not to be sent any more: something else became of its schedule."""
        self.out.discard(item)
        course = self._course(item)
        if course is not None:
            course.out = None
            self._rest(course)

    def stop(self) -> None:
        """Nothing more is sent: what waits in memory is in the bucket, or will be."""
        for course in list(self._courses.values()):
            self._rest(course)

    # From one occurrence to the next

    def _course(self, item: Item) -> _Course | None:
        course = self._courses.get(item.key.removeprefix(OCCURRENCE))
        return course if course is not None and course.out == item else None

    def _is_stale(self, course: _Course) -> bool:
        """Tell whether somebody else has changed the schedule."""
        return not course.writing and self._timetable.revision(course.key) != course.revision

    def _go_on(self) -> None:
        self._take_some(self._sent)
        if self._sent:
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on_later(self) -> None:
        if not self.is_busy() or len(self._waiting) > MOST_WAITING:
            self._take_some(self._waiting)
        if self._waiting:
            asyncio.get_running_loop().call_later(
                GATHER if self.is_busy() else 0.0, self._go_on_later
            )

    def _take_some(self, items: deque[Item]) -> None:
        for _ in range(min(SLICE, len(items))):
            course = self._course(items.popleft())
            if course is not None:
                course.reason = Reason.DELIVERED
                entry = course.entry and onward(course.entry, course.sent_us, sent=True)
                self._move_on(course, entry)

    def _move_on(self, course: _Course, entry: Entry | None) -> None:
        if course.out is not None and not course.out.key.startswith(OCCURRENCE):
            self._cache.discard(course.key, course.out.revision)
        course.out, course.entry, course.changed, course.message = None, entry, True, None
        if entry is not None:
            self._count += 1
            course.waiting = Item(entry.wake_us, self._count, OCCURRENCE + course.key)
            heappush(self._next, course.waiting)
            self._shrink()
            self.on_due()
        self._rest(course)

    def _shrink(self) -> None:
        """Drop what waits no more, which is most: a schedule at rest waits in the timetable."""
        if len(self._next) > 2 * len(self._courses) + 1_000:
            waiting = (course.waiting for course in self._courses.values())
            self._next = [item for item in waiting if item is not None]
            heapify(self._next)

    def _rest(self, course: _Course) -> None:
        """Tell the bucket what it does not know, and end what it knows."""
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
            # Sent on from memory, it would begin anew from what the bucket has at each start.
            self._reservations.set_aside(course.key, words)
            self._end(course)
            return
        else:
            # What the timetable has is as it was, and may be taken up again.
            self._timetable.give_back(Item(self._clock.now_us(), course.revision, course.key))
            self._end(course)
            return
        if self._is_stale(course):
            self._end(course)
        else:
            self._rest(course)

    def _end(self, course: _Course) -> None:
        """Leave the schedule to the timetable and to others."""
        del self._courses[course.key]
        self._reservations.vacate(course.key)


def after_failure(key: str, entry: Entry, reason: str, now_us: int) -> Entry:
    """Return a schedule after an attempt in vain, and say so in the log."""
    new = retried(entry, reason, now_us)
    log.limited(
        "warning",
        "delivery.failed" if new.state is State.FAILED else "delivery.postponed",
        key=key,
        attempts=new.tried,
        reason=new.reason,
    )
    return new
