"""When a schedule is due next, and what becomes of what was missed."""

from __future__ import annotations

from itertools import islice, takewhile
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from gozo.errors import Refusal, RequestError
from gozo.schedule.expression import LAST_US
from gozo.schedule.model import (
    LONGEST_WAIT_US,
    NEVER,
    Confirm,
    Confirmation,
    Entry,
    Misfire,
    ScheduleSpec,
    State,
)
from gozo.schedule.recurrence import (
    AHEAD_US,
    MOST_DELAYED,
    MOST_MISSED,
    arranged,
    due_at,
    due_times,
    expression,
    grace_us,
    is_left_out,
    is_missed,
    jitter_us,
    not_before,
    onward,
    paused,
    ran_ahead,
    reckoned_anew,
    rescheduled,
    resumed,
    shortest_us,
    upcoming,
)
from gozo.schedule.retry import retried
from gozo.schedule.runs import begun

SECOND = 1_000_000
HOUR = 3_600 * SECOND
NOW_US = 1_795_593_600 * SECOND
"""2026-11-25 08:00 UTC, a Wednesday."""


def schedule(when: str = "@every 10s", received_us: int = NOW_US, **spec: object) -> Entry:
    """Make a schedule that was received at some time."""
    entry = Entry("id", "to", when, 0, received_us, spec=ScheduleSpec(recurs=True, **spec))  # type: ignore[arg-type]
    return arranged(entry, expression(when), received_us)


