"""Runs in `gozo.client`: found by their schedule's id, and never mistaken for the schedule."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import timedelta

import pytest

from gozo.client import Answer, Cancelled, Client, Schedule, Wanted
from gozo.client.arguments import moment
from gozo.errors import NotFoundError, RequestError
from gozo.schedule.model import Confirm, Confirmation, ScheduleSpec, State
from tests.support.places import LATER, Place, listed
from tests.support.runs import DUE_US, LATER_US, put_run, run_of
from tests.support.server import NatsServer

DUE = moment(DUE_US)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    """Run a server without a daemon, which would change the runs."""
    with NatsServer() as server:
        yield Place(server, daemon=False)


@pytest.fixture
async def client(place: Place) -> AsyncIterator[Client]:
    """Connect gozo's client, to an existing bucket."""
    async with await Client.connect(place.server.url) as client:
        await client.schedule("other", when=LATER, id="other")
        yield client


async def runs_of(client: Client, id_: str) -> list[tuple[str, str]]:
    """Return occurrence and state of each run of a schedule."""
    return [(run.occurrence, run.state) for run in await client.current_runs(id_)]


@pytest.mark.parametrize("id_", ["backup", "back.up", "back up", "a=b"])
async def test_what_is_seen_of_a_run(client: Client, place: Place, id_: str) -> None:
    """Its attempt, its start, whether it was claimed, and the last answer."""
    key = put_run(place.server, run_of(id_))
    (run,) = await client.current_runs(id_)
    assert (run.id, run.key, run.subject, run.payload) == (id_, key, "jobs", b"full")
    assert (run.is_run, run.occurrence, run.state, run.due) == (True, "64a1-1", "running", DUE)
    assert (run.attempt, run.tried, run.attempts, run.confirm) == (2, 1, 3, "claim")
    assert (run.sent, run.claimed) == (DUE + timedelta(seconds=2), True)
    assert (run.reason, run.next, run.give_up) == ("exit status 3", None, None)
    assert (run.last_attempt, run.recurs) == (False, False)
    assert (run.headers, run.managed_by) == ((("Kind", "green"),), "")
    assert await client.get(id_) is None
    assert (await listed(client))[key] == run._replace(payload=None)
    assert (await client.cancel(id_))[0].status == "cancelled"


async def test_each_state(client: Client, place: Place, new: str) -> None:
    """A list can be limited to one state; runs are never overdue."""
    for number, state in enumerate((State.FAILED, State.RETRYING, State.RUNNING, State.PENDING)):
        run = run_of(new, state, occurrence=f"1-{number}", due_us=DUE_US + number)
        put_run(place.server, run)
    failed, retrying, running, pending = await client.current_runs(new)
    states = [one.state for one in (failed, retrying, running, pending)]
    assert states == ["failed", "retrying", "running", "pending"]
    assert (retrying.next, retrying.attempt) == (moment(LATER_US + 100_000), 1)
    assert retrying.reason == "nobody subscribes"
    assert (failed.reason, failed.attempt, failed.claimed) == ("exit status 4", 1, False)
    assert failed.next is None
    assert (pending.attempt, pending.claimed) == (2, False)
    for one in (failed, retrying, running, pending):
        of_state = client.list(prefix=new, state=one.state)
        assert [found.key async for found in of_state] == [one.key]
    assert [one async for one in client.list(prefix=new, state="overdue")] == []
    with pytest.raises(RequestError, match="the state is 'done': give pending, running, "):
        await anext(client.list(state="done"))


async def test_a_dead_letter_to_be_published(client: Client, place: Place, new: str) -> None:
    """A failed run with a dead letter says when that is tried next."""
    letter = Confirmation(Confirm.CLAIM, dead_letter="failed")
    failed = run_of(new, State.FAILED, confirmation=letter)
    put_run(place.server, failed._replace(next_us=LATER_US))
    (run,) = await client.current_runs(new)
    assert (run.state, run.next, run.confirmation) == ("failed", moment(LATER_US), letter)
    assert await client.cancel(new) == [Cancelled(new, "not_found")]
    assert await client.current_runs(new) == [run], "it outlives a cancel"


