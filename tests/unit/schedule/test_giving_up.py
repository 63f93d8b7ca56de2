"""When a delivery is retried, and when it is given up."""

from __future__ import annotations

import pytest

from gozo.schedule import runs
from gozo.schedule.model import (
    LONGEST_WAIT_US,
    MICROSECONDS,
    NEVER,
    Confirm,
    Confirmation,
    Entry,
    Misfire,
    ScheduleSpec,
    State,
)
from gozo.schedule.recurrence import AHEAD_US, is_left_out, jitter_us, ran_ahead, reckoned_anew
from gozo.schedule.retry import expired, expiry_us, is_expired, retried

SECOND = MICROSECONDS
NOW_US = 1_795_000_000 * SECOND
LETTER = Confirmation(Confirm.STREAM, dead_letter="dead")
AGED = Confirmation(Confirm.STREAM, max_age_us=10 * SECOND)


def schedule(confirmation: Confirmation | None, *, attempts: int = 0, every: str = "") -> Entry:
    """Return a schedule that is due now, once or with the expression `every`."""
    return Entry(
        *("a", "to", every or "+0", NOW_US, NOW_US - SECOND),
        confirm=True,
        attempts=attempts,
        spec=ScheduleSpec(recurs=True) if every else None,
        confirmation=confirmation,
    )


def test_what_is_given_up_with_a_dead_letter_is_due_at_once() -> None:
    """Without a dead letter it is kept, and never due."""
    failed = retried(schedule(LETTER, attempts=1), "full", NOW_US)
    assert (failed.state, failed.tried, failed.reason) == (State.FAILED, 1, "full")
    assert failed.is_dead_letter
    assert failed.wake_us == NOW_US
    for confirmation in (None, AGED):
        kept = retried(schedule(confirmation, attempts=1), "full", NOW_US)
        assert (kept.state, kept.is_dead_letter, kept.wake_us) == (State.FAILED, False, NEVER)


def test_a_run_that_is_given_up_has_its_dead_letter_due_at_once() -> None:
    """Without a dead letter it is never due."""
    by_reply = schedule(Confirmation(Confirm.REPLY, dead_letter="dead"), attempts=1)
    run = runs.begun(by_reply, "a", "64a1", b"", NOW_US)
    failed = runs.failed(run, "no", NOW_US + 5)
    assert failed.is_dead_letter
    assert failed.wake_us == NOW_US + 5
    kept = runs.failed(run._replace(confirmation=Confirmation(Confirm.REPLY)), "no", NOW_US)
    assert kept.wake_us == NEVER


def test_not_tried_later_than_its_age() -> None:
    """It is given up once the next attempt would be too late, with the last reason."""
    entry, now_us, attempts = schedule(AGED), NOW_US, 0
    while entry.state is not State.FAILED:
        assert not is_expired(entry, now_us)
        attempts += 1
        entry = retried(entry, "full", now_us)
        now_us = entry.next_us
    assert (attempts, entry.tried, entry.reason) == (6, 6, "full")
    assert now_us == NOW_US + 7_750_000, "the next one would be 15.75 s after it was due"


def test_an_attempt_may_be_as_late_as_its_age() -> None:
    """The first wait is a quarter of a second."""
    for age_us, state in ((250_000, State.RETRYING), (249_999, State.FAILED)):
        entry = schedule(Confirmation(Confirm.STREAM, max_age_us=age_us))
        assert retried(entry, "full", NOW_US).state is state


@pytest.mark.parametrize(("tried", "reason"), [(0, "within 10s of its due time"), (3, "full")])
def test_what_is_too_old_is_given_up(tried: int, reason: str) -> None:
    """Giving up does not count as an attempt."""
    entry = schedule(AGED)._replace(tried=tried, reason="full" if tried else "")
    assert not is_expired(entry, NOW_US + 10 * SECOND)
    assert is_expired(entry, NOW_US + 10 * SECOND + 1)
    given_up = expired(entry, NOW_US + 11 * SECOND)
    assert (given_up.state, given_up.tried) == (State.FAILED, tried)
    assert given_up.next_us == NOW_US + 11 * SECOND
    assert given_up.reason.endswith(reason)
    assert not is_expired(given_up, NOW_US + 11 * SECOND), "its dead letter has no age"


def test_jitter_does_not_count_as_age() -> None:
    """Otherwise a long delay by jitter would leave no time for an attempt."""
    spec = ScheduleSpec(jitter_us=3600 * SECOND)
    entry = schedule(AGED)._replace(spec=spec)
    delay_us = jitter_us(entry, NOW_US)
    assert delay_us > 10 * SECOND
    assert expiry_us(entry) == NOW_US + delay_us + 10 * SECOND
    run = runs.begun(entry._replace(confirmation=Confirmation(Confirm.REPLY, max_age_us=1)), *RUN)
    assert run.run is not None
    assert run.run.give_up_us == NOW_US + delay_us + 1


RUN = ("a", "64a1", b"", NOW_US)


def test_an_occurrence_with_a_dead_letter_is_given_up_when_the_next_is_due() -> None:
    """Otherwise a job that always fails would be retried forever, unnoticed."""
    entry = schedule(LETTER, every="@every 10s")
    assert retried(entry, "full", NOW_US + 9 * SECOND).state is State.RETRYING
    assert retried(entry, "full", NOW_US + 10 * SECOND).state is State.FAILED
    assert not is_expired(entry, NOW_US + 60 * SECOND), "one that was not tried yet is sent"
    for others in (schedule(LETTER), schedule(None, every="@every 10s")):
        assert retried(others, "full", NOW_US + 3600 * SECOND).state is State.RETRYING


@pytest.mark.parametrize("confirmation", [LETTER, AGED])
def test_what_was_tried_is_given_up_and_not_missed(confirmation: Confirmation) -> None:
    """The misfire policy is for occurrences that were not tried."""
    skips = ScheduleSpec(recurs=True, misfire=Misfire.SKIP)
    entry = schedule(confirmation, every="@every 1s")._replace(spec=skips)
    late_us = NOW_US + 5 * SECOND
    assert is_left_out(entry, late_us)
    assert not is_left_out(retried(entry, "full", NOW_US), late_us)
    plain = schedule(None, every="@every 1s")._replace(spec=skips)
    assert is_left_out(retried(plain, "full", NOW_US), late_us)


def test_a_dead_letter_whose_time_a_fast_clock_wrote() -> None:
    """By the right clock it is due at once."""
    failed = retried(schedule(LETTER, attempts=1), "full", NOW_US + 3600 * SECOND)
    assert ran_ahead(failed, failed.next_us - AHEAD_US - 1)
    assert not ran_ahead(failed, failed.next_us - AHEAD_US), "a clock may be ahead by so much"
    assert ran_ahead(failed, NOW_US)
    anew = reckoned_anew(failed, NOW_US)
    assert anew is not None
    assert (anew.state, anew.wake_us) == (State.FAILED, NOW_US)
    assert not ran_ahead(anew, NOW_US)
    assert AHEAD_US < LONGEST_WAIT_US
