"""What happens to an occurrence that is due before an earlier one is settled."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from tests.support.client import Client
from tests.support.hand import Hand, Job
from tests.support.patience import until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.receipts import ask
from tests.support.replicas import leader_of
from tests.support.run_events import RunEvents

EVERY = "@every 200ms"
LATER = b'-NAK {"delay": 600000000}'


@pytest.fixture(scope="module")
def options() -> tuple[str, ...]:
    """Publish events, which show skipped occurrences; allow any interval."""
    return ("--events", "--min-interval", "10ms")


@pytest.fixture
async def events(client: Client, new_id: str) -> RunEvents:
    """Record the events of the test's id."""
    return await RunEvents.listen(client, new_id)


async def store(
    client: Client, hand: Hand, id_: str, mode: str, headers: Mapping[str, str] | None = None
) -> None:
    """Store a schedule that is due five times a second."""
    overlap = {"Gozo-Overlap": mode} if mode else {}
    asked = {"Gozo-Id": id_, "Gozo-When": EVERY, "Gozo-Confirm": "reply", **overlap}
    receipt = await ask(client, asked | dict(headers or {}), reply=hand.subject)
    assert receipt["status"] == "stored"


async def call(client: Client, verb: str, id_: str, when: str = "+3600") -> str:
    """Send the leader an administrative request, and return the status."""
    body = {"id": id_, "when": when} if verb == "reschedule" else {"ids": [id_]}
    subject = f"gozo.admin.{verb}"
    message = await client.nats.request(subject, json.dumps(body).encode(), timeout=5)
    answer = json.loads(message.data)
    return str(answer.get("status") or answer["results"][0]["status"])


async def skipped(events: RunEvents, count: int) -> None:
    """Wait until this many more occurrences were skipped."""
    most = events.kinds.count("skipped") + count
    await until(lambda: events.kinds.count("skipped") >= most, f"{count} more are skipped")


def numbers(jobs: list[Job]) -> list[int]:
    """Return the numbers of the occurrences that have begun, in order."""
    return [job.occurrence for job in jobs]


@pytest.mark.parametrize("mode", ["", "allow"])
async def test_allow(client: Client, new_id: str, events: RunEvents, mode: str) -> None:
    """All run at the same time; without the header as well, but then none is retried for long."""
    hand = await Hand.start(client.nats)
    await store(client, hand, new_id, mode)
    jobs = await hand.begun(3)
    assert numbers(jobs[:3]) == [1, 2, 3]
    await hand.answer(jobs[0], LATER)
    if mode:
        await until(lambda: any(job.attempt == 2 for job in jobs), "the first is tried again")
    else:
        failed = await events.find("failed")
        assert failed["attempts"] == 1, "it is given up, since the next one is due"
    await call(client, "cancel", new_id)


async def test_skip(client: Client, new_id: str, events: RunEvents) -> None:
    """Occurrences that are due while one is running or retried are skipped."""
    hand = await Hand.start(client.nats)
    await store(client, hand, new_id, "skip")
    jobs = await hand.begun(1)
    await skipped(events, 2)
    await hand.answer(jobs[0], LATER)
    await skipped(events, 2)
    await hand.begun(2)
    assert [(job.occurrence, job.attempt) for job in jobs] == [(1, 1), (1, 2)]
    await hand.answer(jobs[1], b"+ACK")
    await hand.begun(3)
    assert (jobs[2].occurrence, jobs[2].attempt) == (2, 1), "what is left out has no number"
    assert await call(client, "cancel", new_id) == "cancelled"
    assert await events.states() == ["running"]


async def test_queue(client: Client, new_id: str, events: RunEvents) -> None:
    """One waits while another is running or retried, and begins once that is settled."""
    hand = await Hand.start(client.nats)
    await store(client, hand, new_id, "queue")
    jobs = await hand.begun(1)
    await skipped(events, 1)
    assert sorted(await events.states()) == ["pending", "running"]
    await hand.answer(jobs[0], LATER)
    await hand.begun(2)
    await hand.answer(jobs[1], b"+TERM")
    await hand.begun(3)
    assert [(job.occurrence, job.attempt) for job in jobs] == [(1, 1), (1, 2), (2, 1)]
    assert round(jobs[2].due - jobs[0].due, 3) == 0.2, "it is the one that was due first"
    await call(client, "cancel", new_id)


@pytest.mark.parametrize("verb", ["cancel", "pause", "reschedule", "replace"])
async def test_changes(client: Client, new_id: str, events: RunEvents, verb: str) -> None:
    """A change ends runs that wait or are retried; those at work continue."""
    hand = await Hand.start(client.nats)
    for mode, word, left in (("queue", b"+WPI", ["running"]), ("skip", LATER, [])):
        begun = len(hand.jobs)
        await store(client, hand, new_id, mode)
        job = (await hand.begun(begun + 1))[begun]
        await skipped(events, 1)
        await hand.answer(job, word)
        if verb == "replace":
            plain = {"Gozo-Id": new_id, "Gozo-When": "+3600"}
            assert (await ask(client, plain, reply=hand.subject))["status"] == "stored"
        else:
            assert (await call(client, verb, new_id)).startswith(verb)
        assert await events.states() == left
        assert len(hand.jobs) == begun + 1
        await hand.answer(job, b"+ACK")
        assert await events.runs() == []