def course(entry: Entry | None, now_us: int, step_us: int = 0) -> list[int]:
    """Return what is sent, in seconds after `NOW_US`, until nothing is due any more."""
    sent = []
    while entry is not None and entry.wake_us <= now_us:
        leave_out = is_left_out(entry, now_us)
        if not leave_out:
            sent.append((entry.due_us - NOW_US) // SECOND)
        entry = onward(entry, now_us, sent=not leave_out)
        now_us += step_us
    return sent


def test_lifetime() -> None:
    """It begins at its start, ends with its end or its count, and keeps its phase in between."""
    assert schedule().due_us == NOW_US + 10 * SECOND
    late = schedule(
        start_us=NOW_US + 25 * SECOND, until_us=NOW_US + 45 * SECOND, misfire=Misfire.ALL
    )
    assert [(us - NOW_US) // SECOND for us in upcoming(late)] == [25, 35, 45]
    assert course(late, NOW_US + 45 * SECOND) == [25, 35, 45]
    begun = schedule(start_us=NOW_US - 3 * SECOND, count=2)
    assert [(us - NOW_US) // SECOND for us in upcoming(begun)] == [7, 17]
    sent = onward(begun, begun.due_us, sent=True)
    assert sent is not None
    assert [(us - NOW_US) // SECOND for us in upcoming(sent)] == [17]
    assert schedule("@every 7h", start_us=0).due_us % (7 * HOUR) == 0
    assert schedule("0 9 * * *", start_us=NOW_US + HOUR).due_us == NOW_US + HOUR
    assert schedule("0 9 * * *", zone="Europe/Malta").due_us == NOW_US + 24 * HOUR
    with pytest.raises(RequestError, match="never due before Gozo-Until; give a later end"):
        schedule(until_us=NOW_US + 9 * SECOND)
    problem = "it is never due before the year 10000; give an earlier time"
    with pytest.raises(RequestError, match=f"^invalid Gozo-When '@every 70000000h': {problem}"):
        schedule("@every 70000000h")


def test_at_its_very_end() -> None:
    """What is due at the moment of `until` is the last; what is due a moment later is not."""
    until_us = NOW_US + 20 * SECOND
    for more, sent in ((0, [10, 20]), (-1, [10])):
        entry = schedule(until_us=until_us + more)
        assert [(us - NOW_US) // SECOND for us in upcoming(entry)] == sent
        assert course(entry, NOW_US + 10 * SECOND, 10 * SECOND) == sent
    assert schedule(until_us=NOW_US + 10 * SECOND).due_us == NOW_US + 10 * SECOND
    assert schedule(start_us=NOW_US, until_us=NOW_US).due_us == NOW_US
    with pytest.raises(RequestError) as refused:
        schedule(until_us=NOW_US + 10 * SECOND - 1)
    assert refused.value.code is Refusal.INVALID_WHEN


def test_not_before() -> None:
    """The first occurrence at a moment or after it, but none that has been already."""
    entry = schedule(until_us=NOW_US + 40 * SECOND)
    for moment, due in ((0, 20), (20, 20), (21, 30), (30, 30), (40, 40)):
        assert not_before(entry, NOW_US + moment * SECOND).due_us == NOW_US + due * SECOND
    single = Entry("id", "to", "+5", NOW_US, NOW_US)
    for ended in (entry, single, single._replace(spec=ScheduleSpec(misfire=Misfire.SKIP))):
        with pytest.raises(RequestError, match="no occurrence after that") as refused:
            not_before(ended, NOW_US + 40 * SECOND + 1)
        assert refused.value.code is Refusal.INVALID_WHEN
    delayed = not_before(schedule(jitter_us=SECOND), NOW_US + HOUR)
    assert delayed.wake_us == delayed.due_us + jitter_us(delayed, delayed.due_us)


def test_shortest() -> None:
    """A moment has no next one."""
    for spec in (None, ScheduleSpec(misfire=Misfire.SKIP)):
        assert list(upcoming(Entry("id", "to", "+5", NOW_US, NOW_US, spec=spec))) == [NOW_US]
    whens = ("+5", "@every 90s", "* * * * *")
    entries = [Entry("id", "to", when, NOW_US, NOW_US) for when in whens]
    assert list(map(shortest_us, entries)) == [0, 90 * SECOND, 60 * SECOND]


def test_the_last_times() -> None:
    """Where clocks are behind UTC, the last of the year 9999 is not there any more."""
    entry = schedule("59 23 31 12 *", zone="America/New_York", start_us=LAST_US - 366 * 24 * HOUR)
    assert len(list(upcoming(entry))) == 1


@pytest.mark.parametrize("misfire", Misfire)
@pytest.mark.parametrize("jitter", [0, 5 * SECOND])
@pytest.mark.parametrize("was_missed", [False, True])
def test_nothing_follows_the_last_time(misfire: Misfire, jitter: int, was_missed: bool) -> None:
    """A schedule ends with the year 9999, whether its last two occurrences were missed or not."""
    entry: Entry | None = schedule(
        "0 0 30,31 12 *", start_us=LAST_US - 72 * HOUR, misfire=misfire, jitter_us=jitter
    )
    for _ in range(1 if misfire is Misfire.ONCE and was_missed else 2):
        assert entry is not None
        now_us = LAST_US - HOUR if was_missed else entry.wake_us
        entry = onward(entry, now_us, sent=True)
    assert entry is None


def test_count_and_last() -> None:
    """An entry tells how often it was sent and when last; what was left out does not count."""
    entry: Entry | None = schedule(count=2)
    assert entry is not None
    first_us = entry.due_us
    entry = onward(entry, first_us, sent=True)
    assert entry is not None
    assert entry.spec == ScheduleSpec(recurs=True, count=2, occurred=1, last_us=first_us)
    left_out = onward(entry, entry.due_us, sent=False)
    assert left_out is not None
    assert left_out.spec == entry.spec
    assert onward(entry, entry.due_us, sent=True) is None
    assert onward(schedule(count=1), first_us, sent=True) is None


@pytest.mark.parametrize(
    ("spec", "late", "sent"),
    [
        # Due at 10, 20, 30, ...; later than an interval is missed.
        ({}, 10, [10]),
        ({}, 45, [10]),
        ({"misfire": Misfire.ALL}, 45, [10, 20, 30, 40]),
        ({"misfire": Misfire.SKIP}, 45, [40]),
        ({"misfire": Misfire.SKIP, "grace_us": 4 * SECOND}, 45, []),
        ({"misfire": Misfire.SKIP, "grace_us": 0}, 40, [40]),
        ({"misfire": Misfire.SKIP, "grace_us": 20 * SECOND}, 45, [30, 40]),
        ({"grace_us": 20 * SECOND}, 45, [10]),
        ({"grace_us": 3_600 * SECOND}, 45, [10, 20, 30, 40]),
        ({"count": 3, "misfire": Misfire.ALL}, 45, [10, 20, 30]),
        ({"until_us": NOW_US + 35 * SECOND}, 3_600, [10]),
        ({"until_us": NOW_US + 35 * SECOND, "misfire": Misfire.SKIP}, 3_600, []),
    ],
)
def test_what_was_missed(spec: dict[str, Any], late: int, sent: list[int]) -> None:
    """`once` sends one for all, `all` each, `skip` none; the grace says what counts as missed."""
    assert course(schedule(**spec), NOW_US + late * SECOND) == sent


@given(
    when=st.sampled_from(
        ["@every 10s", "@every 37ms", "* * * * *", "0,1,30 * * * * *", "*/7 * * * *", "0 9 * * mon"]
    ),
    grace=st.none() | st.sampled_from([0, SECOND, 20 * SECOND, HOUR]),
    jitter=st.sampled_from([0, 0, SECOND // 100, 5 * SECOND, 90 * SECOND]),
    late_us=st.integers(0, 2 * SECOND) | st.integers(0, 200 * SECOND) | st.integers(0, 2 * HOUR),
)
def test_once_is_once(when: str, grace: int | None, jitter: int, late_us: int) -> None:
    """Where anything that is overdue was missed, one message stands for all that is overdue.

    Those within the grace are among them; what is delayed and still ahead is not. Where nothing
    was missed, each is sent.
    """
    entry = schedule(when, grace_us=grace, jitter_us=jitter)
    now_us = entry.wake_us + late_us
    times = list(takewhile(lambda due_us: due_us <= now_us, upcoming(entry)))
    # Where more than these can be delayed at the same time, not each is looked at.
    assume(len(list(takewhile(lambda us: us <= entry.due_us + jitter, times))) <= MOST_DELAYED)
    delayed = {due_us: due_us + jitter_us(entry, due_us) for due_us in times}
    overdue = [due_us for due_us in times if delayed[due_us] <= now_us]
    graces = {due_us: grace_us(entry._replace(due_us=due_us)) for due_us in times[:1_000]}
    missed = any(
        now_us - delayed[due_us] > graces[due_us] for due_us in overdue if due_us in graces
    )
    following = onward(entry, now_us, sent=True)
    assert following is not None
    if missed:
        ahead = [due_us for due_us in times if delayed[due_us] > now_us]
        assert following.due_us == (ahead or [next(due_times(entry, now_us))])[0]
    else:
        assert following.due_us == next(due_times(entry, entry.due_us))


DELAYED = "1890"
"""An id for which, with a jitter of 20 s, what is due at 10, 20 and 30 s is sent at 23.620013,
20.884098 and 37.472954 s."""


@pytest.mark.parametrize(
    ("misfire", "grace", "now_us", "due"),
    [
        (Misfire.ONCE, 5, 25_884_098, 20),
        (Misfire.ONCE, 5, 25_884_099, 30),
        (Misfire.ONCE, None, 30_884_098, 20),
        (Misfire.ONCE, None, 30_884_099, 30),
        (Misfire.ONCE, 5, 37_472_953, 30),
        (Misfire.ONCE, 5, 37_472_954, 40),
        (Misfire.SKIP, 5, 42_472_954, 30),
        (Misfire.SKIP, 5, 42_472_955, 40),
    ],
)
def test_a_later_one_with_less_jitter_was_missed(
    misfire: Misfire, grace: int | None, now_us: int, due: int
) -> None:
    """`once`: the next is the first that is not overdue; `skip`: the first that is not missed."""
    entry = Entry(DELAYED, "to", "@every 10s", 0, NOW_US)
    grace_us = None if grace is None else grace * SECOND
    spec = ScheduleSpec(recurs=True, misfire=misfire, jitter_us=20 * SECOND, grace_us=grace_us)
    entry = arranged(entry._replace(spec=spec), expression(entry.when), NOW_US)
    following = onward(entry, NOW_US + now_us, sent=True)
    assert following is not None
    assert following.due_us == NOW_US + due * SECOND


@pytest.mark.parametrize("grace", [0, 3 * SECOND])
def test_it_is_late_from_its_delay_on(grace: int) -> None:
    """Missed is what is later than the grace after its delayed time, not after its nominal one."""
    entry = schedule("@every 1h", misfire=Misfire.SKIP, grace_us=grace, jitter_us=10 * SECOND)
    assert entry.wake_us > entry.due_us
    for check in (is_missed, is_left_out):
        assert not check(entry, entry.due_us)
        assert not check(entry, entry.wake_us + grace)
        assert check(entry, entry.wake_us + grace + 1)
    late_us = entry.wake_us + grace
    following = onward(entry, late_us, sent=False)
    assert following is not None
    assert following.due_us == entry.due_us + HOUR


@pytest.mark.parametrize(("misfire", "sent"), [(Misfire.ONCE, [1]), (Misfire.SKIP, [61])])
def test_intervals_that_differ(misfire: Misfire, sent: list[int]) -> None:
    """Each occurrence is missed by its own interval: one second after :00, 29 after :01."""
    entry = schedule("0,1,30 * * * * *", misfire=misfire)
    assert course(entry, NOW_US + 65 * SECOND) == sent


@pytest.mark.parametrize(
    ("when", "received_us", "grace", "late", "due"),
    [
        ("@every 10s", NOW_US, None, 45, 40),
        ("@every 10s", NOW_US, None, 20, 20),
        # One second after :00, 29 after :01: each has its own grace.
        ("0,1,30 * * * * *", NOW_US, None, 65, 61),
        ("0,1,30 * * * * *", NOW_US - 1, None, 65, 61),
        ("* * * * *", NOW_US, 600, 1_200, 600),
    ],
)
def test_missed_occurrences_are_skipped_at_once(
    when: str, received_us: int, grace: int | None, late: int, due: int
) -> None:
    """With `skip`, the next occurrence is the first that is within its grace period."""
    grace_us = None if grace is None else grace * SECOND
    entry = schedule(when, received_us, misfire=Misfire.SKIP, grace_us=grace_us)
    following = onward(entry, NOW_US + late * SECOND, sent=False)
    assert following is not None
    assert following.due_us == NOW_US + due * SECOND


def test_not_each_of_very_many_is_looked_at() -> None:
    """If their delays span thousands of intervals, the next is the first that lies ahead."""
    entry = schedule("@every 10ms", jitter_us=HOUR)
    now_us = entry.due_us + HOUR
    following = onward(entry, now_us, sent=True)
    assert following is not None
    assert following.due_us == now_us + 10_000


def test_what_was_tried_before_is_forgotten_with_the_next_occurrence() -> None:
    """The next one is pending, however the one before it ended."""
    entry = retried(schedule(), "why", NOW_US)
    assert onward(entry, entry.due_us, sent=True) == onward(schedule(), entry.due_us, sent=True)
    following = onward(entry, entry.due_us, sent=True)
    assert following is not None
    assert (following.state, following.tried, following.reason) == (State.PENDING, 0, "")


def test_default_grace() -> None:
    """A minute, or one interval where that is shorter."""
    assert grace_us(schedule("@every 250ms")) == SECOND // 4
    assert grace_us(schedule("@every 2h")) == 60 * SECOND
    assert grace_us(schedule("*/10 * * * * *")) == 10 * SECOND
    assert grace_us(schedule("0 9 * * *")) == 60 * SECOND


@pytest.mark.parametrize(
    ("when", "zone"),
    [
        ("@every 10s", ""),
        ("* * * * * *", ""),
        ("* * * * *", ""),
        ("0 9 * * *", ""),
        ("30 9 * * *", "Europe/Malta"),
        ("* 8-9 25 * *", ""),
        ("*/9 * * * * 3", ""),
    ],
)
@pytest.mark.parametrize("days", [2, 3_000])
def test_not_more_than_the_latest_thousand(when: str, zone: str, days: int) -> None:
    """However much was missed, `all` sends the latest thousand, in order, up to now."""
    entry = schedule(when, misfire=Misfire.ALL, zone=zone)
    now_us = NOW_US + days * 24 * HOUR
    sent = course(entry, now_us)
    assert sent[0] == (entry.due_us - NOW_US) // SECOND
    # What follows is bounded, and has no gaps.
    follows = due_times(entry, NOW_US + sent[1] * SECOND - 1)
    assert sent[1:] == [(us - NOW_US) // SECOND for us in islice(follows, len(sent) - 1)]
    assert next(follows) > now_us
    is_whole = next(due_times(entry, entry.due_us)) == NOW_US + sent[1] * SECOND
    # `now_us` is a whole minute, up to which they are counted.
    assert len(sent) <= MOST_MISSED + 1 if is_whole else len(sent) == MOST_MISSED + 1


@given(
    when=st.sampled_from(["@every 10s", "@every 37ms", "*/7 * * * *", "0 9 * * mon"]),
    misfire=st.sampled_from(Misfire),
    grace=st.none() | st.integers(0, 2 * HOUR),
    jitter=st.integers(0, HOUR),
    late_us=st.integers(0, 24 * 30 * HOUR),
)
def test_onward_is_always_later(
    when: str, misfire: Misfire, grace: int | None, jitter: int, late_us: int
) -> None:
    """Whatever the policy, the next time is a later one that the expression names."""
    entry = schedule(when, misfire=misfire, grace_us=grace, jitter_us=jitter)
    following = onward(entry, entry.due_us + late_us, sent=True)
    assert following is not None
    assert following.due_us > entry.due_us
    assert next(due_times(entry, following.due_us - 1)) == following.due_us
    assert following.due_us <= following.wake_us <= following.due_us + jitter
    assert following == due_at(following, following.due_us)


def test_jitter_is_the_same_for_every_daemon() -> None:
    """The delay depends on the id and the nominal time, and nothing else."""
    entry = schedule(jitter_us=5 * SECOND)
    delays = [jitter_us(entry, due_us) for due_us in islice(upcoming(entry), 50)]
    assert delays == [jitter_us(entry, due_us) for due_us in islice(upcoming(entry), 50)]
    assert len(set(delays)) > 40
    assert 0 <= min(delays) < max(delays) <= 5 * SECOND
    assert jitter_us(entry._replace(id="another"), entry.due_us) != delays[0]
    assert schedule(jitter_us=0).wake_us == NOW_US + 10 * SECOND


@given(jitter=st.integers(1, LAST_US), days=st.integers(1, 2_900_000))
@example(jitter=LAST_US, days=2_900_000)
def test_jitter_ends_with_the_year_9999(jitter: int, days: int) -> None:
    """What is due later could be neither printed nor stored: the answer to $SRV.STATS failed."""
    entry = schedule(f"@every {days}d", jitter_us=jitter)
    assert entry.due_us <= entry.wake_us <= LAST_US
    assert not any(jitter_us(entry._replace(id=str(number)), LAST_US) for number in range(9))


def test_single_schedules_may_be_left_out() -> None:
    """With `skip`, a moment that passed by more than the grace is left out; else never."""
    entry = Entry("id", "to", "+5", NOW_US, NOW_US)
    assert not is_left_out(entry, NOW_US + HOUR)
    strict = entry._replace(spec=ScheduleSpec(misfire=Misfire.SKIP, grace_us=SECOND))
    assert not is_left_out(strict, NOW_US + SECOND)
    assert is_left_out(strict, NOW_US + SECOND + 1)
    assert onward(strict, NOW_US, sent=False) is None
    assert onward(entry, NOW_US, sent=True) is None
    assert is_left_out(
        strict._replace(spec=ScheduleSpec(misfire=Misfire.SKIP)), NOW_US + 61 * SECOND
    )


def test_paused_and_resumed() -> None:
    """A paused schedule is never due; resumed, it is as late as it is."""
    entry = schedule(jitter_us=SECOND)
    asleep = paused(entry)
    assert (asleep.state, asleep.wake_us) == (State.PAUSED, NEVER)
    assert asleep.next_us == 0
    assert paused(retried(entry, "why", NOW_US)) == asleep
    assert resumed(asleep) == entry
    assert resumed(entry) == entry
    noted = paused(entry, "why")
    assert paused(noted) == noted
    assert paused(noted, "again").reason == "again"
    assert resumed(noted) == entry
    assert course(resumed(asleep), NOW_US + 45 * SECOND)[0] == 10


def test_rescheduled() -> None:
    """A moment puts off the next occurrence only; an expression takes the place of the old one."""
    entry = schedule(count=5, until_us=NOW_US + HOUR)
    later = rescheduled(entry, "+25", NOW_US)
    assert [(us - NOW_US) // SECOND for us in upcoming(later)] == [25, 35, 45, 55, 65]
    assert later.when == entry.when
    other = rescheduled(entry, "*/1 * * * *", NOW_US)
    assert [(us - NOW_US) // SECOND for us in upcoming(other)] == [60, 120, 180, 240, 300]
    local = schedule("0 9 * * *", zone="Europe/Malta")
    assert rescheduled(local, "@hourly", NOW_US).spec == local.spec
    interval = rescheduled(local, "@every 25s", NOW_US)
    assert interval.spec == ScheduleSpec(recurs=True)
    moved = rescheduled(paused(entry, "why"), "+25", NOW_US)
    assert (moved.state, moved.reason) == (State.PAUSED, "why")
    with pytest.raises(RequestError, match="after the schedule's Gozo-Until"):
        rescheduled(entry, "+2h", NOW_US)
    single = rescheduled(Entry("id", "to", "+5", NOW_US, NOW_US), "@hourly", NOW_US)
    assert single.recurs
    assert single.due_us == NOW_US + HOUR


def test_rescheduled_up_to_its_end() -> None:
    """To the moment of `until`, and no later."""
    entry = schedule(until_us=NOW_US + 25 * SECOND)
    assert rescheduled(entry, "+25", NOW_US).due_us == NOW_US + 25 * SECOND
    message = r"invalid Gozo-When '\+25.000001': it is after the schedule's Gozo-Until"
    with pytest.raises(RequestError, match=message) as refused:
        rescheduled(entry, "+25.000001", NOW_US)
    assert refused.value.code is Refusal.INVALID_WHEN


def test_rescheduled_counts_no_attempts() -> None:
    """What was tried before does not count any more; what is paused stays so, and why."""
    fresh = rescheduled(schedule(), "+25", NOW_US)
    assert rescheduled(retried(schedule(), "why", NOW_US), "+25", NOW_US) == fresh
    asleep = rescheduled(paused(schedule(), "why"), "+25", NOW_US)
    assert asleep == paused(fresh, "why")
    assert asleep.wake_us == NEVER
    assert resumed(asleep) == fresh
    single = Entry("id", "to", "+5", NOW_US, NOW_US)
    moved = rescheduled(retried(single, "why", NOW_US), "+25", NOW_US)
    assert moved == single._replace(when="+25", due_us=NOW_US + 25 * SECOND)
    asleep = rescheduled(paused(single), "+25", NOW_US)
    assert asleep == paused(moved)
    assert resumed(asleep) == moved


AHEAD = 3_600 * SECOND
"""How far a leader's clock was ahead."""


@given(
    when=st.sampled_from(["@every 1s", "@every 10m", "* * * * * *", "*/7 * * * *", "0 9 * * mon"]),
    misfire=st.sampled_from(Misfire),
    jitter=st.sampled_from([0, 5 * SECOND]),
    times=st.integers(1, 4),
    start_us=st.none() | st.integers(NOW_US - HOUR, NOW_US + HOUR),
)
def test_a_clock_that_ran_ahead(
    when: str, misfire: Misfire, jitter: int, times: int, start_us: int | None
) -> None:
    """Whatever it did, by the right clock the next time is again the first that is named."""
    entry: Entry | None = schedule(when, misfire=misfire, jitter_us=jitter, start_us=start_us)
    assert entry is not None
    ahead_us = NOW_US + AHEAD
    moved = entry
    for _ in range(times):
        if moved.wake_us > ahead_us:
            break
        following = onward(moved, ahead_us, sent=not is_left_out(moved, ahead_us))
        assert following is not None
        moved = following
    fits = next(due_times(entry, max(NOW_US, (start_us or 0) - 1)))
    new = reckoned_anew(moved, NOW_US)
    if new is None:
        assert moved.due_us <= fits + 2 * jitter or moved == entry
        return
    assert not ran_ahead(new, NOW_US)
    assert new.due_us == min(fits, moved.due_us)
    assert new.wake_us == new.due_us + jitter_us(new, new.due_us)
    assert reckoned_anew(paused(moved), NOW_US) == paused(new)


def test_how_far_ahead_a_clock_may_be() -> None:
    """A few seconds are no error: what was sent, or is tried again, may be later by them."""
    spec = ScheduleSpec(recurs=True, last_us=NOW_US + AHEAD_US)
    sent = schedule()._replace(spec=spec)
    assert not ran_ahead(sent, NOW_US)
    assert ran_ahead(sent, NOW_US - 1)
    waits_us = LONGEST_WAIT_US + AHEAD_US
    tried = retried(Entry("id", "to", "+5", NOW_US, NOW_US), "why", NOW_US)
    assert not ran_ahead(tried._replace(next_us=NOW_US + waits_us), NOW_US)
    assert ran_ahead(tried._replace(next_us=NOW_US + waits_us + 1), NOW_US)
    for late_us, reckoned in ((AHEAD_US, False), (AHEAD_US + 1, True)):
        entry = schedule()
        following = onward(entry, entry.due_us + late_us, sent=True)
        assert following is not None
        assert following.spec is not None
        assert bool(following.spec.reckoned_us) is reckoned


def test_no_clock_ran_ahead_of_a_run() -> None:
    """Its times are those of its attempts, and it has no next occurrence."""
    entry = schedule()._replace(confirmation=Confirmation(Confirm.REPLY))
    run = begun(entry, "id", "64a1-1", b"", NOW_US)
    run = run._replace(state=State.RETRYING, next_us=NOW_US + AHEAD)
    assert not ran_ahead(run, NOW_US)
    assert reckoned_anew(run, NOW_US) is None


def test_a_start_is_exact() -> None:
    """No occurrence is before it, not even by a microsecond, nor after a clock was corrected."""
    start_us = NOW_US + 60 * SECOND + 1
    entry = schedule("* * * * *", start_us=start_us)
    assert entry.due_us == NOW_US + 120 * SECOND
    ahead = onward(entry, NOW_US + AHEAD, sent=True)
    assert ahead is not None
    right = reckoned_anew(ahead, NOW_US)
    assert right is not None
    assert right.due_us == NOW_US + 120 * SECOND


def test_what_was_put_off_stays_put_off() -> None:
    """A next time that is far off does not tell that a clock ran ahead."""
    entry = onward(schedule(), NOW_US + 10 * SECOND, sent=True)
    assert entry is not None
    far = rescheduled(entry, "+90000", NOW_US)
    assert reckoned_anew(far, NOW_US) is None
    ahead = onward(entry, NOW_US + AHEAD, sent=True)
    assert ahead is not None
    assert ran_ahead(ahead, NOW_US)
    assert reckoned_anew(rescheduled(ahead, "+90000", NOW_US), NOW_US) is None
    assert reckoned_anew(ahead, NOW_US + AHEAD) is None
    assert reckoned_anew(schedule(start_us=NOW_US + AHEAD), NOW_US) is None


def test_attempts_by_a_clock_that_ran_ahead() -> None:
    """What is tried again waits a minute at most, also where it does not recur."""
    single = Entry("id", "to", "+5", NOW_US, NOW_US)
    failed = retried(single, "why", NOW_US)
    assert reckoned_anew(failed, NOW_US) is None
    late = retried(single, "why", NOW_US + AHEAD)
    new = reckoned_anew(late, NOW_US)
    assert new is not None
    assert (new.next_us, new.state, new.tried) == (NOW_US, State.RETRYING, 1)


@pytest.mark.parametrize("spec", [{}, {"jitter_us": 5 * SECOND}], ids=["exact", "jitter"])
def test_what_a_fast_clock_tried_too_early_is_not_early_again(spec: dict[str, Any]) -> None:
    """By the right clock it waits until it is due, whether it recurs or not."""
    recurring = schedule(**spec)
    single = Entry("id", "to", "+5", NOW_US + 5 * SECOND, NOW_US)
    for entry in (recurring, single):
        new = reckoned_anew(retried(entry, "why", NOW_US + AHEAD), NOW_US)
        assert new is not None
        assert (new.state, new.tried, new.due_us) == (State.RETRYING, 1, entry.due_us)
        assert new.wake_us == entry.wake_us


def test_attempts_at_an_occurrence_by_a_clock_that_ran_ahead() -> None:
    """The occurrence that is due by the right clock was not tried yet."""
    ahead = onward(schedule(), NOW_US + AHEAD, sent=True)
    assert ahead is not None
    right = reckoned_anew(ahead, NOW_US)
    assert right is not None
    assert right.recurs
    assert (right.tried, right.reason) == (0, "")
    assert (right.state, right.due_us) == (State.PENDING, NOW_US + 10 * SECOND)
    assert reckoned_anew(retried(ahead, "why", NOW_US + AHEAD), NOW_US) == right
