"""When a schedule is due next, and what happens to late occurrences. Pure.

An occurrence is missed if it is later than the grace period. The schedule's misfire policy then
decides: `once` sends the first one missed in place of all that are overdue at that moment; `all`
sends each, up to the latest `MOST_MISSED`; `skip` sends none. Later occurrences always keep to
the times named by the expression.

Times are microseconds since the Unix epoch; callers pass the current time in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, tzinfo
from functools import lru_cache
from hashlib import blake2b
from itertools import islice, takewhile

from gozo.errors import Refusal, RequestError, invalid_value
from gozo.schedule import expression as grammar
from gozo.schedule.cron import Cron, read_zone
from gozo.schedule.model import (
    LONGEST_WAIT_US,
    MICROSECONDS,
    NEVER,
    Entry,
    Misfire,
    ScheduleSpec,
    State,
)
from gozo.schedule.record import awaiting, not_awaiting

MOST_MISSED = 1_000
"""Maximum number of missed occurrences sent one by one."""

MOST_DELAYED = 64
"""Maximum number of occurrences checked one by one because jitter may delay each so that it is
not missed or overdue: no sensible jitter spans that many intervals."""

STEP_US = 60 * MICROSECONDS
"""The latest missed occurrences are counted up to the next multiple of this."""

GRACE_US = 60 * MICROSECONDS
"""The default grace period, unless the interval is shorter."""

AHEAD_US = 5 * MICROSECONDS
"""The clock of a leader that is further ahead than this is wrong."""

expression = lru_cache(maxsize=4_096)(grammar.parse)
"""Reads the expression of a recurring schedule, which is likely to be read again."""


def arranged(entry: Entry, when: grammar.When, received_us: int) -> Entry:
    """Return an entry with its first due time; `when` is its parsed expression.

    Raises:
        RequestError: `invalid_when`, if it is never due.
    """
    if isinstance(when, grammar.Moment):
        return entry._replace(due_us=grammar.first_due(when, received_us))
    spec = replace(entry.spec or ScheduleSpec(), recurs=True)
    if not isinstance(when, Cron):
        spec = replace(spec, zone="")  # left over from a cron expression
    start_us = spec.start_us
    due_us = start_us
    if isinstance(when, Cron):
        after_us = received_us if start_us is None else max(received_us, start_us - 1)
        due_us = when.next_us(after_us, _zone(spec))
    elif start_us is None:
        due_us = received_us + when.us
    elif start_us < received_us:
        due_us = grammar.next_due(when, received_us, start_us)
    if due_us is None or due_us > min(spec.until_us, grammar.LAST_US):
        end, cure = "the year 10000", "give an earlier time"
        if spec.until_us != NEVER:
            end, cure = "Gozo-Until", "give a later end"
        problem = f"it is never due before {end}; {cure}"
        raise RequestError(Refusal.INVALID_WHEN, invalid_value("Gozo-When", entry.when, problem))
    return due_at(entry._replace(spec=spec), due_us)


def due_at(entry: Entry, due_us: int) -> Entry:
    """Return the entry with another nominal time and its jitter."""
    delay_us = jitter_us(entry, due_us)
    return entry._replace(due_us=due_us, next_us=due_us + delay_us if delay_us else 0)


def onward(entry: Entry, now_us: int, *, sent: bool) -> Entry | None:
    """Return the entry after its occurrence was sent or skipped; None if it was the last.

    `sent` says whether the occurrence counts; one whose attempts all failed does.
    """
    spec = entry.spec
    if spec is None or not spec.recurs:
        return None
    reckoned_us = now_us if now_us > entry.due_us + AHEAD_US else 0
    if sent:
        spec = replace(
            spec, occurred=spec.occurred + 1, last_us=entry.due_us, reckoned_us=reckoned_us
        )
    elif reckoned_us != spec.reckoned_us:
        spec = replace(spec, reckoned_us=reckoned_us)
    if 0 < spec.count <= spec.occurred:
        return None
    due_us = _following(entry, now_us)
    if due_us is None or due_us > spec.until_us:
        return None
    delay_us = jitter_us(entry, due_us)
    if entry.confirmation is not None:
        entry = awaiting(entry)
    return entry._replace(
        spec=spec,
        due_us=due_us,
        next_us=due_us + delay_us if delay_us else 0,
        state=State.PENDING,
        tried=0,
        reason="",
    )


def is_left_out(entry: Entry, now_us: int) -> bool:
    """Return whether the occurrence is skipped because it was missed."""
    spec = entry.spec
    if spec is None or spec.misfire is not Misfire.SKIP or _is_kept_trying(entry):
        return False
    return is_missed(entry, now_us)


def _is_kept_trying(entry: Entry) -> bool:
    """Return whether an occurrence that was tried is given up in the end, and not missed."""
    confirmation = entry.confirmation
    return confirmation is not None and entry.state is not State.PENDING and confirmation.gives_up


def is_missed(entry: Entry, now_us: int) -> bool:
    """Return whether the occurrence is later than the grace period."""
    late_us = _late_us(entry, entry.due_us, now_us)
    return late_us > 0 and late_us > grace_us(entry)


def _late_us(entry: Entry, due_us: int, now_us: int) -> int:
    """How late an occurrence is, not counting its jitter."""
    return now_us - due_us - jitter_us(entry, due_us)


def grace_us(entry: Entry) -> int:
    """The grace period: as in the spec, else a minute or one interval, whichever is shorter."""
    spec = entry.spec
    if spec is None:
        return GRACE_US
    return _grace(spec, entry.due_us, next(due_times(entry, entry.due_us), None))


def _grace(spec: ScheduleSpec, due_us: int, next_us: int | None) -> int:
    """The grace period of an occurrence that is followed by one at `next_us`."""
    if spec.grace_us is not None:
        return spec.grace_us
    return GRACE_US if next_us is None else min(GRACE_US, next_us - due_us)


def shortest_us(entry: Entry) -> int:
    """The shortest time between two occurrences; 0 if it does not recur."""
    when = expression(entry.when)
    if isinstance(when, Cron):
        return when.shortest_us
    return when.us if isinstance(when, grammar.Every) else 0


def jitter_us(entry: Entry, due_us: int) -> int:
    """The jitter of one occurrence: random up to the maximum, and the same on every daemon.

    It never moves an occurrence beyond the year 9999, which could not be printed.
    """
    spec = entry.spec
    if spec is None or not spec.jitter_us:
        return 0
    name = f"{entry.id}\0{due_us}".encode()
    number = int.from_bytes(blake2b(name, digest_size=8).digest(), "big")
    return number % (min(spec.jitter_us, max(grammar.LAST_US - due_us, 0)) + 1)


def due_times(entry: Entry, after_us: int) -> Iterator[int]:
    """All times that the expression names after a moment, ignoring start, end and count."""
    when = expression(entry.when)
    if isinstance(when, grammar.Moment):
        return iter(())
    return grammar.due_times(when, after_us, entry.due_us, _zone(entry.spec))


def upcoming(entry: Entry) -> Iterator[int]:
    """The nominal times from the next one on, up to its end or count."""
    yield entry.due_us
    spec = entry.spec
    if spec is None or not spec.recurs:
        return
    left = spec.count - spec.occurred - 1 if spec.count else None
    for due_us in islice(due_times(entry, entry.due_us), left):
        if due_us > spec.until_us:
            return
        yield due_us


# Pausing and moving


def paused(entry: Entry, note: str = "") -> Entry:
    """Return the entry, paused.

    The note says why; without one, an earlier note stays.
    """
    if entry.state is State.PAUSED and not note:
        return entry
    return not_awaiting(entry)._replace(state=State.PAUSED, tried=0, next_us=0, reason=note)


def resumed(entry: Entry) -> Entry:
    """Return the entry, resumed; its misfire policy applies to what it missed."""
    if entry.state is not State.PAUSED:
        return entry
    return due_at(entry._replace(state=State.PENDING, reason=""), entry.due_us)


def rescheduled(entry: Entry, text: str, now_us: int) -> Entry:
    """Return the entry with another time and without earlier attempts.

    For a recurring schedule, a moment is the time of its next occurrence: an interval continues
    from there, a cron expression with the next time it names.

    Raises:
        RequestError: as for `arranged`.
    """
    entry = not_awaiting(entry)
    if entry.state is State.PAUSED:
        entry = entry._replace(next_us=0)
    else:
        entry = entry._replace(state=State.PENDING, tried=0, next_us=0, reason="")
    if entry.spec is not None:
        entry = entry._replace(spec=_as_of(entry.spec, now_us))
    when = grammar.parse(text)
    if not entry.recurs or not isinstance(when, grammar.Moment):
        return arranged(entry._replace(when=text), when, now_us)
    due_us = grammar.first_due(when, now_us)
    assert entry.spec is not None
    if due_us > entry.spec.until_us:
        problem = "it is after the schedule's Gozo-Until; give an earlier time"
        raise RequestError(Refusal.INVALID_WHEN, invalid_value("Gozo-When", text, problem))
    return due_at(entry, due_us)


def not_before(entry: Entry, moment_us: int) -> Entry:
    """Return the entry with its first occurrence that is not before a moment.

    Raises:
        RequestError: `invalid_when`, if there is none.
    """
    due_us = next(due_times(entry, max(entry.due_us, moment_us - 1)), None)
    if due_us is None or entry.spec is None or due_us > entry.spec.until_us:
        raise RequestError(Refusal.INVALID_WHEN, "it has no occurrence after that")
    return due_at(entry, due_us)


# After a clock that ran ahead


def ran_ahead(entry: Entry, now_us: int) -> bool:
    """Return whether an entry waits too long because the leader that wrote it had a fast clock.

    That is so if an occurrence was sent, or the next time computed, later than now. A distant
    next time proves nothing: the schedule may have been rescheduled, or its waits be long.
    """
    if entry.is_dead_letter:
        return entry.next_us > now_us + AHEAD_US
    if entry.run is not None:
        return False
    if entry.state is State.RETRYING and entry.next_us > now_us + LONGEST_WAIT_US + AHEAD_US:
        return True
    spec = entry.spec
    if spec is None or not spec.recurs:
        return False
    return max(spec.last_us, spec.reckoned_us) > now_us + AHEAD_US


def reckoned_anew(entry: Entry, now_us: int) -> Entry | None:
    """Return an entry that waits too long, corrected by the right clock; else None."""
    if not ran_ahead(entry, now_us):
        return None
    if entry.is_dead_letter:
        return entry._replace(next_us=now_us)
    if entry.state is State.RETRYING:
        first_us = entry.due_us + jitter_us(entry, entry.due_us)
        entry = entry._replace(next_us=max(first_us, min(entry.next_us, now_us)))
    spec = entry.spec
    if spec is None or not spec.recurs:
        return entry
    after_us = now_us if spec.start_us is None else max(now_us, spec.start_us - 1)
    due_us = next(due_times(entry, after_us), None)
    entry = entry._replace(spec=_as_of(spec, now_us))
    if due_us is None or due_us >= entry.due_us:
        return entry
    if entry.state is State.PAUSED:
        return entry._replace(due_us=due_us)
    return due_at(entry._replace(state=State.PENDING, tried=0, reason=""), due_us)


def _as_of(spec: ScheduleSpec, now_us: int) -> ScheduleSpec:
    """Return the spec without times later than now."""
    return replace(spec, last_us=min(spec.last_us, now_us), reckoned_us=0)


def _zone(spec: ScheduleSpec | None) -> tzinfo:
    return read_zone(spec.zone) if spec is not None and spec.zone else UTC


def _following(entry: Entry, now_us: int) -> int | None:
    """The next nominal time, after those missed in between."""
    spec = entry.spec
    assert spec is not None
    if spec.misfire is Misfire.ALL:
        return _latest(entry, now_us)
    if spec.misfire is Misfire.ONCE:
        return _first_ahead(entry, now_us)
    due_us = next(due_times(entry, entry.due_us), None)
    grace = _grace(spec, entry.due_us, due_us)
    if due_us is None or _late_us(entry, entry.due_us, now_us) <= grace:
        return due_us
    if spec.grace_us is None and isinstance(expression(entry.when), Cron):
        grace = GRACE_US  # the longest: the intervals of a cron expression differ
    after_us = max(entry.due_us, now_us - grace - spec.jitter_us - 1)
    # Jitter may delay an occurrence so that it is not missed: check each.
    for due_us, next_us in islice(_with_next(due_times(entry, after_us)), MOST_DELAYED):
        if _late_us(entry, due_us, now_us) <= _grace(spec, due_us, next_us):
            break
    return due_us


def _first_ahead(entry: Entry, now_us: int) -> int | None:
    """The next nominal time; if any was missed, the first that is not overdue."""
    following_us = next(due_times(entry, entry.due_us), None)
    if following_us is None or not _any_missed(entry, now_us):
        return following_us
    assert entry.spec is not None
    after_us = max(entry.due_us, now_us - entry.spec.jitter_us)
    for due_us in islice(due_times(entry, after_us), MOST_DELAYED):
        if due_us + jitter_us(entry, due_us) > now_us:
            return due_us
    return next(due_times(entry, max(after_us, now_us)), None)


def _any_missed(entry: Entry, now_us: int) -> bool:
    """Return whether the occurrence was missed, or a later one with less jitter."""
    if is_missed(entry, now_us):
        return True
    spec = entry.spec
    if spec is None or not spec.jitter_us:
        return False
    overdue = takewhile(lambda pair: pair[0] < now_us, _with_next(due_times(entry, entry.due_us)))
    return any(
        _late_us(entry, due_us, now_us) > _grace(spec, due_us, next_us)
        for due_us, next_us in islice(overdue, MOST_DELAYED)
    )


def _with_next(times: Iterator[int]) -> Iterator[tuple[int, int | None]]:
    """Each time with the one after it."""
    time_us = next(times, None)
    while time_us is not None:
        next_us = next(times, None)
        yield time_us, next_us
        time_us = next_us


def _latest(entry: Entry, now_us: int) -> int | None:
    """The first of the latest `MOST_MISSED` nominal times up to now; else the next one."""
    when = expression(entry.when)
    after_us = entry.due_us
    if isinstance(when, grammar.Every):
        after_us = max(after_us, now_us - MOST_MISSED * when.us)
    elif isinstance(when, Cron) and now_us - after_us > MOST_MISSED * when.shortest_us:
        after_us = max(after_us, _thousandth(when, _zone(entry.spec), -(-now_us // STEP_US)) - 1)
    return next(due_times(entry, after_us), None)


@lru_cache(maxsize=1_024)
def _thousandth(cron: Cron, zone: tzinfo, steps: int) -> int:
    """The earliest of the latest `MOST_MISSED` times of an expression; 0 if there are fewer.

    Counts up to a number of steps since 1970, so that many occurrences of one outage share the
    cached result.
    """
    return cron.latest_us(steps * STEP_US, MOST_MISSED, zone) or 0