@pytest.mark.parametrize("mode", ["skip", "queue"])
async def test_due_by_a_change(client: Client, new_id: str, events: RunEvents, mode: str) -> None:
    """An occurrence due by a change is not skipped because of a run that the change ends."""
    hand = await Hand.start(client.nats)
    await store(client, hand, new_id, mode, {"Gozo-When": "@every 1h"})
    for number in (1, 2, 3):
        assert await call(client, "reschedule", new_id, "+0") == "rescheduled"
        job = (await hand.begun(number))[-1]
        assert (job.occurrence, job.attempt) == (number, 1)
        await hand.answer(job, b'-NAK {"delay": 3600000000000}')
    assert "skipped" not in events.kinds
    await call(client, "cancel", new_id)


async def test_the_end_of_a_schedule(client: Client, new_id: str, events: RunEvents) -> None:
    """A waiting run begins even if its schedule has ended."""
    hand = await Hand.start(client.nats)
    await store(client, hand, new_id, "queue", {"Gozo-Count": "2"})
    jobs = await hand.begun(1)
    await until(lambda: two_runs(events), "the other one waits")
    assert await call(client, "pause", new_id) == "already_delivered"
    await hand.answer(jobs[0], b"+ACK")
    await hand.begun(2)
    assert numbers(jobs) == [1, 2]
    await hand.answer(jobs[1], b"+ACK")
    assert await events.runs() == []


async def two_runs(events: RunEvents) -> bool:
    """Tell whether there are two runs."""
    return len(await events.runs()) == 2


async def test_what_waits_for_too_long(client: Client, new_id: str, events: RunEvents) -> None:
    """It is given up in time, and another one can wait."""
    hand = await Hand.start(client.nats)
    await store(client, hand, new_id, "queue", {"Gozo-Max-Age": "500ms"})
    jobs = await hand.begun(1)
    failed = await events.find("failed")
    assert failed["attempts"] == 0
    await until(lambda: events.kinds.count("failed") == 2, "so is the next one that waits")
    assert len(jobs) == 1

    async def one_is_kept() -> bool:
        return sorted(await events.states()) == ["failed", "pending", "running"]

    await until(one_is_kept, "one of them is kept, and another one waits")
    await call(client, "cancel", new_id)


async def test_so_many_at_a_time(client: Client, new_id: str, events: RunEvents) -> None:
    """A hundred run at the same time; further occurrences are skipped."""
    hand = await Hand.start(client.nats)
    await store(client, hand, new_id, "allow", {"Gozo-When": "@every 10ms"})
    jobs = await hand.begun(100)
    await skipped(events, 5)
    assert sorted(numbers(jobs)) == list(range(1, 101))
    await hand.answer(jobs[50], b"+ACK")
    await hand.begun(101)
    await skipped(events, 5)
    assert numbers(jobs[100:]) == [101]
    await call(client, "cancel", new_id)


async def test_another_leader(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """Under another leader, a waiting run keeps waiting, and begins once."""
    server = servers.start()
    client = await clients.connect(server)
    hand, events = await Hand.start(client.nats), await RunEvents.listen(client, "a")
    replicas = [await daemons.serve(server, "--events") for _ in range(2)]
    await store(client, hand, "a", "queue")
    jobs = await hand.begun(1)
    await skipped(events, 1)
    leader = await leader_of(replicas)
    await leader.kill()
    replicas.remove(leader)
    await leader_of(replicas)
    await skipped(events, 1)
    assert sorted(await events.states()) == ["pending", "running"]
    await hand.answer(jobs[0], b"+ACK")
    await hand.begun(2)
    assert numbers(jobs) == [1, 2]


async def test_a_change_without_a_leader(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """Runs that a client cancels in the bucket while no daemon runs are not retried."""
    server = servers.start()
    client = await clients.connect(server)
    hand, events = await Hand.start(client.nats), await RunEvents.listen(client, "a")
    daemon = await daemons.serve(server)
    await store(client, hand, "a", "skip")
    (job,) = await hand.begun(1)
    await hand.answer(job, b'-NAK {"delay": 3600000000000}')
    await daemon.kill()
    bucket = await client.nats.jetstream().key_value("gozo")
    await bucket.delete("a")
    assert await events.states() == ["retrying"]
    await daemons.serve(server)

    async def is_gone() -> bool:
        return await events.runs() == []

    await until(is_gone, "the run is gone")
