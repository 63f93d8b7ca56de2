"""The delivery loop: sends due messages, in order, and has them settled.

Due messages are sent in batches. Once the server has confirmed a batch, the source of each
message settles it: see `in_flight`, `settling` and `source`.

Sending has priority: settling waits while there is more to send.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from gozo.delivery.answer_inbox import AnswerInbox
from gozo.delivery.bucket_source import BucketSource
from gozo.delivery.failures import Failures
from gozo.delivery.in_flight import InFlight
from gozo.delivery.in_memory import InMemory
from gozo.delivery.memory_source import MemorySource
from gozo.delivery.missing import LONGEST_SILENCE, MissingMessages
from gozo.delivery.outcome_recorder import OutcomeRecorder
from gozo.delivery.recurring import Occurrences
from gozo.delivery.runs import build_runs
from gozo.delivery.screening import Screening
from gozo.delivery.settling import Settling
from gozo.delivery.source import Due, Source, give_back
from gozo.delivery.stream_sender import StreamSender
from gozo.delivery.throttle import Throttle
from gozo.delivery.wakeup import Wakeup
from gozo.protocol.subject_policy import Policy
from gozo.runtime.clock import Alarm
from gozo.runtime.clock_watch import ClockWatch
from gozo.runtime.pace import Pace
from gozo.schedule.model import MICROSECONDS, Entry, Outgoing
from gozo.schedule.timetable import Timetable
from gozo.store.changes import OnResult
from gozo.store.delivery_hooks import DeliveryHooks
from gozo.store.index import BucketIndex
from gozo.store.message_cache import MessageCache
from gozo.store.outcome_writer import OutcomeWriter
from gozo.store.schedule_store import ScheduleStore
from gozo.telemetry.events import EventSink
from gozo.telemetry.stats import Stats
from gozo.transport.commands import publication
from gozo.transport.connection import Connection
from gozo.transport.permissions import not_published

BATCH = 500  # messages
BATCH_BYTES = 1024 * 1024
LOOK_AGAIN_US = int(LONGEST_SILENCE * MICROSECONDS)
"""Microseconds between two checks for messages that are being read."""
APART_US = 300
"""Microseconds between two batches: schedules due thousands of times a second are sent together."""


class Delivery:
    """Delivers the schedules of all sources."""

    def __init__(
        self,
        connection: Connection,
        timetable: Timetable,
        in_memory: InMemory,
        cache: MessageCache,
        store: ScheduleStore,
        index: BucketIndex,
        outcomes: OutcomeWriter,
        hooks: DeliveryHooks,
        stats: Stats,
        events: EventSink,
        clock: ClockWatch,
        may_deliver: Callable[[], bool],
        pace: Pace,
        inbox: AnswerInbox,
        policy: Policy,
        renewed_at: Callable[[], float],
    ) -> None:
        """`renewed_at` returns when the lease was last renewed, on the steady clock."""
        self._traits = index.traits
        self._clock = clock
        self._may_deliver = may_deliver
        self._alarm = Alarm(self.wake)
        self._enabled = False
        self._queue: deque[Due] = deque()
        wakeup = Wakeup(self.wake)
        self.wake_soon = wakeup.soon  # looks for due schedules in the next turn of the event loop
        self._throttle = Throttle(pace, stats)
        self._failures = Failures(stats, events, clock)
        self._settling = Settling(store, self._failures, wakeup, stats, events)
        self._bucket = BucketSource(index, cache, store, self._settling, self._failures, clock)
        self._memory = MemorySource(in_memory, self._settling, self._failures, clock)
        self._occurrences = Occurrences(
            store.reservations, timetable, cache, self._failures, clock, wakeup
        )
        self._missing = MissingMessages(cache, self._failures)
        self.recorder = recorder = OutcomeRecorder(
            *(index.traits, outcomes, store.records, self._occurrences, clock, stats, events)
        )
        self._screening = Screening(connection, self._failures, recorder, stats, events)
        on_confirmed, on_clear = self._settling.delivered, wakeup.soon
        on_lost, on_refused = self._on_lost, self._on_refused
        self._in_flight = InFlight(connection, on_confirmed, on_lost, on_refused, on_clear)
        self._stream = StreamSender(
            *(connection, store, cache, self._in_flight, self._screening, self._settling),
            *(self._failures, self._throttle, stats, wakeup),
            note_sent=self._note_sent,
        )
        self._runs = runs = build_runs(
            *(connection, timetable, cache, store.runs, index.traits, recorder, inbox, policy),
            *(self._screening, self._settling, self._failures, clock, stats, events),
            wakeup=wakeup,
            may_send=may_deliver,
            renewed_at=renewed_at,
            note_sent=self._note_sent,
        )
        clock.on_set.append(lambda by_us: wakeup.soon())
        hooks.attach(self.wake_soon, self._withdraw, self._awaits_ack, runs.end_runs, runs.abandon)
        connection.on_denied.append(self._on_denied)

    def start(self) -> None:
        """Start to deliver, as long as the lease allows it."""
        self._enabled = True
        self._runs.start()
        self.wake_soon()

    def stop(self) -> None:
        """Stop sending; sent messages are still confirmed and settled."""
        self._enabled = False
        self._runs.stop()
        give_back([*self._queue, *self._stream.clear()])
        self._queue.clear()
        self._occurrences.stop()
        self._settling.settle_now(self._memory)

    @property
    def is_idle(self) -> bool:
        """Whether all sent messages are confirmed, and being settled."""
        is_sent = self._in_flight.is_empty and not self._stream.sent
        is_stored = not len(self._settling) and self._occurrences.is_idle
        return is_sent and is_stored and self._runs.is_idle and not len(self.recorder)

    def close(self) -> None:
        """Cancel the timer."""
        self._alarm.stop()

    def look(self) -> None:
        """Check whether an echo or an answer is overdue; to be called several times a second."""
        self._in_flight.look()
        self._runs.look()

    def wake(self) -> None:
        """Send due messages, and set the timer for the next one.

        `may_deliver` is called after the clock is read, so nothing is sent by a clock that was just
        set.
        """
        now_us = self._clock.now_us()
        if not (self._enabled and self._may_deliver()) or self._in_flight.is_slow:
            self._settling.settle_soon()
            self._alarm.set(None, now_us)
            return
        if self._throttle.is_set and self._is_held_back(now_us):
            return
        self._fill(now_us)
        moved = self._send(now_us)
        unparked = self._stream.unpark(now_us)
        if self._queue and not (moved or unparked):
            self._settling.settle_soon()
            self._alarm.set(now_us + LOOK_AGAIN_US, now_us)
            return
        due_us = None if self._queue else self.next_due()
        is_due = due_us is not None and due_us <= now_us
        if self._queue or is_due or (unparked and self._stream.has_room):
            self.wake_soon()
            return
        self._settling.settle_soon()
        now_us = self._clock.now_us()
        if moved and due_us is not None:
            due_us = max(due_us, now_us + APART_US)
        if self._stream.has_room:  # messages of parked items are being read
            again_us = now_us + LOOK_AGAIN_US
            due_us = again_us if due_us is None else min(due_us, again_us)
        self._alarm.set(due_us, now_us)

    def _is_held_back(self, now_us: int) -> bool:
        """Tell whether the limit on the rate forbids sending now."""
        wait = self._throttle.wait()
        if not wait:
            return False
        if self._queue or self._is_due(now_us):
            self._throttle.hold_back()
        self._settling.settle_soon()
        self._alarm.set(now_us + int(wait * MICROSECONDS), now_us)
        return True

    def next_due(self) -> int | None:
        """When the next waiting schedule is due; None without one."""
        due_us = self._bucket.next_due()
        others: tuple[Source, ...] = (self._memory, self._occurrences)
        for source in others:
            other_us = source.next_due()
            if other_us is not None and (due_us is None or other_us < due_us):
                due_us = other_us
        return due_us

    def _is_due(self, now_us: int) -> bool:
        due_us = self.next_due()
        return due_us is not None and due_us <= now_us

    # Sending

    def _fill(self, now_us: int) -> None:
        """Take due items from the sources, in order."""
        room = self._throttle.room(BATCH) - len(self._queue)
        if room <= 0:
            return
        items = self._bucket.pop_due(now_us, room)
        bucket = self._bucket
        batch: list[Due] = [(item, bucket) for item in items]
        recurring, run_index = self._traits.recurring, self._traits.runs
        if recurring or run_index.any:
            for place, item in enumerate(items):
                if item.key in recurring:
                    self._occurrences.begin(item)
                    batch[place] = (item, self._occurrences)
                elif run_index.is_unsettled(item.key):
                    batch[place] = (item, self._runs)
        occurrences = self._occurrences.pop_due(now_us, room)
        in_memory = self._memory.pop_due(now_us, room - len(items))
        if occurrences or in_memory:
            batch += ((item, self._occurrences) for item in occurrences)
            batch += ((item, self._memory) for item in in_memory)
            batch.sort(key=lambda due: due[0].due_us)
        self._queue.extend(batch)

    def _send(self, now_us: int) -> bool:
        """Send from the head of the queue while messages are in memory; False if nothing moved."""
        parts: list[bytes] = []
        sent: list[Due] = []
        messages: list[Outgoing] = []
        late: list[int] = []
        size = 0
        queue, confirming = self._queue, self._traits.confirming
        moved = asks = False
        most = self._throttle.room(BATCH * 4)
        while queue and size < BATCH_BYTES and len(late) < most:
            due = queue[0]
            item, source = due
            if not source.is_current(item):
                queue.popleft()
                self._stream.drop(due)
                moved = True
                continue
            if item.key in confirming and self._stream.must_wait(item):
                queue.popleft()
                self._stream.park(due)
                moved = True
                continue
            message = source.message(item)
            if message is None:
                asks = True
                if self._missing.wait_for_head(queue):
                    break
                moved = True
                continue
            queue.popleft()
            moved = True
            if message.confirm or message.answered:
                size += self._send_confirmed(due, message, now_us, late)
                asks = True
                continue
            if self._screening.rejects(due, message, now_us):
                continue
            late.append(now_us - item.due_us)
            parts.append(publication(message.subject, message.payload, message.headers))
            size += len(parts[-1])
            sent.append(due)
            messages.append(message)
        self._note_sent(late)
        self._in_flight.write(parts, sent, messages)
        if asks:
            self._in_flight.ask_link()
        return moved

    def _send_confirmed(self, due: Due, message: Outgoing, now_us: int, late: list[int]) -> int:
        """Send what a stream or a receiver must confirm; return the bytes of what was sent."""
        if message.answered:
            self._runs.send(due, message, now_us)
        elif self._stream.send(due, message, now_us):
            late.append(now_us - due[0].due_us)
            return message.size
        return 0

    def _note_sent(self, late: list[int]) -> None:
        """Record the lateness of sent messages, in microseconds."""
        if late:
            self._missing.note_progress()
            self._throttle.note_sent(late)

    # Messages that are not sent, or not delivered

    def _withdraw(self, key: str) -> None:
        """Give back items that were taken but not sent, so that they can be changed."""
        withdrawn = [due for due in self._queue if due[0].key == key]
        for due in withdrawn:
            self._queue.remove(due)
        withdrawn += self._stream.withdraw(key)
        for item, source in withdrawn:
            self._stream.forget_unanswered(item)
            source.give_back(item)

    def _awaits_ack(self, key: str, revision: int) -> bool:
        """Tell whether a version was sent, and is not settled by a stream or a run yet."""
        return self._stream.awaits(key, revision) or self._runs.is_beginning(key, revision)

    def _on_lost(self, lost: list[Due]) -> None:
        """Handle a lost connection: it is unknown whether these arrived."""
        give_back([*lost, *self._queue])
        self._queue.clear()

    def _on_denied(self, kind: str, subject: str) -> None:
        """Handle a refused publication: the server names only the subject, before the echo."""
        if kind != "publish" or self._stream.deny(subject.encode()):
            return
        if not self._runs.deny(subject):
            self._in_flight.deny(subject)

    def _on_refused(self, due: Due, subject: str) -> None:
        """Handle a refused message."""
        self._failures.fail(due, not_published(subject))

    def begin_run(
        self, key: str, entry: Entry, payload: bytes, on_result: OnResult, *, force: bool
    ) -> None:
        """Begin an extra run of the schedule under a key; see `RunSender.trigger`."""
        self._runs.trigger(key, entry, payload, on_result, force=force)

    def note_failure(self, entry: Entry) -> None:
        """Note that a schedule was given up for a reason known elsewhere."""
        self._failures.note(entry)
