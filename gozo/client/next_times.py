"""The next due times of stored schedules and of expressions. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from gozo.client.arguments import microseconds, moment, spec_of
from gozo.client.models import Schedule
from gozo.client.typed import typed
from gozo.schedule.model import Entry
from gozo.schedule.recurrence import arranged, due_times, expression, upcoming


@typed
def next_times(schedule: Schedule, now: datetime) -> Iterator[datetime]:
    """Iterate over the nominal times of a schedule from now on, the next one first.

    Times that have passed, because the schedule is paused or late, are skipped: the misfire
    policy decides about them.
    """
    if schedule.state == "invalid":
        return
    entry = Entry(
        *(schedule.id, schedule.subject, schedule.when),
        due_us=microseconds(schedule.due),
        created_us=microseconds(schedule.created),
        spec=schedule.spec,
    )
    if schedule.due < now:
        due_us = next(due_times(entry, microseconds(now)), None)
        if due_us is None or (schedule.until is not None and moment(due_us) > schedule.until):
            return
        entry = entry._replace(due_us=due_us)
    yield from map(moment, upcoming(entry))


@typed
def times_of(when: str, now: datetime, time_zone: str = "") -> Iterator[datetime]:
    """Iterate over the nominal times of an expression as if it were requested now.

    Raises:
        RequestError: `invalid_when`.
    """
    now_us = microseconds(now)
    given = {"Gozo-Time-Zone": time_zone} if time_zone else {}
    spec = spec_of(given, when, now_us)
    entry = arranged(Entry("", "", when, 0, now_us, spec=spec), expression(when), now_us)
    return map(moment, upcoming(entry))
