"""What is recorded of the few schedules that are special."""

from __future__ import annotations

from typing import Any, cast

from gozo.delivery.dead_letters import of_occurrence
from gozo.schedule.model import Confirm, Confirmation, Entry, ScheduleSpec, State
from gozo.schedule.outcome import Outcome, Result
from gozo.schedule.record import recorded
from gozo.schedule.retry import retried
from gozo.schedule.runs import MOST_RUNS, begun
from gozo.store.reservations import Reservations
from gozo.store.traits import Traits
from tests.support.store import some_index

NOW_US = 1_795_000_000_000_000


def failed(confirmation: Confirmation, *, recurs: bool = False, occurred: int = 0) -> Entry:
    """Return a schedule that was given up."""
    entry = Entry(
        *("a", "to", "@every 1s" if recurs else "+0", NOW_US, NOW_US),
        confirm=confirmation.by is Confirm.STREAM,
        attempts=1,
        spec=ScheduleSpec(recurs=True, occurred=occurred) if recurs else None,
        confirmation=confirmation,
    )
    return retried(entry, "full", NOW_US)


def test_dead_letters_are_counted_by_schedule() -> None:
    """Those of its occurrences count as long as they wait."""
    traits = Traits(lambda: NOW_US)
    letter = Confirmation(Confirm.STREAM, dead_letter="dead")
    traits.note("single", failed(letter))
    assert traits.dead_letters_of("single") == 1
    keys = ["single"]
    for occurred in (1, 2, 2):
        key, kept = of_occurrence("a", failed(letter, recurs=True, occurred=occurred))
        traits.note(key, kept)
        keys.append(key)
    assert (traits.dead_letters_of("a"), traits.dead_letters_of("b")) == (2, 0)
    assert {*keys} == traits.failed == traits.dead_letters.keys()
    for key in keys:
        traits.note(key, None)
    assert traits.dead_letters_of("a") == 0
    assert traits.dead_letters == {}


def test_runs_are_counted_apart() -> None:
    """In every state: they are neither failed nor retried schedules."""
    traits = Traits(lambda: NOW_US)
    schedule = failed(Confirmation(Confirm.REPLY, dead_letter="dead"))
    run = begun(schedule, "a", "t1", b"", NOW_US)
    for state in (State.RUNNING, State.RETRYING, State.FAILED):
        traits.note("=_run.a.t1", run._replace(state=state))
        assert traits.runs.counts()[state] == 1
        assert not traits.failed | traits.retrying | traits.paused
    traits.note("=_run.a.t1", None)
    assert not any(traits.runs.counts().values())


def test_runs_fail_where_their_schedule_is_gone() -> None:
    """Otherwise only the schedule counts, by its last run; so do dead letters."""
    index = some_index()
    schedule = failed(Confirmation(Confirm.REPLY), recurs=True)._replace(state=State.PENDING)
    run = begun(schedule, "a", "t1", b"", NOW_US)._replace(state=State.FAILED)
    letter = failed(Confirmation(Confirm.STREAM, dead_letter="dead"), recurs=True, occurred=1)
    index.traits.note("a", schedule)
    index.timetable.put("a", NOW_US, 1)
    for key, entry in (("=_run.a.t1", run), of_occurrence("a", letter)):
        index.traits.note(key, entry)
    assert index.count_failing() == 0
    ended = Outcome("a", "a", "to", "1", Result.MISSED, NOW_US, NOW_US)
    index.traits.note("a", recorded(schedule, ended, NOW_US))
    assert index.count_failing() == 1
    index.traits.note("a", schedule)
    assert index.count_failing() == 0
    index.drop("a")
    assert index.count_failing() == 1


def test_no_schedule_has_too_many_dead_letters() -> None:
    """The limit is for each schedule."""
    index = some_index()
    reservations = Reservations(cast(Any, None), index, iter(()))
    letter = Confirmation(Confirm.STREAM, dead_letter="dead")
    kept = [
        of_occurrence("a", failed(letter, recurs=True, occurred=number))
        for number in range(MOST_RUNS)
    ]
    for key, entry in kept:
        assert reservations.has_room_for_dead_letter("a")
        index.traits.note(key, entry)
    assert not reservations.has_room_for_dead_letter("a")
    assert reservations.has_room_for_dead_letter("b")
    index.traits.note(kept[0][0], None)
    assert reservations.has_room_for_dead_letter("a")


def test_a_stream_has_to_acknowledge_every_dead_letter() -> None:
    """This includes dead letters of schedules that a receiver confirms."""
    traits = Traits(lambda: NOW_US)
    traits.note("a", failed(Confirmation(Confirm.REPLY, dead_letter="dead")))
    traits.note("b", failed(Confirmation(Confirm.REPLY)))
    assert traits.confirming == {"a"}
    traits.note("a", None)
    assert traits.confirming == set()
