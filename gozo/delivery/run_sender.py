"""Sends runs: records each attempt in the bucket, then publishes its message.

A due schedule first becomes a run; see `gozo.schedule.runs`. Only recorded attempts are published,
so a later leader knows of all of them.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable
from functools import partial

from gozo.delivery.failures import Failures
from gozo.delivery.outcome_recorder import OutcomeRecorder
from gozo.delivery.run_changes import RunChanges
from gozo.delivery.run_ends import RunEnds
from gozo.delivery.run_offers import RunOffers
from gozo.delivery.run_outcomes import RunOutcomes, hash_of
from gozo.delivery.run_queue import RunQueue
from gozo.delivery.run_waits import RunWaits
from gozo.delivery.screening import Screening
from gozo.delivery.settling import Settling
from gozo.delivery.source import Due
from gozo.errors import DisconnectedError, Refusal, RequestError
from gozo.protocol.deliveries import delivery, once
from gozo.runtime.clock import steady
from gozo.runtime.clock_watch import ClockWatch
from gozo.runtime.logs import get_logger
from gozo.schedule import runs
from gozo.schedule.model import MICROSECONDS, Confirm, Entry, Outgoing, State
from gozo.schedule.outcome import Result as Ended
from gozo.store.changes import OnResult, Result
from gozo.store.run_codec import occurrence_of, run_key, triggered_occurrence
from gozo.store.run_index import RunIndex
from gozo.store.run_store import RunStore
from gozo.telemetry.events import EventSink
from gozo.telemetry.stats import Stats
from gozo.transport.commands import publication
from gozo.transport.connection import Connection
from gozo.transport.permissions import not_published

DENIED_WITHIN = 3.0  # seconds within which the server says that it refused a message
MOST_RECENT = 1_000  # messages to a subject, and subjects, for which that is known

LOOK_AGAIN_US = MICROSECONDS // 20
"""Microseconds until a run whose state is being stored is looked at again."""

NOT_SENT = "this daemon was not sure that it leads"

_STORED = (Result.STORED, Result.REPLACED)

log = get_logger("gozo.runs")


class RunSender:
    """Begins runs, and makes their attempts."""

    def __init__(
        self,
        connection: Connection,
        queue: RunQueue,
        offers: RunOffers,
        index: RunIndex,
        store: RunStore,
        waits: RunWaits,
        changes: RunChanges,
        outcomes: RunOutcomes,
        ends: RunEnds,
        recorder: OutcomeRecorder,
        screening: Screening,
        settling: Settling,
        failures: Failures,
        clock: ClockWatch,
        stats: Stats,
        events: EventSink,
        *,
        prefix: str,
        may_send: Callable[[], bool],
        note_sent: Callable[[list[int]], None],
    ) -> None:
        """Publish with reply subjects below a `prefix`, while `may_send`.

        `note_sent` counts how late some messages are sent, in microseconds.
        """
        self._connection = connection
        self._queue = queue
        self._offers = offers
        self._index = index
        self._store = store
        self._waits = waits
        self._changes = changes
        self._outcomes = outcomes
        self._recorder = recorder
        self._screening = screening
        self._settling = settling
        self._failures = failures
        self._clock = clock
        self._stats = stats
        self._events = events
        self._prefix = prefix
        self._may_send = may_send
        self._note_sent = note_sent
        self._beginning: set[tuple[str, int]] = set()
        """Schedules whose runs are being stored: keys and revisions."""
        self._recent: dict[str, deque[tuple[float, str]]] = {}
        """When runs were recently published to each subject: see `deny`."""
        ends.on_taken.append(offers.end)

    def __len__(self) -> int:
        return len(self._store)

    def is_beginning(self, key: str, revision: int) -> bool:
        """Tell whether a run of a version of a schedule is being stored."""
        return (key, revision) in self._beginning

    def clear(self) -> None:
        """Forget the state of this leader."""
        self._offers.clear()
        self._queue.clear()

    def deny(self, subject: str) -> bool:
        """Note that the server refused a message to a subject; return whether it was a run's.

        It is the latest one: if the permission was withdrawn, the earlier ones were published.
        """
        recent = self._recent.get(subject)
        if not recent:
            return False
        at, key = recent.pop()
        if at < steady() - DENIED_WITHIN:
            return False
        self._offers.end(key)
        self._outcomes.fail(key, not_published(subject))
        return True

    # From a schedule that is due to its run

    def begin(self, due: Due, message: Outgoing, now_us: int) -> None:
        """Begin a run of a due schedule, and let the schedule go on."""
        item, source = due
        if self._screening.is_missed(due, message, now_us):
            return
        entry = message.entry
        assert entry is not None
        occurrence = occurrence_of(entry)
        key = run_key(item.key, occurrence)
        if self._store.was_begun(key):
            self._advance(due)  # an earlier leader stored it, and died before it could go on
            return
        others = self._others(item.key)
        if runs.is_skipped(entry, others):
            if self._is_changing(item.key):
                source.give_back(item, now_us + LOOK_AGAIN_US)  # one may just be settled
                return
            self._stats.skipped += 1
            log.limited("info", "run.skipped", id=entry.id, running=len(others))
            self._recorder.leave_out(item.key, entry, Ended.SKIPPED)
            source.missed(item)
            return
        headers = once(entry.headers, entry.due_us) if entry.recurs else entry.headers
        run = runs.begun(entry, item.key, occurrence, headers, now_us)
        known = item.key, item.revision
        self._beginning.add(known)

        def on_result(result: Result, words: str) -> None:
            self._beginning.discard(known)
            if result in _STORED:
                self._advance(due)
            else:
                self._failures.postpone(due, words or "the bucket cannot be written")

        waits = runs.waits_for(run, others)
        self._begin(key, run, message.payload, now_us, on_result, waits=waits)

    def _begin(
        self,
        key: str,
        run: Entry,
        payload: bytes,
        now_us: int,
        on_result: OnResult,
        *,
        waits: bool,
    ) -> None:
        """Store a new run, and send it unless it `waits` or is too late."""
        token = secrets.token_urlsafe(16)
        is_over = runs.is_over(run, now_us)
        if not waits and not is_over:
            run = runs.sent(run, hash_of(token.encode()), now_us)

        def on_begun(result: Result, words: str) -> None:
            if result not in _STORED:
                assert run.run is not None
                self._queue.release(run.run.key)
            elif is_over:
                self._outcomes.give_up(key, runs.TOO_LATE)
            elif not waits:
                self._publish(key, run, payload, token, run.due_us)
            on_result(result, words)

        self._store.begin(key, run, payload, on_begun)

    def _others(self, schedule_key: str, but: str = "") -> list[Entry]:
        """The runs of a schedule that are not settled, without the one under a key."""
        others = [other for key, other in self._index.unsettled(schedule_key) if key != but]
        return [*others, *self._store.being_stored(schedule_key)]

    def _is_changing(self, schedule_key: str) -> bool:
        """Tell whether the state of a run of a schedule is being stored."""
        if self._store.being_stored(schedule_key):
            return True
        return any(key in self._changes for key, _ in self._index.unsettled(schedule_key))

    def trigger(
        self, key: str, entry: Entry, payload: bytes, on_result: OnResult, *, force: bool
    ) -> None:
        """Begin an extra run of the schedule under a key now, besides its occurrences.

        Raises:
            RequestError: `running`, if another one is not settled, unless forced.
        """
        others = self._others(key)
        if others and (not force or len(others) >= runs.MOST_RUNS):
            raise _running(others)
        now_us = named_us = self._clock.now_us()
        names = {other.run.occurrence for other in others if other.run is not None}
        while (occurrence := triggered_occurrence(named_us)) in names:
            named_us += 1
        headers = once(entry.headers, named_us)
        run = runs.begun(entry, key, occurrence, headers, now_us, due_us=now_us)
        # What may not be sent at this moment is sent from the timetable.
        waits = runs.waits_for(run, others) or not self._may_send()
        self._begin(run_key(key, occurrence), run, payload, now_us, on_result, waits=waits)

    def _advance(self, due: Due) -> None:
        """Let a schedule go on once its run is stored."""
        item, source = due
        source.delivered(item)
        self._settling.settle_soon()

    # From a run that is due to its attempt

    def attempt(self, due: Due, message: Outgoing, now_us: int) -> None:
        """Make the next attempt of a run, if it is its turn."""
        item, source = due
        entry = message.entry
        assert entry is not None
        assert entry.run is not None
        key = item.key
        if runs.is_over(entry, now_us):
            self._outcomes.give_up(key, runs.too_late(entry))
            return
        if runs.waits_for(entry, self._others(entry.run.key, but=key)):
            self._queue.add(item, entry.run)
            return
        if key in self._changes:
            source.give_back(item, now_us + LOOK_AGAIN_US)
            return
        offered = self._offers.token(key)
        if offered is not None:
            wait_us = self._offers.wait_us(key)
            if wait_us <= 0:
                self._publish(key, entry, message.payload, offered, now_us + wait_us)
                wait_us = self._offers.wait_us(key)
            source.give_back(item, now_us + wait_us)
            return
        token = secrets.token_urlsafe(16)
        run = runs.sent(entry, hash_of(token.encode()), now_us)
        # What another run held up, or was offered before, is not late.
        due_us = now_us if entry.state is State.PENDING else item.due_us
        done = partial(self._on_attempt, due, run, message.payload, token, due_us)
        self._changes.begin(key)
        self._store.attempt(item, run, message.payload, done)

    def _on_attempt(
        self,
        due: Due,
        run: Entry,
        payload: bytes,
        token: str,
        due_us: int,
        result: Result,
        words: str,
    ) -> None:
        if result in _STORED:
            self._publish(due[0].key, run, payload, token, due_us)
        elif result is Result.SUPERSEDED:
            due[1].give_back(due[0])
        else:
            self._failures.postpone(due, words or "the bucket cannot be written")
        self._changes.end(due[0].key)

    def _publish(self, key: str, run: Entry, payload: bytes, token: str, due_us: int) -> None:
        """Publish the message of an attempt that is recorded, and was due at a time."""
        if not self._may_send():
            self._outcomes.pause(key, NOT_SENT)  # unless another leader has the run by now
            return
        assert run.confirmation is not None
        message = delivery(run, payload)
        if message.size > self._connection.max_payload:
            self._connection.doubt_limits()
            self._outcomes.fail(key, f"{message.size} bytes exceed the server's max_payload")
            return
        reply = f"{self._prefix}.{token}".encode()
        try:
            self._connection.write(publication(message.subject, payload, message.headers, reply))
        except DisconnectedError:
            self._outcomes.pause(key, "the connection to NATS was lost")
            return
        if len(self._recent) > MOST_RECENT:
            self._recent.clear()
        self._recent.setdefault(run.subject, deque(maxlen=MOST_RECENT)).append((steady(), key))
        now_us = self._clock.now_us()
        self._note_sent([now_us - due_us])
        if run.confirmation.by is Confirm.CLAIM:
            self._offers.note(key, token)
        else:
            self._waits.note(key, run.confirmation.ack_wait_us / MICROSECONDS, steady())
            self._events.started(run)


def _running(others: list[Entry]) -> RequestError:
    """Return the refusal to begin a run while others are not settled."""
    if len(others) >= runs.MOST_RUNS:
        words = f"{len(others)} occurrences of the schedule are not settled: wait for them"
    else:
        words = (
            f"an occurrence of the schedule is {runs.progress({one.state for one in others})}: "
            "wait until it is settled, or force the trigger (gozoctl trigger --force)"
        )
    return RequestError(Refusal.RUNNING, words)
