"""Publishes what is due, and removes it once the server is known to have it.

What is due goes out in batches. After a batch comes one more message, to ourselves: when
that echo is back, the server has read the batch (NATS keeps the order of a connection), and
only then are the batch's entries settled. A batch whose echo does not come, because the
connection was lost, goes back to the timetable.

Sending goes first: settling waits while there is more to send.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from gozo.delivery.denials import Denials
from gozo.delivery.in_memory import InMemory
from gozo.delivery.parking import Parking
from gozo.delivery.recurring import Occurrences, after_failure
from gozo.delivery.stream_acks import StreamAcks
from gozo.errors import DisconnectedError
from gozo.runtime.clock import Alarm, steady
from gozo.runtime.clock_watch import ClockWatch
from gozo.runtime.logs import get_logger
from gozo.runtime.pace import Pace
from gozo.schedule.keys import OCCURRENCE, is_in_memory
from gozo.schedule.model import MICROSECONDS, Entry, Outgoing, Reason, State, retried
from gozo.schedule.recurrence import is_left_out
from gozo.schedule.timetable import Item, Timetable
from gozo.store.changes import Result
from gozo.store.delivery_hooks import DeliveryHooks
from gozo.store.index import BucketIndex
from gozo.store.message_cache import MessageCache
from gozo.store.schedule_store import ScheduleStore
from gozo.telemetry.events import EventSink, shown_key
from gozo.telemetry.stats import Stats
from gozo.transport.commands import publication
from gozo.transport.connection import Connection
from gozo.transport.permissions import not_published

BATCH = 500  # messages
BATCH_BYTES = 1024 * 1024
BUFFER = 4 * 1024 * 1024  # bytes written and not sent, beyond which more would only wait there
PATIENCE = 0.25  # seconds that others wait for a message while none comes from the bucket
LONGEST_STALL = 2.0  # seconds that others wait for one message, whatever comes
ECHO_AGAIN = 1.0  # seconds after which an echo is asked for again
ECHO_TIME = 0.25  # seconds after which an echo is late, and nothing more is sent until it is back
FIRST_WAIT_US, LONGEST_WAIT_US = MICROSECONDS // 4, 60 * MICROSECONDS
LONGEST_UNREAD_US = MICROSECONDS
"""How long a message waits that could not be read: who elects a leader is back in seconds."""
SETTLE_SLICE = 50  # entries settled before others get a turn
SETTLE_LATER = 200_000  # confirmed messages that may wait for a burst to end
ROOM_WAIT = 0.002  # seconds
APART_US = 300
"""Microseconds between two batches: what is due thousands of times a second goes out together."""
UNPARK = 100  # items that go on at once when there is room
GATHER = 0.005  # seconds that confirmed messages wait for others, to be settled in one piece
UNREADABLE = "its message cannot be read from the bucket yet"

log = get_logger("gozo.delivery")


class Delivery:
    """The end of a schedule's life."""

    # It has more attributes than Python is quick with otherwise: see tests/unit/test_attributes.py.
    __slots__ = (
        *("_alarm", "_attempts", "_clock", "_stream_acks", "_confirmed", "_confirming"),
        *("_connection", "_denied", "_draining", "_echo_asked", "_echo_number", "_echo_sent"),
        *("_echoing", "_echoing_messages", "_enabled", "_held_since", "_store", "_loop"),
        *("_may_deliver", "_occurrences", "_pace", "_parked", "_cache", "_queue", "_recurring"),
        *("_sent", "_sent_messages", "_settling", "_stalled", "_stats", "_timetable"),
        *("_unanswered", "_under_way", "_in_memory", "_woken", "_events"),
    )

    def __init__(
        self,
        connection: Connection,
        timetable: Timetable,
        in_memory: InMemory,
        cache: MessageCache,
        store: ScheduleStore,
        occurrences: Occurrences,
        index: BucketIndex,
        hooks: DeliveryHooks,
        stats: Stats,
        events: EventSink,
        clock: ClockWatch,
        may_deliver: Callable[[], bool],
        pace: Pace,
    ) -> None:
        self._connection = connection
        self._timetable = timetable
        self._in_memory = in_memory
        self._cache = cache
        self._store = store
        self._occurrences = occurrences
        self._under_way = occurrences.out
        self._recurring = index.traits.recurring
        self._confirming = index.traits.confirming
        self._stats = stats
        self._events = events
        self._clock = clock
        self._may_deliver = may_deliver
        self._pace = pace
        self._held_since: float | None = None
        """Since when what is due waits because of that."""
        self._loop = asyncio.get_running_loop()
        self._alarm = Alarm(self.wake)
        self._enabled = False
        self._queue: deque[Item] = deque()
        self._stalled: tuple[Item, float] | None = None
        self._attempts: dict[tuple[str, int], int] = {}
        self._unanswered: set[tuple[str, int]] = set()
        """Sent again at once, because no stream had acknowledged them."""
        self._echoing: list[Item] | None = None
        self._echo_sent = self._echo_asked = 0.0
        self._echo_number = 0
        """Of the batch whose echo is awaited."""
        self._sent: list[Item] = []
        self._echoing_messages: list[Outgoing] = []
        self._sent_messages: list[Outgoing] = []
        """What is in the two lists above, where somebody is to be told: by the time of the echo
        another version may have taken its place."""
        self._denied = Denials(self._in_flight)
        self._stream_acks = StreamAcks(connection, self)
        self._stream_acks.on_room = self.wake_soon
        self._parked = Parking()
        """Due, and waiting for others to be acknowledged."""
        hooks.attach(
            wake=self.wake_soon, withdraw=self._withdraw, awaits_ack=self._stream_acks.awaits
        )
        self._confirmed: deque[Item] = deque()
        self._settling = False
        self._woken = False
        self._draining: asyncio.Task[None] | None = None
        occurrences.on_due = self.wake_soon
        occurrences.is_busy = lambda: self._woken
        connection.on_denied.append(self._on_denied)

    def start(self) -> None:
        """Deliver from now on, for as long as the lease allows."""
        self._enabled = True
        self.wake_soon()

    def stop(self) -> None:
        """Send nothing more; what was sent is still confirmed and settled."""
        self._enabled = False
        self._give_back((*self._queue, *self._parked.clear()))
        self._queue.clear()
        self._occurrences.stop()
        for item in [item for item in self._confirmed if is_in_memory(item)]:
            self._in_memory.remove(item)

    @property
    def is_idle(self) -> bool:
        """Whether all that was sent is confirmed, and being settled."""
        sent = self._sent or len(self._stream_acks)
        going_on = self._confirmed or not self._occurrences.is_idle
        return self._echoing is None and not sent and not going_on

    def close(self) -> None:
        """Let go of the alarm."""
        self._alarm.stop()

    def wake_soon(self) -> None:
        """Look for what is due, once the event loop has a moment."""
        if not self._woken:
            self._woken = True
            self._loop.call_soon(self._wake_again)

    def _wake_again(self) -> None:
        self._woken = False
        self.wake()

    def wake(self) -> None:
        """Send what is due, and set the alarm for what comes next.

        By a clock that was set a moment ago nothing is sent: `may_deliver` is asked after the look.
        """
        now_us = self._clock.now_us()
        if not (self._enabled and self._may_deliver()) or self._is_waiting:
            self._settle_soon()
            self._alarm.set(None, now_us)
            return
        if self._pace.most is not None and self._is_held_back(now_us):
            return
        self._fill(now_us)
        moved = self._send(now_us)
        unparked = self._unpark(now_us)
        if self._queue and not (moved or unparked):
            self._settle_soon()
            self._alarm.set(now_us + int(PATIENCE * MICROSECONDS), now_us)
            return
        due_us = None if self._queue else self.next_due()
        is_due = due_us is not None and due_us <= now_us
        if self._queue or is_due or (unparked and self._has_parked):
            self.wake_soon()
            return
        self._settle_soon()
        now_us = self._clock.now_us()
        if moved and due_us is not None:
            due_us = max(due_us, now_us + APART_US)
        if self._has_parked:  # their messages are being read
            patience_us = now_us + int(PATIENCE * MICROSECONDS)
            due_us = patience_us if due_us is None else min(due_us, patience_us)
        self._alarm.set(due_us, now_us)

    def _is_held_back(self, now_us: int) -> bool:
        """Tell whether nothing may be sent now, since so much was a moment ago."""
        now = steady()
        wait = self._pace.wait(now)
        if not wait:
            if self._held_since is not None:
                self._stats.held_back += now - self._held_since
                self._held_since = None
            return False
        if self._held_since is None and (self._queue or self._is_due(now_us)):
            self._held_since = now
            log.repeated("warning", "delivery.held_back", max_deliver_rate=self._pace.most)
        self._settle_soon()
        self._alarm.set(now_us + int(wait * MICROSECONDS), now_us)
        return True

    @property
    def _is_waiting(self) -> bool:
        """Whether the link is slow or dead: what is sent now may have to be sent again."""
        late = self._echoing is not None and steady() - self._echo_sent > ECHO_TIME
        return late or self._draining is not None

    @property
    def _has_parked(self) -> bool:
        """Whether something waited for room, and there is room."""
        return bool(self._parked) and any(
            self._parked.waiting(silent=silent) and self._stream_acks.room(silent=silent) > 0
            for silent in (False, True)
        )

    def _must_wait(self, item: Item) -> bool:
        """Tell whether an item whose message is to be acknowledged may not be sent yet."""
        silent = self._parked.is_silent(item)
        return self._parked.waiting(silent=silent) > 0 or self._stream_acks.room(silent=silent) <= 0

    def next_due(self) -> int | None:
        """When the next schedule is due, of those waiting; None if there is none."""
        in_memory, occurrences = self._in_memory.timetable, self._occurrences
        tables = (self._timetable.next_due(), in_memory.next_due(), occurrences.next_due())
        return min((due for due in tables if due is not None), default=None)

    def _is_due(self, now_us: int) -> bool:
        due = self.next_due()
        return due is not None and due <= now_us

    # Sending

    def _fill(self, now_us: int) -> None:
        """Take from the timetables what is due, in order."""
        room = BATCH - len(self._queue)
        if self._pace.most is not None:
            room = min(room, self._pace.room(steady()) - len(self._queue))
        if room <= 0:
            return
        items = self._timetable.pop_due(now_us, room)
        if self._recurring:
            for item in items:
                if item.key in self._recurring:
                    self._occurrences.begin(item)
        others = self._occurrences.pop_due(now_us, room)
        if len(self._in_memory):
            others += self._in_memory.timetable.pop_due(now_us, room - len(items))
        if others:
            items = sorted((*items, *others), key=lambda item: item.due_us)
        self._queue.extend(items)

    def _send(self, now_us: int) -> bool:
        """Send from the head of the queue while messages are at hand; False if nothing moved."""
        parts: list[bytes] = []
        late: list[int] = []
        size = 0
        queue, sent = self._queue, self._sent
        messages = self._sent_messages if self._events.enabled else None
        moved = asks = False
        most = BATCH * 4 if self._pace.most is None else self._pace.room(steady())
        while queue and size < BATCH_BYTES and len(late) < most:
            item = queue[0]
            if not self._table(item).is_current(item):
                queue.popleft()
                self._drop(item)
                moved = True
                continue
            if item.key in self._confirming and self._must_wait(item):
                queue.popleft()
                self._park(item)
                moved = True
                continue
            message = self._message(item)
            if message is None:
                asks = True
                if self._wait_for_head():
                    break
                # It was set apart: the queue is another one.
                queue, moved = self._queue, True
                continue
            queue.popleft()
            moved = True
            if self._is_not_sent(item, message, now_us):
                continue
            late.append(now_us - item.due_us)
            if message.confirm:
                size += message.size
                asks = True
                self._send_for_ack(item, message)
                continue
            parts.append(publication(message.subject, message.payload, message.headers))
            size += len(parts[-1])
            sent.append(item)
            if messages is not None:
                messages.append(message)
        self._note_lateness(late)
        self._write(parts)
        if asks:
            self._ask_link()
        return moved

    def _drop(self, item: Item) -> None:
        """Send an item no more: another version has taken its place, or it was removed."""
        self._attempts.pop((item.key, item.revision), None)
        self._unanswered.discard((item.key, item.revision))
        if item in self._under_way:
            self._occurrences.let_go(item)

    def _park(self, item: Item) -> None:
        """Let an item wait until others are acknowledged, whose messages are many enough."""
        replaced = self._parked.take(item.key)
        if replaced is not None:
            self._drop(replaced)
        if self._store.is_wanted(item.key):
            self._table(item).give_back(item)  # changes wait for it, and it was not sent
            return
        self._parked.add(item)
        if not self._cache.takes_more:
            self._cache.discard(item.key, item.revision)

    def _unpark(self, now_us: int) -> bool:
        """Send what was parked, as far as there is room and messages are at hand.

        Those that have to be read wait on where they are, and not in the queue before others.
        False if nothing moved.
        """
        if not self._parked:
            return False
        moved = [self._unpark_some(now_us, silent=silent) for silent in (False, True)]
        return any(moved)

    def _unpark_some(self, now_us: int, *, silent: bool) -> bool:
        room = min(self._stream_acks.room(silent=silent), UNPARK)
        if self._pace.most is not None:
            room = min(room, self._pace.room(steady()))
        late: list[int] = []
        size = 0
        moved = False
        for item in self._parked.first(room, silent=silent):
            if item not in self._parked or size > BATCH_BYTES:
                continue
            is_current, message = self._table(item).is_current(item), self._message(item)
            if is_current and message is None and not self._cache.lacks(item, PATIENCE):
                self._cache.fetch(item)
                continue
            self._parked.take(item.key)
            moved = True
            if not is_current:
                self._drop(item)
            elif message is None:
                self._cache.was_absent(item)  # asked once more when it is due again
                self._set_apart(item, UNREADABLE, unread=True)
            elif not self._is_not_sent(item, message, now_us):
                late.append(now_us - item.due_us)
                size += message.size
                self._send_for_ack(item, message)
        self._note_lateness(late)
        if late:
            self._ask_link()
        return moved

    def _withdraw(self, key: str) -> None:
        """Give back what was taken for delivery and not sent, for others to change it."""
        keys = (key, OCCURRENCE + key)
        items = [item for item in self._queue if item.key in keys]
        for item in items:
            self._queue.remove(item)
        parked = map(self._parked.take, keys)
        items += [item for item in parked if item is not None]
        for item in items:
            self._unanswered.discard((item.key, item.revision))
            self._table(item).give_back(item)

    def _note_lateness(self, late: list[int]) -> None:
        """Count how late some messages are sent, in microseconds."""
        if not late:
            return
        self._stalled = None
        self._pace.sent(len(late))
        self._stats.latest_us = max(self._stats.latest_us, *late)
        self._stats.lateness.note(late, steady())

    def _is_not_sent(self, item: Item, message: Outgoing, now_us: int) -> bool:
        """Tell whether a message is not to be sent, or not now; then it is seen to."""
        if message.entry is not None and self._is_left_out(item, message, now_us):
            return True
        silent = message.confirm and self._parked.is_silent(item)
        if message.confirm and self._stream_acks.room(silent=silent) <= 0:
            self._park(item)
            return True
        if message.size > self._connection.max_payload:
            self._connection.doubt_limits()
            self._fail(item, f"{message.size} bytes are more than the server takes")
            return True
        return False

    def _is_left_out(self, item: Item, message: Outgoing, now_us: int) -> bool:
        """Look at a schedule's spec; True: it was missed, and is done with."""
        entry = message.entry
        assert entry is not None
        if item in self._under_way:
            self._occurrences.take(item, message, now_us)
        if not is_left_out(entry, now_us):
            return False
        self._stats.missed += 1
        late_s = (now_us - entry.due_us) / MICROSECONDS
        log.limited("warning", "schedule.missed", id=entry.id, late_s=late_s)
        self._events.missed(entry.id, entry.due_us)
        if item in self._under_way:
            self._occurrences.leave_out(item)
        else:
            self._cache.discard(item.key, item.revision)
            self._store.settle(item, Reason.MISSED)
        return True

    def _send_for_ack(self, item: Item, message: Outgoing) -> None:
        try:
            self._stream_acks.send(item, message, silent=self._parked.is_silent(item))
        except DisconnectedError:
            self.on_unsent(item)
            return
        self._drain_if(self._connection.backlog)

    # What becomes of messages that a stream must acknowledge

    def on_acknowledged(self, item: Item, message: Outgoing) -> None:
        """A stream has it."""
        self._stats.delivered += 1
        self._events.delivered(message)
        self._unanswered.discard((item.key, item.revision))
        self._parked.note(item, silent=False)
        if item in self._under_way:
            self._occurrences.delivered(item)
            return
        self._confirmed.append(item)
        self._settle_soon()

    def on_failed(self, item: Item, reason: str) -> None:
        """No stream has it, as far as is known."""
        self._fail(item, reason)

    def on_unanswered(self, item: Item, reason: str) -> None:
        """No stream has acknowledged it in time.

        It has waited by now, so it is sent again at once: while a cluster elects a leader for
        the stream, the bucket has none either as a rule, and a note there would take longer.
        """
        self._parked.note(item, silent=True)
        known, message = (item.key, item.revision), self._message(item)
        if known in self._unanswered or message is None or message.counted:
            self._unanswered.discard(known)
            self._fail(item, reason)
        else:
            self._unanswered.add(known)
            self._stats.retried += 1
            self._table(item).give_back(item)
            self.wake_soon()

    def on_unsent(self, item: Item) -> None:
        """The connection was lost."""
        self._give_back((item, *self._parked.clear()))

    def _fail(self, item: Item, reason: str) -> None:
        """Count an attempt in vain: the bucket says when the next one is due, or that none is."""
        self._stats.undeliverable += 1
        self._stats.retried += 1
        if item in self._under_way:
            entry = self._occurrences.failed(item, reason)
            if entry is not None:
                self.note_failure(entry)
            return
        if is_in_memory(item):
            self._fail_in_memory(item, reason)
            return
        noted: list[Entry] = []

        def note(entry: Entry) -> Entry:
            noted[:] = [after_failure(item.key, entry, reason, self._clock.now_us())]
            return noted[0]

        # Held by the store from here on, so a cancel that waited finds it not out for delivery.
        self._store.retry(item, note, partial(self._on_noted, item, noted))
        self._timetable.give_back(item)

    def _on_noted(self, item: Item, noted: list[Entry], result: Result, words: str) -> None:
        if result in (Result.STORED, Result.REPLACED):
            self.note_failure(noted[0])
        elif result in (Result.REFUSED, Result.INVALID, Result.UNAVAILABLE):
            self._timetable.take(item)
            self._set_apart(item, words)

    def _fail_in_memory(self, item: Item, reason: str) -> None:
        """Try what is in memory only again; what was triggered is tried once."""
        entry = self._in_memory.entry(item)
        if self._in_memory.fail(item, reason):
            if entry is not None:
                self.note_failure(retried(entry._replace(attempts=1), reason, self._clock.now_us()))
            return
        if entry is not None and (item.key, item.revision) not in self._attempts:
            self.note_failure(retried(entry, reason, self._clock.now_us()))
        self._set_apart(item, reason)

    def note_failure(self, entry: Entry) -> None:
        """Count what is given up, and tell what became of a schedule after an attempt in vain."""
        self._stats.failed += entry.state is State.FAILED
        self._events.not_delivered(entry)

    def _write(self, parts: list[bytes]) -> None:
        if not parts:
            return
        try:
            self._connection.write(b"".join(parts))
            if self._echoing is None:
                self._echo()
        except DisconnectedError:
            self._unsent()
            return
        self._drain_if(self._connection.buffered)

    def _drain_if(self, bytes_: int) -> None:
        """Send nothing more while so much waits to be sent that it is too much."""
        if bytes_ > BUFFER and self._draining is None:
            self._draining = self._loop.create_task(self._drain(), name="delivery drains")

    async def _drain(self) -> None:
        try:
            await self._connection.drained()
        except DisconnectedError:
            pass
        finally:
            self._draining = None
            self.wake_soon()

    def _message(self, item: Item) -> Outgoing | None:
        if self._under_way and item in self._under_way:
            return self._occurrences.get(item)
        return self._in_memory.get(item) if is_in_memory(item) else self._cache.get(item)

    def _table(self, item: Item) -> Timetable | Occurrences:
        if self._under_way and item in self._under_way:
            return self._occurrences
        return self._in_memory.timetable if is_in_memory(item) else self._timetable

    def _wait_for_head(self) -> bool:
        """Fetch what the queue lacks; False once that has taken too long and it is set apart."""
        missing = [
            item
            for item in self._queue
            if self._message(item) is None and self._table(item).is_current(item)
        ]
        apart = {item for item in missing if self._cache.was_absent(item)}
        for item in missing:
            if item not in apart:
                self._cache.fetch(item)
        head, now = missing[0], steady()
        if self._stalled is None or self._stalled[0] != head:
            self._stalled = (head, now)
        if apart:
            pass  # Purged, or replaced a moment ago: the follower will tell.
        elif (head.key, head.revision) in self._attempts:
            # It has been waited for before.
            apart = {item for item in missing if (item.key, item.revision) in self._attempts}
        elif self._cache.is_overdue(head, PATIENCE):
            apart = {item for item in missing if self._cache.is_overdue(item, PATIENCE)}
        elif now - self._stalled[1] > LONGEST_STALL:
            apart = {head}
        else:
            return True
        self._stalled = None
        self._queue = deque(item for item in self._queue if item not in apart)
        for item in apart:
            self._set_apart(item, UNREADABLE, unread=True)
        return False

    def _set_apart(self, item: Item, reason: str, *, unread: bool = False) -> None:
        """Try one item again later, so that it does not hold up the others."""
        known = (item.key, item.revision)
        attempts = self._attempts.get(known, 0)
        self._attempts[known] = attempts + 1
        longest_us = LONGEST_UNREAD_US if unread else LONGEST_WAIT_US
        wait_us = min(FIRST_WAIT_US << min(attempts, 10), longest_us)
        log.limited(
            "warning",
            "delivery.postponed",
            key=shown_key(item.key),
            attempts=attempts + 1,
            wait_s=wait_us / MICROSECONDS,
            reason=reason,
        )
        due_us = self._clock.now_us() + wait_us
        if item in self._under_way:
            self._occurrences.give_back(item, due_us)
        else:
            self._table(item).give_back(item._replace(due_us=due_us))

    # Confirming

    def _echo(self) -> None:
        self._echoing, self._sent = self._sent, []
        if self._sent_messages:
            self._echoing_messages, self._sent_messages = self._sent_messages, []
        self._echo_sent = steady()
        self._ask_echo()

    def _ask_link(self) -> None:
        """Ask whether the link is alive, where nothing that was sent asks that already.

        What is sent on a dead link is sent again. The first sign of one may be a message that does
        not come from the bucket; a stream may take its time for an acknowledgement.
        """
        if self._echoing is None and self._connection.connected:
            self._echo()

    def _ask_echo(self) -> None:
        self._echo_asked = steady()
        self._connection.call_echo(partial(self._on_echo, self._echo_number))

    def look(self) -> None:
        """Ask again for an echo that does not come; to be called several times a second.

        It is gone for good where the server let nobody publish or hear it just then. A later one
        is as good: the server has read the batch before it.
        """
        if self._echoing is not None and steady() > self._echo_asked + ECHO_AGAIN:
            with suppress(DisconnectedError):
                self._ask_echo()

    def _on_echo(self, number: int, headers: bytes | None, payload: bytes | None) -> None:
        if number != self._echo_number:
            return  # an earlier batch has its echo already
        self._echo_number += 1
        batch, self._echoing = self._echoing or [], None
        was_late = steady() - self._echo_sent > ECHO_TIME
        if payload is None:
            self._give_back(batch)
            self._unsent()
            return
        if self._events.enabled:
            self._tell(batch)
        self._denied.restart()
        if self._denied:
            batch = self._without_denied(batch)
        self._stats.delivered += len(batch)
        if self._under_way:
            batch = self._without_recurring(batch)
        self._confirmed.extend(batch)
        if self._sent:
            try:
                self._echo()
            except DisconnectedError:
                self._unsent()
        self._settle_soon()
        if was_late:
            self.wake_soon()

    def _unsent(self) -> None:
        """The connection was lost: nobody knows whether these arrived."""
        self._give_back(self._echoing or [])
        self._give_back(self._sent)
        self._give_back(self._queue)
        self._queue.clear()
        self._echoing, self._sent = None, []
        self._echoing_messages, self._sent_messages = [], []
        self._denied.clear()

    def _give_back(self, items: Iterable[Item]) -> None:
        for item in items:
            self._table(item).give_back(item)

    def _tell(self, batch: list[Item]) -> None:
        messages, self._echoing_messages = self._echoing_messages, []
        for item, message in zip(batch, messages, strict=True):
            if item not in self._denied:
                self._events.delivered(message)

    def _on_denied(self, kind: str, subject: str) -> None:
        """The server refused one publication; it says so before the echo of its batch."""
        if kind != "publish":
            return
        if not self._stream_acks.deny(subject.encode()):
            self._denied.add(subject)

    def _in_flight(self, place: int) -> tuple[Item, bytes] | None:
        """Return what was sent at a place and is not confirmed, and its subject if it is known."""
        echoing, messages = self._echoing or [], self._echoing_messages
        if place >= len(echoing):
            place -= len(echoing)
            echoing, messages = self._sent, self._sent_messages
            if place >= len(echoing):
                return None
        item = echoing[place]
        message = messages[place] if self._events.enabled else self._message(item)
        return item, b"" if message is None else message.subject

    def _without_denied(self, batch: list[Item]) -> list[Item]:
        delivered = []
        for item in batch:
            subject = self._denied.take(item)
            if subject is None:
                delivered.append(item)
            else:
                self._fail(item, not_published(subject))
        return delivered

    def _without_recurring(self, batch: list[Item]) -> list[Item]:
        others = []
        for item in batch:
            if item in self._under_way:
                self._occurrences.delivered(item)
            else:
                others.append(item)
        return others

    # Settling

    def _settle_soon(self) -> None:
        if self._confirmed and not self._settling:
            self._settling = True
            if len(self._confirmed) < SETTLE_SLICE:
                self._loop.call_later(GATHER, self._settle)
            else:
                self._loop.call_soon(self._settle)

    def _settle(self) -> None:
        self._settling = False
        confirmed = self._confirmed
        if self._woken and len(confirmed) < SETTLE_LATER:
            return
        for _ in range(min(SETTLE_SLICE, len(confirmed))):
            if not self._store.has_room:
                self._settling = True
                self._loop.call_later(ROOM_WAIT, self._settle)
                return
            item = confirmed.popleft()
            if self._attempts:
                self._attempts.pop((item.key, item.revision), None)
            if is_in_memory(item):
                self._in_memory.remove(item)
            else:
                self._cache.discard(item.key, item.revision)
                self._store.settle(item)
        self._settle_soon()
