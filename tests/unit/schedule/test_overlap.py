"""`Gozo-Overlap` in the pure parts, against the model that real daemons are tested with.

`Engine` is a minimal leader: what is due becomes a run, and attempts are made, on a clock of its
own. For thousands of sequences: `GOZO_TEST_EXAMPLES=5000`.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable
from functools import partial

import pytest

from gozo.schedule import runs
from gozo.schedule.expression import parse
from gozo.schedule.model import (
    MICROSECONDS,
    NEVER,
    Confirm,
    Confirmation,
    Entry,
    Misfire,
    Overlap,
    ScheduleSpec,
    State,
)
from gozo.schedule.recurrence import arranged, onward, paused, rescheduled, resumed
from gozo.schedule.retry import given_up
from gozo.store.entry_codec import entry_headers, parse_entry
from gozo.store.run_codec import occurrence_of, run_key, triggered_occurrence
from gozo.store.run_index import RunIndex
from tests.support.overlap import Overlaps, Seen, number_of

SEQUENCES = int(os.environ.get("GOZO_TEST_EXAMPLES", "200"))
STEPS = 60
BEGIN_US = 1_795_000_000 * MICROSECONDS
EVERY_US = MICROSECONDS // 5
ACK_WAIT_US = MICROSECONDS
ATTEMPTS = 3
MODES = ["", *Overlap]


class Engine:
    """One schedule, its runs, and a clock."""

    def __init__(self, model: Overlaps) -> None:
        self.model = model
        self.now_us = BEGIN_US
        self.entry: Entry | None = None
        self.version = 0
        self.index = RunIndex()
        self.silent_us: dict[str, int] = {}
        """When the receiver of each run has been silent for too long."""
        self.versions: dict[str, int] = {}
        """The version of each run."""
        self.most = 0
        """The most runs at a time."""

    @property
    def now(self) -> float:
        """The time in seconds, as in the model."""
        return self.now_us / MICROSECONDS

    def pass_time(self, us: int) -> None:
        """Do everything that is due, in order, until this many microseconds have passed."""
        until_us = self.now_us + us
        while True:
            self.abide()
            due_us, act = min(self.due(), key=lambda one: one[0], default=(NEVER, None))
            if act is None or due_us > until_us:
                break
            self.now_us = max(self.now_us, due_us)
            act()
        self.now_us = until_us

    def abide(self) -> None:
        """Check that the schedule has no more runs than it may have."""
        self.most = max(self.most, len(self.index.unsettled("a")))
        assert self.most <= runs.MOST_RUNS

    def due(self) -> list[tuple[int, Callable[[], None]]]:
        """Return what there is to do, and when."""
        found: list[tuple[int, Callable[[], None]]] = []
        if self.entry is not None and self.entry.wake_us < NEVER:
            found.append((self.entry.wake_us, self.begin))
        for key, run in self.index.unsettled("a"):
            if run.state is State.RUNNING:
                found.append((self.silent_us[key], partial(self.fail, key, "silence")))
                continue
            assert run.run is not None
            others = [other for at, other in self.index.unsettled("a") if at != key]
            # What waits is checked again once another run is settled, or when it is too late.
            due_us = run.run.give_up_us + 1 if runs.waits_for(run, others) else run.wake_us
            found.append((due_us, partial(self.attempt, key)))
        return found

    # What the leader does

    def begin(self) -> None:
        """Make a run of what is due, or skip it, and move the schedule on."""
        assert self.entry is not None
        others = [other for _, other in self.index.unsettled("a")]
        if runs.is_skipped(self.entry, others):
            self.model.skips("a", self.entry.due_us / MICROSECONDS)
            self.entry = onward(self.entry, self.now_us, sent=False)
            return
        occurrence = occurrence_of(self.entry)
        key = run_key("a", occurrence)
        assert key not in self.versions, "each occurrence has a name of its own"
        run = runs.begun(self.entry, "a", occurrence, b"", self.now_us)
        self.versions[key] = self.version
        self.entry = onward(self.entry, self.now_us, sent=True)
        self.index.note(key, run)
        if not runs.waits_for(run, others):
            self.attempt(key)

    def trigger(self, *, force: bool) -> None:
        """Begin an extra run, unless one is not settled."""
        others = [other for _, other in self.index.unsettled("a")]
        if self.entry is None or (others and (not force or len(others) >= runs.MOST_RUNS)):
            return
        self.now_us += 1_000  # no two are due at once
        key = run_key("a", triggered_occurrence(self.now_us))
        run = runs.begun(self.entry, "a", "t1", b"", self.now_us, due_us=self.now_us)
        self.versions[key] = self.version
        self.model.course("a").is_forced |= force
        self.index.note(key, run)
        if not runs.waits_for(run, others):
            self.attempt(key)

    def attempt(self, key: str) -> None:
        """Make an attempt, unless it is too late."""
        entry = self.get(key)
        if runs.is_over(entry, self.now_us):
            self.index.note(key, given_up(entry, "too late", self.now_us))
            return
        run = runs.sent(entry, "A" * 43, self.now_us)
        self.index.note(key, run)
        self.silent_us[key] = self.now_us + ACK_WAIT_US
        assert run.run is not None
        due = run.due_us / MICROSECONDS
        self.model.arrives(
            "a", self.versions[key], due, number_of(run.run.number, due), run.tried + 1, self.now
        )

    def fail(self, key: str, reason: str) -> None:
        """Let an attempt fail."""
        self.index.note(key, runs.failed(self.get(key), reason, self.now_us))

    def get(self, key: str) -> Entry:
        """Return a run, which must exist."""
        entry = self.index.get(key)
        assert entry is not None
        return entry

    # What clients, receivers and crashes do

    def store(self, mode: str, max_age_us: int) -> None:
        """Store another version."""
        self.version += 1
        self.now_us += 1  # no two versions are created at once
        confirmation = Confirmation(
            Confirm.REPLY,
            ack_wait_us=ACK_WAIT_US,
            backoff_us=(MICROSECONDS // 10, MICROSECONDS // 2),
            max_age_us=max_age_us,
            overlap=Overlap(mode) if mode else None,
        )
        when = "@every 0.2s"
        entry = Entry(
            *("a", "to", when, 0, self.now_us),
            attempts=ATTEMPTS,
            spec=ScheduleSpec(misfire=Misfire.ALL),
            confirmation=confirmation,
        )
        self.model.asks("a", self.now)
        self.model.stores(
            "a", self.version, mode, max_age_us / MICROSECONDS if max_age_us else math.inf
        )
        self.entry = arranged(entry, parse(when), self.now_us)
        self.abandon("store")

    def change(self, verb: str) -> None:
        """Pause, resume, put off, hurry or cancel the schedule, if there is one."""
        entry = self.entry
        if entry is None or (entry.state is State.PAUSED) == (verb != "resume"):
            return
        self.model.asks("a", self.now)
        match verb:
            case "pause":
                self.entry = paused(entry)
            case "resume":
                self.entry = resumed(entry)
            case "put off":
                self.entry = rescheduled(entry, "+0.3", self.now_us)
            case "hurry":
                self.entry = rescheduled(entry, "+0", self.now_us)
            case "cancel":
                self.entry = None
        self.abandon(verb)

    def abandon(self, verb: str) -> None:
        """Give up everything that is retried or waits."""
        for key, run in self.index.of("a"):
            running = run.state is State.RUNNING
            self.index.note(key, runs.ended(run) if running else None)
        self.model.answered("a", verb, self.now)

    def answer(self, word: str, chosen: random.Random) -> None:
        """Let the receiver of a running attempt answer."""
        running = [key for key, run in self.index.of("a") if run.state is State.RUNNING]
        if not running:
            return
        key = chosen.choice(sorted(running))
        self.model.says(self.seen(key), word, self.now)
        match word:
            case "done":
                self.index.note(key, None)
            case "failed":
                self.fail(key, "no")
            case "terminated":
                self.index.note(key, given_up(self.get(key), "no", self.now_us))
            case "alive":
                self.silent_us[key] = self.now_us + ACK_WAIT_US

    def seen(self, key: str) -> Seen:
        """Return a run as the model knows it."""
        entry = self.get(key)
        assert entry.run is not None
        number = number_of(entry.run.number, entry.due_us / MICROSECONDS)
        return self.model.course("a").runs[self.versions[key], number]

    def take_over(self) -> None:
        """Let another leader take over: it knows what is in the bucket, and waits anew."""
        known, self.index = self.index, RunIndex()
        for key, run in known:
            stored = parse_entry(key, entry_headers(run, b""), run.created_us)
            assert isinstance(stored, Entry)
            self.index.note(key, stored)
            if stored.state is State.RUNNING:
                self.silent_us[key] = self.now_us + ACK_WAIT_US


def new_model() -> Overlaps:
    """Make a model that is exact to the microsecond."""
    return Overlaps(ACK_WAIT_US / MICROSECONDS, ATTEMPTS, grace=0, longest_wait=0.5)


@pytest.mark.parametrize("part", range(4))
def test_sequences(part: int) -> None:
    """No run begins beside another that it must wait for, none is lost, none outlives a change."""
    for number in range(part, SEQUENCES, 4):
        chosen = random.Random(number)  # a test's
        model = new_model()
        engine = Engine(model)
        done = []
        for _ in range(STEPS):
            done.append(step(engine, chosen))
            assert not model.problems, f"sequence {number}: {done}: {model.problems}"
        gaps = model.account("a", EVERY_US / MICROSECONDS)
        assert not gaps, f"sequence {number}: {done}: nothing was heard of {gaps}"


def step(engine: Engine, chosen: random.Random) -> str:
    """Do something at random, and return what."""
    changes = ("store", "store", "pause", "resume", "resume", "put off", "hurry", "cancel")
    answers = ("done", "done", "failed", "failed", "terminated", "alive", "alive")
    others = ("take over", "trigger", "force", "wait", "wait", "wait", "wait", "wait")
    word = chosen.choice([*changes, *answers, *answers, *others, *others])
    match word:
        case "store":
            word = chosen.choice(MODES)
            engine.store(word, chosen.choice([0, 0, MICROSECONDS]))
        case "pause" | "resume" | "put off" | "hurry" | "cancel":
            engine.change(word)
        case "take over":
            engine.take_over()
        case "trigger" | "force":
            engine.trigger(force=word == "force")
        case "wait":
            engine.pass_time(chosen.choice([50_000, EVERY_US, MICROSECONDS]))
        case _:
            engine.answer(word, chosen)
    return word


def test_at_most_so_many_at_a_time() -> None:
    """With `allow`, if no run is ever settled, further occurrences are skipped."""
    engine = Engine(new_model())
    engine.store("allow", 0)
    for _ in range(2 * runs.MOST_RUNS):
        engine.pass_time(EVERY_US)
        for key in engine.silent_us:
            engine.silent_us[key] = engine.now_us + ACK_WAIT_US
    assert engine.most == runs.MOST_RUNS
    assert len(engine.model.course("a").skipped) == runs.MOST_RUNS
