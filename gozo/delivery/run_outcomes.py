"""Outcomes of runs: answers of receivers, their silence, and the end of runs.

The first final answer to an attempt decides; others are counted. An answer that has a reply
subject is confirmed with `+OK` once its outcome is stored. Meanwhile further answers to the same
run wait.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from hashlib import sha256
from typing import NamedTuple

from gozo.delivery.run_changes import RunChanges
from gozo.delivery.run_ends import RunEnds
from gozo.delivery.run_waits import RunWaits
from gozo.errors import DisconnectedError
from gozo.protocol.answers import FINAL, GO, NO, OK, Answer, Verdict
from gozo.protocol.subject_policy import Policy
from gozo.runtime.clock import steady
from gozo.runtime.clock_watch import ClockWatch
from gozo.runtime.logs import get_logger
from gozo.schedule import runs
from gozo.schedule.model import MICROSECONDS, Confirm, Entry, State
from gozo.schedule.outcome import NO_WORK
from gozo.schedule.retry import given_up
from gozo.store.run_index import RunIndex
from gozo.telemetry.events import EventSink
from gozo.telemetry.stats import Stats
from gozo.transport.connection import Connection

MOST_WAITING = 50
"""Answers to one run that wait for its state to be stored; more are ignored."""

MOST_AT_ONCE = 500
"""Silent receivers that are handled at a time."""

ADOPT_EVERY = 2.0
"""Seconds between searches for runs that nobody here waits for."""

_NOT_BEGUN = frozenset({Verdict.BUSY, Verdict.NOBODY})
"""Answers that may still come to an offer after another receiver has claimed it."""

log = get_logger("gozo.runs")


class Heard(NamedTuple):
    """An answer, and where it came from."""

    hashed: str
    """The SHA-256 of the token in its subject."""
    answer: Answer
    reply: bytes
    """The subject on which it is confirmed; empty without one."""


def hash_of(text: bytes) -> str:
    """Return the SHA-256 of a token or a nonce, as it is stored."""
    return urlsafe_b64encode(sha256(text).digest()).decode().rstrip("=")


class RunOutcomes:
    """Acts on answers while this replica leads."""

    def __init__(
        self,
        connection: Connection,
        policy: Policy,
        index: RunIndex,
        changes: RunChanges,
        waits: RunWaits,
        clock: ClockWatch,
        stats: Stats,
        events: EventSink,
        ends: RunEnds,
    ) -> None:
        self._connection = connection
        self._policy = policy
        self._index = index
        self._changes = changes
        self._waits = waits
        self._ends = ends
        self._clock = clock
        self._stats = stats
        self._events = events
        self._pauses: dict[str, int] = {}
        """How many times in a row nobody took an attempt of each run."""
        self._abandoned: set[str] = set()
        """The runs that this replica has to abandon once it leads."""
        self._adopted_at = 0.0

    def clear(self) -> None:
        """Forget the state of this leader: standbys have the answers that were not handled."""
        self._pauses.clear()

    # Answers

    def hear(self, heard: Heard) -> None:
        """Act on an answer."""
        self._stats.answers[heard.answer.verdict] += 1
        self._stats.invalid_headers += heard.answer.work.invalid
        self._hear(heard)

    def _hear(self, heard: Heard) -> None:
        key = self._index.with_token(heard.hashed)
        entry = None if key is None else self._index.get(key)
        if key is None or entry is None:
            # Settled, and the bucket has that; or nothing that gozo ever sent.
            self._say(heard, NO if heard.answer.verdict is Verdict.CLAIM else OK)
        elif key in self._changes:
            if self._changes.waiting(key) < MOST_WAITING:
                self._changes.after(key, partial(self._hear, heard))
        else:
            self._act(key, entry, heard)

    def _act(self, key: str, entry: Entry, heard: Heard) -> None:
        attempt = runs.attempt_of(entry, heard.hashed)
        answer, run = heard.answer, entry.run
        assert run is not None
        is_open = entry.state in (State.RUNNING, State.PENDING)
        is_current = is_open and attempt == entry.tried + 1
        match answer.verdict:
            case Verdict.CLAIM:
                self._claim(key, entry, heard, is_current=is_current)
            case Verdict.ALIVE:
                self._alive(key, entry, heard, attempt=attempt, is_current=is_current)
            case Verdict.DONE:
                self._succeed(key, entry, attempt, heard)
            case Verdict.STREAM:
                reason = f"a stream captures {entry.subject}: its acknowledgement is not an answer"
                log.repeated("warning", "run.captured", id=entry.id, reason=reason)
            case verdict if verdict not in FINAL:
                pass
            case verdict if not is_current or (run.owner and verdict in _NOT_BEGUN):
                self._say(heard, OK)  # another attempt has taken its place, or it is claimed
            case Verdict.BUSY:
                self._pause(key, entry, answer.reason, heard)
            case Verdict.NOBODY:
                self._pause(key, entry, runs.nobody(entry.subject), heard)
            case Verdict.TERMINATED:
                now_us = self._clock.now_us()
                self._end(key, lambda run: given_up(_counted(run), answer.reason, now_us), heard)
            case _:
                self._fail(key, answer.reason, heard, answer.delay_us)

    def _claim(self, key: str, entry: Entry, heard: Heard, *, is_current: bool) -> None:
        """Let the first receiver that asks start, and no other."""
        run = entry.run
        assert run is not None
        owner = hash_of(heard.answer.nonce)
        if is_current and run.owner == owner:
            self._note_sign(key, entry)
            self._say(heard, GO)
        elif not is_current or run.owner:
            self._say(heard, NO)
        else:
            now_us = self._clock.now_us()
            change = partial(runs.claimed, owner=owner, now_us=now_us)
            self._change(key, change, partial(self._on_claimed, key, heard))

    def _on_claimed(self, key: str, heard: Heard, entry: Entry) -> None:
        self._pauses.pop(key, None)
        self._ends.take(key)
        self._note_sign(key, entry)
        if entry.confirmation is not None and entry.confirmation.by is Confirm.CLAIM:
            self._events.started(entry)  # others were as soon as they were sent
        self._say(heard, GO)

    def _alive(
        self, key: str, entry: Entry, heard: Heard, *, attempt: int, is_current: bool
    ) -> None:
        if is_current and entry.state is State.RUNNING:
            self._note_sign(key, entry)
        elif _was_silent(entry) and attempt == entry.tried:
            self._change(key, runs.alive, partial(self._note_sign, key))
        self._say(heard, OK)

    def _note_sign(self, key: str, entry: Entry) -> None:
        assert entry.confirmation is not None
        self._waits.note(key, entry.confirmation.ack_wait_us / MICROSECONDS, steady())

    def _say(self, heard: Heard, word: bytes) -> None:
        """Reply to an answer that asks for it, on subjects that requests may name only."""
        if heard.reply and self._policy.may_answer(heard.reply):
            with suppress(DisconnectedError):
                self._connection.publish(heard.reply.decode(), word)

    # Silence

    def adopt(self) -> None:
        """Wait for the receivers to which an earlier leader sent messages."""
        self._adopt_others(steady())
        while self._abandoned:
            self._abandon(self._abandoned.pop())

    def _adopt_others(self, now: float) -> None:
        """Wait also for what a client stored, or an earlier leader whose write came late."""
        self._adopted_at = now
        for key, entry in self._index:
            if entry.state is State.RUNNING and key not in self._waits:
                self._wait_again(key)

    def _wait_again(self, key: str) -> None:
        """Wait for a receiver, if one may be working."""
        entry = self._index.get(key)
        if entry is not None and entry.state is State.RUNNING:
            self._note_sign(key, entry)

    def look(self, now: float, renewed_at: float) -> None:
        """Fail the attempts whose receivers were silent for too long."""
        if now > self._adopted_at + ADOPT_EVERY:
            self._adopt_others(now)
        for key in self._waits.late(now, renewed_at, MOST_AT_ONCE):
            entry = self._index.get(key)
            if entry is None or entry.state is not State.RUNNING:
                continue
            if key in self._changes:
                self._note_sign(key, entry)
            else:
                self._stats.unanswered += 1
                self._fail(key, runs.UNANSWERED)

    # Ends

    def fail(self, key: str, reason: str) -> None:
        """Note that an attempt of a run failed before it was made."""
        self._changes.after(key, partial(self._fail, key, reason))

    def pause(self, key: str, reason: str) -> None:
        """Note that an attempt of a run was not made, and does not count."""

        def pause() -> None:
            entry = self._index.get(key)
            if entry is not None:
                self._pause(key, entry, reason)

        self._changes.after(key, pause)

    def give_up(self, key: str, reason: str) -> None:
        """Give a run up."""
        change = partial(given_up, reason=reason, now_us=self._clock.now_us())
        self._changes.after(key, partial(self._end, key, change))

    def abandon(self, schedule_key: str, then: Callable[[], None]) -> None:
        """Stop retrying the runs of a schedule that was changed or cancelled.

        Receivers that may be working are left alone. `then` is called once this is stored.
        """
        keys = [key for key, _ in self._index.of(schedule_key)]
        left = len(keys)
        if not left:
            then()

        def done() -> None:
            nonlocal left
            left -= 1
            if not left:
                then()

        for key in keys:
            self._changes.after(key, partial(self._abandon, key), lasts=True)
            self._changes.after(key, done, lasts=True)

    def note_abandoned(self, schedule_key: str) -> None:
        """Note that another client changed or cancelled a schedule while this replica stands by."""
        self._abandoned.update(key for key, _ in self._index.of(schedule_key))
        if len(self._abandoned) > 2 * len(self._index):  # most are gone
            self._abandoned.intersection_update(key for key, _ in self._index)

    def _abandon(self, key: str) -> None:
        entry = self._index.get(key)
        if entry is None or entry.is_dead_letter:
            return
        if entry.state is not State.RUNNING:
            self._pauses.pop(key, None)
            self._ends.drop(key, entry, partial(self._wait_again, key))
        elif entry.run is not None and not entry.run.is_last:
            self._change(key, runs.ended, lambda entry: None)

    def _succeed(self, key: str, entry: Entry, attempt: int, heard: Heard) -> None:
        self._pauses.pop(key, None)
        done = partial(self._say, heard, OK)
        not_done = partial(self._wait_again, key)
        self._ends.succeed(key, entry, attempt, heard.answer.work, done, not_done)

    def _pause(self, key: str, entry: Entry, reason: str, heard: Heard | None = None) -> None:
        pauses = self._pauses.get(key, 0)
        self._pauses[key] = pauses + 1
        now_us = self._clock.now_us()
        log.limited("info", "run.postponed", id=entry.id, subject=entry.subject, reason=reason)
        change = partial(runs.refused, reason=reason, pauses=pauses, now_us=now_us)
        self._end(key, change, heard)

    def _fail(
        self, key: str, reason: str, heard: Heard | None = None, delay_us: int | None = None
    ) -> None:
        self._pauses.pop(key, None)
        self._stats.undeliverable += 1
        self._stats.retried += 1
        now_us = self._clock.now_us()
        change = partial(runs.failed, reason=reason, now_us=now_us, delay_us=delay_us)
        self._end(key, change, heard)

    def _end(self, key: str, change: Callable[[Entry], Entry], heard: Heard | None = None) -> None:
        """Store how an attempt ended, and confirm the answer that said so."""

        def end(entry: Entry) -> Entry:
            entry = change(entry)
            return entry if heard is None else runs.answered(entry, heard.hashed)

        def confirm() -> None:
            if heard is not None:
                self._say(heard, OK)

        before = self._index.get(key)
        if before is None or before.state is State.FAILED:
            confirm()  # an earlier change has ended it
            return
        tried = before.tried

        def done(entry: Entry) -> None:
            confirm()
            if entry.tried > tried:
                self._events.not_delivered(entry)

        if end(before).state is State.FAILED:
            self._pauses.pop(key, None)
            work = NO_WORK if heard is None else heard.answer.work
            self._ends.give_up(key, before, end, work, confirm, partial(self._wait_again, key))
            return
        self._waits.end(key)
        self._ends.take(key)
        self._change(key, end, done)

    def _change(
        self, key: str, change: Callable[[Entry], Entry], done: Callable[[Entry], None]
    ) -> None:
        """Store the next state of a run; if that fails, go on waiting for its receiver."""
        self._changes.change(key, change, done, partial(self._wait_again, key))


def _was_silent(entry: Entry) -> bool:
    """Tell whether a run is retried only because its receiver seemed silent."""
    return entry.state is State.RETRYING and entry.reason == runs.UNANSWERED


def _counted(entry: Entry) -> Entry:
    return entry._replace(tried=entry.tried + 1)
