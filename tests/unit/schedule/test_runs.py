"""A run, from its first attempt to its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gozo.schedule import runs
from gozo.schedule.expression import LAST_US
from gozo.schedule.model import (
    MICROSECONDS,
    NEVER,
    Confirm,
    Confirmation,
    Entry,
    Overlap,
    ScheduleSpec,
    State,
)

SECOND = MICROSECONDS
NOW_US = 1_795_000_000 * SECOND
REPLY = Confirmation(Confirm.REPLY)


def schedule(confirmation: Confirmation = REPLY, *, attempts: int = 0, every: str = "") -> Entry:
    """Return a schedule that is due now, once or with the expression `every`."""
    return Entry(
        *("a", "to", every or "+0", NOW_US, NOW_US - SECOND),
        attempts=attempts,
        spec=ScheduleSpec(recurs=True, occurred=2) if every else None,
        confirmation=confirmation,
        managed_by="set",
        protected=True,
    )


def begun(entry: Entry) -> Entry:
    """Return the run of the occurrence that is due."""
    return runs.begun(entry, "a", "64a1", b"", NOW_US)


def waits_for(run: Entry, wait_us: int, since_us: int = NOW_US) -> bool:
    """Tell whether a run waits this long, or up to a fifth longer."""
    return wait_us <= run.next_us - since_us <= wait_us + wait_us // 5


def test_a_run_is_no_schedule() -> None:
    """It does not recur, belongs to no set, and keeps its due time."""
    entry = schedule(every="@every 10s")
    tried = entry._replace(token=b"token", expires=True, tried=3, reason="why", next_us=7)
    for one in (entry, tried, tried._replace(state=State.PAUSED)):
        run = begun(one)
        assert (run.spec, run.managed_by, run.protected) == (None, "", False)
        assert (run.token, run.expires, run.tried, run.reason) == (b"", False, 0, "")
        assert (run.id, run.due_us, run.created_us) == ("a", NOW_US, NOW_US)
        assert (run.state, run.next_us) == (State.PENDING, 0)
        assert run.run is not None
        assert run.run.key == "a"


def test_an_attempt_by_reply_runs_at_once() -> None:
    """Its number, time and token are recorded before it is sent."""
    sent = runs.sent(begun(schedule()), "hash", NOW_US + 5)
    assert sent.state is State.RUNNING
    assert sent.run is not None
    assert (sent.run.sent_us, sent.run.tokens) == (NOW_US + 5, ((1, "hash"),))
    assert sent.wake_us == NEVER, "nothing is sent by itself while it runs"


def test_an_offer_runs_once_it_is_claimed() -> None:
    """Until then it is pending, and offered again."""
    offered = runs.sent(begun(schedule(Confirmation(Confirm.CLAIM))), "hash", NOW_US)
    assert offered.state is State.PENDING
    taken = runs.claimed(offered, "owner", NOW_US + 5)
    assert taken.state is State.RUNNING
    assert taken.run is not None
    assert (taken.run.owner, taken.run.sent_us) == ("owner", NOW_US + 5)
    late = runs.claimed(runs.failed(offered, "no", NOW_US), "owner", NOW_US)
    assert (late.state, late.next_us) == (State.RUNNING, 0)
    again = runs.sent(runs.failed(taken, "no", NOW_US), "other", NOW_US)
    assert (again.state, again.next_us) == (State.PENDING, 0)
    assert again.run is not None
    assert again.run.owner == "", "the next attempt is nobody's"
    assert [runs.attempt_of(again, known) for known in ("hash", "other", "third")] == [1, 2, 0]


def test_tokens_of_the_latest_attempts_are_kept() -> None:
    """An answer to a much earlier attempt is no longer recognized."""
    run = begun(schedule())
    for number in range(7):
        run = runs.sent(run._replace(tried=number), f"hash{number}", NOW_US)
    assert run.run is not None
    assert run.run.tokens == ((7, "hash6"), (6, "hash5"), (5, "hash4"), (4, "hash3"))


def test_an_answered_attempt_is_not_recognized_any_more() -> None:
    """The run is unchanged otherwise, and its other attempts are recognized."""
    run = runs.sent(begun(schedule()), "first", NOW_US)
    run = runs.sent(run._replace(tried=1), "second", NOW_US)
    answered = runs.answered(run, "second")
    assert [runs.attempt_of(answered, known) for known in ("first", "second")] == [1, 0]
    assert run.run is not None
    assert answered == run._replace(run=replace(run.run, tokens=((1, "first"),)))


def test_the_back_off_doubles_up_to_a_minute() -> None:
    """This is the default; a receiver can ask for another delay."""
    run = begun(schedule())
    for wait in (1, 2, 4, 8, 16, 32, 60, 60, 60):
        run = runs.failed(run, "no", NOW_US)
        assert run.state is State.RETRYING
        assert waits_for(run, wait * SECOND)
    assert runs.failed(run, "no", NOW_US, delay_us=7).next_us == NOW_US + 7


def test_the_last_wait_of_a_back_off_repeats() -> None:
    """The others are used once each, in order."""
    run = begun(schedule(Confirmation(Confirm.REPLY, backoff_us=(0, 1, 20, 300))))
    for wait_us in (0, 1, 20, 300, 300, 300):
        run = runs.failed(run, "no", NOW_US)
        assert waits_for(run, wait_us)


@pytest.mark.parametrize(
    ("fails", "wait_us"),
    [
        (lambda run, count: runs.failed(run._replace(tried=count), "no", NOW_US), 60 * SECOND),
        (lambda run, count: runs.refused(run, "nobody", count, NOW_US), 5 * SECOND),
    ],
)
def test_what_failed_at_one_moment_is_tried_at_many(
    fails: Callable[[Entry, int], Entry], wait_us: int
) -> None:
    """Each wait has a random part for each run, the same on every daemon."""
    entry = schedule()
    all_runs = [runs.begun(entry, f"job-{n}", "64a1", b"", NOW_US) for n in range(3_000)]
    waits = [fails(run, 8).next_us - NOW_US for run in all_runs]
    parts = Counter((wait - wait_us) * 50 // wait_us for wait in waits)
    assert parts.keys() <= set(range(11))
    assert max(parts.values()) < 600, "evenly: 300 in each of ten parts"
    assert [fails(run, 8).next_us - NOW_US for run in all_runs] == waits
    assert [fails(run, 9).next_us - NOW_US for run in all_runs] != waits


def test_attempts_are_counted() -> None:
    """After the maximum number a run is given up; deliveries that nobody took do not count."""
    run = begun(schedule(attempts=2))
    for pauses, wait_us in enumerate((100_000, 200_000, 400_000)):
        run = runs.refused(run, "nobody", pauses, NOW_US)
        assert (run.tried, run.state) == (0, State.RETRYING)
        assert waits_for(run, wait_us)
    assert waits_for(runs.refused(run, "nobody", 99, NOW_US), 5 * SECOND)
    assert run.reason == "nobody"
    run = runs.failed(run, "first\n", NOW_US)
    assert (run.tried, run.state, run.reason) == (1, State.RETRYING, "first")
    run = runs.failed(run, "second\r\nline", NOW_US)
    assert (run.tried, run.state, run.reason) == (2, State.FAILED, "second line")


def test_a_receiver_that_was_thought_silent() -> None:
    """With a sign of life, the attempt continues."""
    late = runs.failed(runs.sent(begun(schedule()), "hash", NOW_US), "unanswered", NOW_US)
    alive = runs.alive(late)
    assert (alive.state, alive.tried, alive.next_us) == (State.RUNNING, 0, 0)
    assert runs.attempt_of(alive, "hash") == alive.tried + 1


def test_who_was_thought_silent_has_claimed_it_still() -> None:
    """Otherwise another receiver of the same offer could start as well."""
    taken = runs.claimed(runs.sent(begun(schedule()), "hash", NOW_US), "owner", NOW_US)
    late = runs.failed(taken, "unanswered", NOW_US)
    alive, offered = runs.alive(late), runs.sent(late, "next", NOW_US)
    assert alive.run is not None
    assert offered.run is not None
    assert (alive.run.owner, offered.run.owner) == ("owner", "")


@pytest.mark.parametrize(
    ("confirmation", "every", "until_us"),
    [
        (REPLY, "", NEVER),
        (REPLY, "@every 10s", NOW_US + 10 * SECOND),
        (Confirmation(Confirm.REPLY, max_age_us=3), "@every 10s", NOW_US + 3),
        (Confirmation(Confirm.REPLY, max_age_us=60 * SECOND), "@every 10s", NOW_US + 60 * SECOND),
        (Confirmation(Confirm.REPLY, overlap=Overlap.SKIP), "@every 10s", NEVER),
        (Confirmation(Confirm.REPLY, overlap=Overlap.ALLOW), "@every 10s", NEVER),
        (Confirmation(Confirm.REPLY, max_age_us=LAST_US), "", LAST_US),
    ],
)
def test_until_when_it_is_tried(confirmation: Confirmation, every: str, until_us: int) -> None:
    """By default, an occurrence is given up when the next one is due."""
    run = begun(schedule(confirmation, every=every))
    assert run.run is not None
    assert run.run.give_up_us == until_us
    assert not runs.is_over(run, until_us)
    if until_us < NEVER:
        assert runs.is_over(run, until_us + 1)
    assert runs.is_over(runs.ended(run), NOW_US), "its schedule was changed"


def test_what_would_be_too_late_is_given_up_at_once() -> None:
    """The last answer is the reason; so it is if the schedule was cancelled."""
    late = begun(schedule(Confirmation(Confirm.REPLY, max_age_us=3 * SECOND)))
    first = runs.failed(late, "first", NOW_US)
    assert first.state is State.RETRYING
    assert waits_for(first, SECOND)
    second = runs.failed(first, "second", NOW_US + SECOND)
    assert second.state is State.RETRYING, "just in time"
    assert second.next_us == NOW_US + 3 * SECOND, "and no later"
    third = runs.failed(first, "third", NOW_US + SECOND + 1)
    assert (third.state, third.reason, third.tried) == (State.FAILED, "third", 2)
    nobody = runs.refused(late, "nobody", 9, NOW_US)
    assert (nobody.state, nobody.tried) == (State.FAILED, 0)
    cancelled = runs.failed(runs.ended(begun(schedule())), "no", NOW_US)
    assert (cancelled.state, cancelled.tried) == (State.FAILED, 1)


def test_those_that_queue_wait_for_earlier_ones() -> None:
    """They are ordered by due time, then by number."""
    queue = schedule(Confirmation(Confirm.REPLY, overlap=Overlap.QUEUE), every="@every 10s")
    first, second, tenth = (
        runs.begun(queue, "a", occurrence, b"", NOW_US) for occurrence in ("1-1", "1-2", "1-10")
    )
    assert runs.waits_for(second, [first])
    assert runs.waits_for(tenth, [second])
    assert not runs.waits_for(first, [second, tenth])
    assert not runs.waits_for(first, [])
    others = schedule(Confirmation(Confirm.REPLY, overlap=Overlap.ALLOW), every="@every 10s")
    assert not runs.waits_for(runs.begun(others, "a", "1-2", b"", NOW_US), [first])


@given(st.text(), st.integers(0, LAST_US), st.integers(0, 10**18))
def test_what_a_receiver_says_is_kept_within_bounds(reason: str, now_us: int, delay: int) -> None:
    """Whatever reason and delay it gives, the entry can be stored."""
    run = runs.failed(begun(schedule()), reason, now_us, delay)
    assert 0 <= run.next_us <= LAST_US
    assert len(run.reason) <= 200
    assert run.reason.encode().isascii() or run.reason.encode().decode() == run.reason
    assert "\n" not in run.reason


def test_what_was_sent_goes_before_what_waits() -> None:
    """A late occurrence waits for a triggered run that was sent before it."""
    queue = schedule(Confirmation(Confirm.REPLY, overlap=Overlap.QUEUE), every="@every 10s")
    late = runs.begun(queue, "a", "1-1", b"", NOW_US + 9 * SECOND)
    asked_for = runs.begun(queue, "a", "t1", b"", NOW_US + SECOND, due_us=NOW_US + SECOND)
    assert runs.waits_for(asked_for, [late])
    sent = runs.sent(asked_for, "hash", NOW_US + SECOND)
    assert runs.waits_for(late, [sent])
    assert not runs.waits_for(sent, [late])


@pytest.mark.parametrize(
    ("confirmation", "every", "give_up_us"),
    [
        (REPLY, "", NEVER),
        (REPLY, "@every 10s", NOW_US + 10 * SECOND),
        (Confirmation(Confirm.REPLY, max_age_us=SECOND), "@every 10s", NOW_US + 4 * SECOND),
        (Confirmation(Confirm.REPLY, overlap=Overlap.ALLOW), "@every 10s", NEVER),
    ],
)
def test_how_long_a_run_that_was_asked_for_is_tried(
    confirmation: Confirmation, every: str, give_up_us: int
) -> None:
    """Until the next occurrence is due, like any other run; its age counts from now."""
    asked_us = NOW_US + 3 * SECOND
    due_before = schedule(confirmation, every=every)
    due_soon = due_before._replace(due_us=NOW_US + 10 * SECOND)
    for entry in (due_before, due_soon):
        run = runs.begun(entry, "a", "t1", b"", asked_us, due_us=asked_us)
        assert (run.due_us, run.when) == (asked_us, "1795000003")
        assert run.run is not None
        assert run.run.give_up_us == give_up_us


def test_jitter_is_not_for_a_run_that_was_asked_for() -> None:
    """Its age counts from when it was asked for."""
    spec = ScheduleSpec(recurs=True, jitter_us=3_600 * SECOND)
    entry = schedule(Confirmation(Confirm.REPLY, max_age_us=SECOND), every="@every 1h")
    run = runs.begun(entry._replace(spec=spec), "a", "t1", b"", NOW_US, due_us=NOW_US + 1)
    assert run.run is not None
    assert run.run.give_up_us == NOW_US + SECOND + 1


def test_a_run_that_was_asked_for_long_before_the_next_occurrence() -> None:
    """It is tried until that one, however late it is."""
    later_us = NOW_US + 1_000 * SECOND
    entry = schedule(every="@every 10s")._replace(due_us=later_us)
    run = runs.begun(entry, "a", "t1", b"", NOW_US, due_us=NOW_US)
    assert run.run is not None
    assert run.run.give_up_us == later_us
