"""Sends messages that a stream must acknowledge, while few enough are unacknowledged.

The others are parked: they wait for room, and do not hold up messages that need no acknowledgement.
"""

from __future__ import annotations

from collections.abc import Callable

from gozo.delivery.failures import Failures
from gozo.delivery.in_flight import InFlight
from gozo.delivery.missing import LONGEST_SILENCE, UNREADABLE
from gozo.delivery.parking import Parking
from gozo.delivery.screening import Screening
from gozo.delivery.settling import Settling
from gozo.delivery.source import Due, give_back
from gozo.delivery.stream_acks import StreamAcks
from gozo.delivery.throttle import Throttle
from gozo.delivery.wakeup import Wakeup
from gozo.errors import DisconnectedError
from gozo.schedule.model import Outgoing
from gozo.schedule.timetable import Item
from gozo.store.message_cache import MessageCache
from gozo.store.schedule_store import ScheduleStore
from gozo.telemetry.stats import Stats
from gozo.transport.connection import Connection

UNPARK = 100  # items sent at once when there is room
UNPARK_BYTES = 1024 * 1024


class StreamSender:
    """Sends or parks deliveries that count only once a stream has acknowledged them."""

    def __init__(
        self,
        connection: Connection,
        store: ScheduleStore,
        cache: MessageCache,
        in_flight: InFlight,
        screening: Screening,
        settling: Settling,
        failures: Failures,
        throttle: Throttle,
        stats: Stats,
        wakeup: Wakeup,
        note_sent: Callable[[list[int]], None],
    ) -> None:
        """`note_sent` records the lateness of sent messages, in microseconds."""
        self._connection = connection
        self._store = store
        self._cache = cache
        self._in_flight = in_flight
        self._screening = screening
        self._settling = settling
        self._failures = failures
        self._throttle = throttle
        self._stats = stats
        self._wakeup = wakeup
        self._note_sent = note_sent
        self._acks = StreamAcks(connection, self)
        self._parked = Parking()
        """Due items that wait for others to be acknowledged."""
        self._unanswered: set[tuple[str, int]] = set()
        """Keys and revisions that were sent again at once because no stream acknowledged them."""
        self.awaits = self._acks.awaits
        """Whether a version of a schedule was sent and is not acknowledged."""
        self.deny = self._acks.deny
        """Handle a refused publication on a subject; False if no message here has that subject."""

    @property
    def sent(self) -> int:
        """How many sent messages are unacknowledged."""
        return len(self._acks)

    @property
    def parked(self) -> int:
        """How many items wait for room."""
        return len(self._parked)

    @property
    def has_room(self) -> bool:
        """Whether parked items can be sent, since there is room."""
        return bool(self._parked) and any(
            self._parked.waiting(silent=silent) and self._acks.room(silent=silent) > 0
            for silent in (False, True)
        )

    def must_wait(self, item: Item) -> bool:
        """Tell whether an item that needs an acknowledgement must wait."""
        silent = self._parked.is_silent(item)
        return self._parked.waiting(silent=silent) > 0 or self._acks.room(silent=silent) <= 0

    # Sending

    def send(self, due: Due, message: Outgoing, now_us: int) -> bool:
        """Send or park a message; False if it was not sent."""
        if self._screening.is_missed(due, message, now_us):
            return False
        silent = self._parked.is_silent(due[0])
        if self._acks.room(silent=silent) <= 0:
            self.park(due)
            return False
        if self._screening.is_too_large(due, message):
            return False
        try:
            self._acks.send(due, message, silent=silent)
        except DisconnectedError:
            self.on_unsent(due)
        else:
            self._in_flight.drain_if(self._connection.backlog)
        return True

    def park(self, due: Due) -> None:
        """Let an item wait until enough other messages are acknowledged."""
        item, source = due
        replaced = self._parked.take(item.key)
        if replaced is not None:
            self.drop(replaced)
        if self._store.is_wanted(item.key):
            source.give_back(item)  # a change is waiting for it
            return
        self._parked.add(due)
        if not self._cache.takes_more:
            self._cache.discard(item.key, item.revision)

    def unpark(self, now_us: int) -> bool:
        """Send parked items, as far as there is room and their messages are in memory.

        Items whose messages have to be read stay parked, so that they do not hold up the queue.
        False if nothing moved.
        """
        if not self._parked:
            return False
        moved = [self._unpark_some(now_us, silent=silent) for silent in (False, True)]
        return any(moved)

    def _unpark_some(self, now_us: int, *, silent: bool) -> bool:
        room = self._throttle.room(min(self._acks.room(silent=silent), UNPARK))
        late: list[int] = []
        size = 0
        moved = False
        for due in self._parked.first(room, silent=silent):
            if due not in self._parked or size > UNPARK_BYTES:
                continue
            item, source = due
            is_current, message = source.is_current(item), source.message(item)
            if is_current and message is None and not self._cache.lacks(item, LONGEST_SILENCE):
                self._cache.fetch(item)
                continue
            self._parked.take(item.key)
            moved = True
            if not is_current:
                self.drop(due)
            elif message is None:
                self._cache.was_absent(item)  # so that it is fetched again later
                self._failures.postpone(due, UNREADABLE, unread=True)
            elif self.send(due, message, now_us):
                late.append(now_us - item.due_us)
                size += message.size
        self._note_sent(late)
        if late:
            self._in_flight.ask_link()
        return moved

    # Items that are not sent after all

    def drop(self, due: Due) -> None:
        """Drop an item that was replaced or removed."""
        item, source = due
        self._failures.forget(item)
        self._unanswered.discard((item.key, item.revision))
        source.let_go(item)

    def withdraw(self, key: str) -> list[Due]:
        """Remove and return the parked item of a schedule, if any."""
        due = self._parked.take(key)
        return [] if due is None else [due]

    def forget_unanswered(self, item: Item) -> None:
        """Forget that no stream acknowledged an item."""
        self._unanswered.discard((item.key, item.revision))

    def clear(self) -> list[Due]:
        """Remove and return all parked items."""
        return self._parked.clear()

    # Results: see `stream_acks.Owner`

    def on_acknowledged(self, due: Due, message: Outgoing) -> None:
        """Settle the message: a stream has stored it."""
        self.forget_unanswered(due[0])
        self._parked.note(due[0], silent=False)
        if message.entry is not None and message.entry.is_dead_letter:
            self._settling.buried(due)
        else:
            self._settling.delivered([due], [message])

    def on_failed(self, due: Due, reason: str) -> None:
        """Count a failed attempt."""
        self._failures.fail(due, reason)

    def on_unanswered(self, due: Due, reason: str) -> None:
        """Send the message again at once; the second time, count a failed attempt.

        It has waited long enough. While a cluster elects a leader for the stream, the bucket
        usually has none either, and recording the attempt there would take longer.
        """
        item, source = due
        self._parked.note(item, silent=True)
        known, message = (item.key, item.revision), source.message(item)
        if known in self._unanswered or message is None or message.counted:
            self._unanswered.discard(known)
            self._failures.fail(due, reason)
        else:
            self._unanswered.add(known)
            self._stats.retried += 1
            source.give_back(item)
            self._wakeup.soon()

    def on_room(self) -> None:
        """Send more."""
        self._wakeup.soon()

    def on_unsent(self, due: Due) -> None:
        """Give back this item and all parked ones: the connection was lost."""
        give_back([due, *self._parked.clear()])