async def test_only_its_own(client: Client, place: Place, new: str) -> None:
    """Runs of a schedule whose id begins with another one's, dots included, are not its own.

    Nor are those of an id whose key looks like another id.
    """
    ids = [new, f"{new}.a", f"{new}.ab.1", f"{new}x", f"{new}=b", f"{new}=3Db"]
    for id_ in ids:
        put_run(place.server, run_of(id_))
    for id_ in ids:
        assert [run.id for run in await client.current_runs(id_)] == [id_]


async def test_apply_leaves_runs_alone(client: Client, place: Place, new: str) -> None:
    """Neither pruning a set nor changing a schedule affects runs; a run is no schedule."""
    spec = ScheduleSpec(recurs=True)
    wanted = Wanted(new, "jobs", "@daily", spec=spec, managed_by=new, confirm="reply")
    put_run(place.server, run_of(new)._replace(managed_by=new))
    assert [one.action for one in await client.apply([wanted])] == ["create"]
    assert [one.action for one in await client.apply([wanted])] == ["leave"]
    before = await client.current_runs(new)
    assert [one.action for one in await client.apply([], prune=[new])] == ["remove"]
    assert [one.action for one in await client.apply([], prune=[new])] == []
    assert await client.current_runs(new) == before


async def test_cancel(client: Client, place: Place, new: str) -> None:
    """Running runs continue and are not retried; failed ones are removed."""
    await client.schedule("jobs", when="@daily", id=new, confirm="reply")
    put_run(place.server, run_of(new))
    put_run(place.server, run_of(new, State.RETRYING, occurrence="2"))
    put_run(place.server, run_of(new, State.FAILED, occurrence="3"))
    (done,) = await client.cancel(new)
    assert (done.status, done.running) == ("cancelled", True)
    assert await client.get(new) is None
    assert await runs_of(client, new) == [("2", "retrying"), ("64a1-1", "running")]
    runs = await client.current_runs(new)
    assert [run.last_attempt for run in runs] == [True, True]
    assert runs[1].payload == b"full"
    assert await client.cancel(new) == [Cancelled(new, "not_found", running=True)]
    assert await client.current_runs(new) == runs
    put_run(place.server, run_of(f"{new}2", State.FAILED))
    (done,) = await client.cancel(f"{new}2")
    assert (done.status, done.running) == ("cancelled", False)
    assert (await client.cancel(f"{new}2"))[0].status == "not_found"


async def test_pause_and_reschedule(client: Client, place: Place, new: str) -> None:
    """Nothing more is tried, failed runs stay, and resuming changes no run."""
    for verb in ("pause", "reschedule"):
        id_ = f"{new}-{verb}"
        await client.schedule("jobs", when="@daily", id=id_, confirm="reply")
        put_run(place.server, run_of(id_))
        put_run(place.server, run_of(id_, State.FAILED, occurrence="3"))
        await client.resume(id_)
        assert [run.last_attempt for run in await client.current_runs(id_)] == [False, False]
        if verb == "pause":
            assert (await client.pause(id_))[0].running
        else:
            assert (await client.reschedule(id_, LATER)).running
        assert [run.last_attempt for run in await client.current_runs(id_)] == [False, True]
    alone = f"{new}-alone"
    put_run(place.server, run_of(alone, State.RETRYING))
    said = "the schedule is over, but an occurrence of it is still retrying"
    over = Answer(alone, "not_found", said, running=True)
    assert await client.pause(alone) == await client.resume(alone) == [over]
    with pytest.raises(NotFoundError, match=said):
        await client.reschedule(alone, LATER)
    assert [run.last_attempt for run in await client.current_runs(alone)] == [False]


async def test_watch(client: Client, place: Place, new: str) -> None:
    """It reports when a run appears and when it is gone, with its schedule's id."""
    changes = client.watch()
    async for change in changes:
        if change.kind == "current":
            break
    key = put_run(place.server, run_of(new, State.FAILED))
    put = await anext(changes)
    assert isinstance(put.schedule, Schedule)
    assert (put.key, put.id, put.schedule.is_run) == (key, new, True)
    await client.cancel(new)
    gone = await anext(changes)
    assert (gone.kind, gone.key, gone.id) == ("removed", key, new)
