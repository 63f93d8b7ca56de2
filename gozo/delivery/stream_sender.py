"""Sends what a stream must acknowledge, while few enough are unacknowledged.

The others are parked: they wait for room, and do not keep what needs no acknowledgement from
being sent.
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

UNPARK = 100  # items that go on at once when there is room
UNPARK_BYTES = 1024 * 1024


class StreamSender:
    """Deliveries that count once a stream has acknowledged them: sent, or parked."""

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
        """`note_sent` counts how late some messages are sent, in microseconds."""
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
        """Due, and waiting for others to be acknowledged."""
        self._unanswered: set[tuple[str, int]] = set()
        """Sent again at once, because no stream had acknowledged them: keys and revisions."""
        self.awaits = self._acks.awaits
        """Whether a version of a schedule was sent and is not acknowledged."""
        self.deny = self._acks.deny
        """The server refused a message to a subject; False if no message here has it."""

    @property
    def sent(self) -> int:
        """How many were sent and are not acknowledged."""
        return len(self._acks)

    @property
    def parked(self) -> int:
        """How many wait for room."""
        return len(self._parked)

    @property
    def has_room(self) -> bool:
        """Whether something waited for room, and there is room."""
        return bool(self._parked) and any(
            self._parked.waiting(silent=silent) and self._acks.room(silent=silent) > 0
            for silent in (False, True)
        )

    def must_wait(self, item: Item) -> bool:
        """Tell whether an item whose message needs an acknowledgement must wait."""
        silent = self._parked.is_silent(item)
        return self._parked.waiting(silent=silent) > 0 or self._acks.room(silent=silent) <= 0

    # Sending

    def send(self, due: Due, message: Outgoing, now_us: int) -> bool:
        """Send a message, or see to it that it waits; False if it was not sent."""
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
        """Let an item wait until others are acknowledged, whose messages are many enough."""
        item, source = due
        replaced = self._parked.take(item.key)
        if replaced is not None:
            self.drop(replaced)
        if self._store.is_wanted(item.key):
            source.give_back(item)  # changes wait for it, and it was not sent
            return
        self._parked.add(due)
        if not self._cache.takes_more:
            self._cache.discard(item.key, item.revision)

    def unpark(self, now_us: int) -> bool:
        """Send what was parked, as far as there is room and messages are at hand.

        Those that have to be read wait on where they are, and not in the queue before others.
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
                self._cache.was_absent(item)  # asked once more when it is due again
                self._failures.postpone(due, UNREADABLE, unread=True)
            elif self.send(due, message, now_us):
                late.append(now_us - item.due_us)
                size += message.size
        self._note_sent(late)
        if late:
            self._in_flight.ask_link()
        return moved

    # What is not sent after all

    def drop(self, due: Due) -> None:
        """Send an item no more: another version has taken its place, or it was removed."""
        item, source = due
        self._failures.forget(item)
        self._unanswered.discard((item.key, item.revision))
        source.let_go(item)

    def withdraw(self, key: str) -> list[Due]:
        """Take out what is parked of a schedule."""
        due = self._parked.take(key)
        return [] if due is None else [due]

    def forget_unanswered(self, item: Item) -> None:
        """Forget that no stream had acknowledged an item."""
        self._unanswered.discard((item.key, item.revision))

    def clear(self) -> list[Due]:
        """Take out all that is parked."""
        return self._parked.clear()

    # What becomes of what was sent

    def on_acknowledged(self, due: Due, message: Outgoing) -> None:
        """A stream has it."""
        self.forget_unanswered(due[0])
        self._parked.note(due[0], silent=False)
        self._settling.delivered([due], [message])

    def on_failed(self, due: Due, reason: str) -> None:
        """No stream has it, as far as is known."""
        self._failures.fail(due, reason)

    def on_unanswered(self, due: Due, reason: str) -> None:
        """No stream has acknowledged it in time.

        It has waited by now, so it is sent again at once: while a cluster elects a leader for
        the stream, the bucket has none either as a rule, and a note there would take longer.
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
        """Another may be sent."""
        self._wakeup.soon()

    def on_unsent(self, due: Due) -> None:
        """The connection was lost."""
        give_back([due, *self._parked.clear()])
