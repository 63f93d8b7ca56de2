"""How each occurrence that its receiver has to confirm ended, and where that is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from nats.aio.msg import Msg

from tests.support.client import Client
from tests.support.jobs import call_one
from tests.support.outcomes import OUTPUT, outcome, outcomes, stored
from tests.support.patience import until
from tests.support.receipts import ask, entry_of
from tests.support.receiver import Answer, Receiver, Say
from tests.support.run_events import RunEvents

REPLY = {"Gozo-Confirm": "reply", "Gozo-Backoff": "50ms"}
WORK = {
    "Gozo-Exit-Status": "3",
    "Gozo-Host": "web1",
    "Gozo-Started": "2026-11-30T02:00:00.120Z",
    "Gozo-Duration": "12.5",
}


@pytest.fixture(scope="module")
def options() -> tuple[str, ...]:
    """Publish events: they tell what becomes of a run."""
    return ("--events",)


@pytest.fixture
async def events(client: Client, new_id: str) -> RunEvents:
    """Listen to what is published about the test's id."""
    return await RunEvents.listen(client, new_id)


async def schedule(client: Client, id_: str, subject: str, **headers: str) -> None:
    """Store a schedule whose receiver has to confirm it."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    receipt = await ask(
        client, {**REPLY, "Gozo-When": "+0", "Gozo-Id": id_, **named}, reply=subject
    )
    assert receipt["status"] in ("stored", "replaced"), receipt


def worker(word: bytes, output: bytes = b"", headers: Mapping[str, str] = {}) -> Say:
    """Return the answer of a worker."""
    return Say(output, {**WORK, "Gozo-Answer": word.decode(), **headers})


ENDS: dict[str, tuple[Answer, Mapping[str, str], dict[str, Any]]] = {
    "a plain answer": (b"done", {}, {"outcome": "succeeded", "reason": "", "host": ""}),
    "a worker": (
        worker(b"+ACK", headers={"Gozo-Exit-Status": "0"}),
        {},
        {"outcome": "succeeded", "exit_status": 0, "host": "web1", "took": 12.5},
    ),
    "failed for good": (b"+TERM no disk", {}, {"outcome": "failed", "reason": "no disk"}),
    "no attempt left": (
        worker(b"-NAK"),
        {"Gozo_Attempts": "1"},
        {"outcome": "failed", "reason": "exit status 3", "exit_status": 3, "host": "web1"},
    ),
    "silent": (
        None,
        {"Gozo_Attempts": "1", "Gozo_Ack_Wait": "1s"},
        {"outcome": "unanswered", "reason": "no answer came in time"},
    ),
    "hostile headers": (
        worker(b"+ACK", headers=dict.fromkeys(WORK, "\x7f" * 1_000)),
        {},
        {"outcome": "succeeded", "exit_status": None, "host": ""},
    ),
}


@pytest.mark.parametrize("end", ENDS)
async def test_each_end(client: Client, new_id: str, events: RunEvents, end: str) -> None:
    """It is in the stream, and an event; an alert too, unless it succeeded."""
    answer, headers, expected = ENDS[end]
    receiver = await Receiver.start(client.nats, answer)
    await schedule(client, new_id, receiver.subject, **headers)
    found = await outcome(client, new_id)
    assert found.items() >= expected.items()
    assert (found["id"], found["subject"]) == (new_id, receiver.subject)
    assert (found["attempt"], found["late"]) == (1, False)
    assert found["due"] <= found["ended"]
    if "took" in expected:
        assert found["started"] == WORK["Gozo-Started"]
    succeeded = found["outcome"] == "succeeded"
    event = await events.find("succeeded" if succeeded else "failed")
    assert event.items() >= expected.items()
    if succeeded:
        assert "alert" not in events.kinds
    else:
        assert (await events.find("alert")).items() >= expected.items()


async def test_nobody(client: Client, new_id: str, events: RunEvents) -> None:
    """Where nobody subscribes until it is too late."""
    await schedule(client, new_id, f"nobody.{new_id}", Gozo_Max_Age="0.3s")
    found = await outcome(client, new_id)
    assert (found["outcome"], found["attempt"]) == ("nobody", 0)
    assert (await events.find("alert"))["outcome"] == "nobody"


async def test_a_late_success(client: Client, new_id: str, events: RunEvents) -> None:
    """An answer after it was given up ends it a second time."""
    receiver = await Receiver.start(client.nats, None)
    await schedule(client, new_id, receiver.subject, Gozo_Attempts="1", Gozo_Ack_Wait="1s")
    (job,) = await receiver.wait()
    await events.find("alert")
    assert await receiver.ask(job, b"+ACK") == b"+OK"
    found = await outcome(client, new_id, 2)
    assert (found["outcome"], found["late"], found["reason"]) == ("succeeded", True, "")
    assert await events.runs() == []


async def test_each_failed_attempt_is_published(
    client: Client, new_id: str, events: RunEvents
) -> None:
    """With its reason; the outcome counts them."""
    receiver = await Receiver.start(client.nats, b"-NAK one", b"-NAK two", b"-NAK three")
    await schedule(client, new_id, receiver.subject, Gozo_Attempts="3")
    assert (await outcome(client, new_id))["attempt"] == 3
    await events.find("alert")
    told = [event["reason"] for event in events.all if event["type"].endswith(".retrying")]
    assert told == ["one", "two"]


async def test_the_entry_of_a_recurring_schedule(
    client: Client, new_id: str, events: RunEvents
) -> None:
    """It has the last outcome, whatever is skipped and changed meanwhile; the stream has each."""
    receiver = await Receiver.start(client.nats, None, worker(b"+TERM no disk"))
    await schedule(client, new_id, receiver.subject, Gozo_When="@every 0.5s", Gozo_Overlap="skip")
    (job,) = await receiver.wait()
    await events.find("skipped")
    assert (await entry_of(client, new_id))["Gozo-Outcome"].startswith("skipped ")
    assert (await call_one(client, "pause", new_id))["status"] == "paused"
    assert await receiver.ask(job, b"+ACK") == b"+OK"

    async def says(word: str) -> bool:
        said = (await entry_of(client, new_id)).get("Gozo-Outcome", "")
        return said.startswith(f"{word} ")

    await until(lambda: says("succeeded"), "the entry has the success")
    assert (await call_one(client, "resume", new_id))["status"] == "resumed"
    await until(lambda: says("failed"), "the entry has the failure")
    entry = await entry_of(client, new_id)
    assert entry["Gozo-Outcome"].endswith("attempt=1 exit=3 took=12.500000 host=web1")
    assert (await call_one(client, "cancel", new_id))["status"] == "cancelled"
    results = [one["outcome"] for one in await outcomes(client, new_id)]
    assert results[0] == "skipped"
    assert {"succeeded", "failed"} < set(results)
    assert len(set(results)) == 3


async def test_the_entry_has_the_last_one(client: Client, new_id: str, events: RunEvents) -> None:
    """Whatever is done to the schedule while its occurrences begin and end, many a second."""
    receiver = await Receiver.start(client.nats)
    await schedule(client, new_id, receiver.subject, Gozo_When="@every 0.1s")
    for number in range(1, 9):
        await receiver.wait(2 * number)
        await call_one(client, "pause", new_id)
        await call_one(client, "resume", new_id)
        if number == 4:  # a request that replaces the schedule
            await schedule(client, new_id, receiver.subject, Gozo_When="@every 0.1s")
    await call_one(client, "pause", new_id)

    async def is_settled() -> bool:
        return await events.runs() == []

    await until(is_settled, "all runs have ended")
    last = (await outcomes(client, new_id))[-1]

    async def is_in_the_entry() -> bool:
        said = (await entry_of(client, new_id)).get("Gozo-Outcome", "").split()
        due = datetime.fromisoformat(last["due"]).timestamp()
        return said[:1] == [last["outcome"]] and abs(float(said[1]) - due) < 0.0015

    await until(is_in_the_entry, f"the entry has {last}")


async def test_runs_that_end_together_share_a_write(
    client: Client, new_id: str, events: RunEvents
) -> None:
    """Of the entry of their schedule; each has an outcome of its own in the stream."""
    count = 20
    receiver = await Receiver.start(client.nats, *[None] * count)
    await schedule(client, new_id, receiver.subject, Gozo_When="@every 1h")
    for _ in range(count):
        await call_one(client, "trigger", new_id, force=True)
    jobs = await receiver.wait(count)
    writes = await client.arrivals(f"$KV.gozo.{new_id}")
    for job in jobs:
        await receiver.say(job, b"+ACK")
    await outcome(client, new_id, count)
    await until(lambda: events.kinds.count("succeeded") == count, "all have ended")
    assert 1 <= len(writes.payloads) < count


@pytest.mark.parametrize("answer", [b"+ACK", b"+TERM"])
async def test_the_outcome_comes_first(client: Client, new_id: str, answer: bytes) -> None:
    """It is published before the run is removed or kept: a leader that dies loses none."""
    seen: list[str] = []

    async def take(message: Msg) -> None:
        said = message.headers or {}
        if message.subject.startswith("gozo.outcome."):
            seen.append("outcome")
        elif said.get("KV-Operation") == "DEL" or said.get("Gozo-State") == "failed":
            seen.append("end")

    for subject in ("gozo.outcome.>", f"$KV.gozo.=_run.{new_id}.>"):
        await client.nats.subscribe(subject, cb=take)
    receiver = await Receiver.start(client.nats, None)
    await schedule(client, new_id, receiver.subject)
    (job,) = await receiver.wait()
    assert await receiver.ask(job, answer) == b"+OK"
    await client.confirm()
    assert seen == ["outcome", "end"]


async def test_missed(client: Client, new_id: str, events: RunEvents) -> None:
    """What is too late when it may be sent is an outcome, and an alert."""
    receiver = await Receiver.start(client.nats)
    late = {"Gozo_When": "+0.5", "Gozo_Misfire": "skip", "Gozo_Misfire_Grace": "0.1s"}
    await schedule(client, new_id, receiver.subject, **late)
    await call_one(client, "pause", new_id)
    due = datetime.fromisoformat((await events.find("paused"))["due"])
    await asyncio.sleep((due - datetime.now(UTC)).total_seconds() + 0.2)
    await call_one(client, "resume", new_id)
    assert (await outcome(client, new_id))["outcome"] == "missed"
    assert (await events.find("alert"))["outcome"] == "missed"
    assert receiver.all == []


async def test_output(client: Client, new_id: str) -> None:
    """It is kept where the schedule asks for it: its end, up to 16 KiB."""
    other = f"{new_id}-other"
    for id_, keeps in ((other, "no"), (new_id, "yes")):
        receiver = await Receiver.start(client.nats, worker(b"+ACK", bytes(10) + b"x" * 16_384))
        await schedule(client, id_, receiver.subject, Gozo_Keep_Output=keeps)
        await outcome(client, id_)
    kept = [
        (message.headers["Gozo-Id"], message.headers["Gozo-Outcome"], message.data)
        for message in await stored(client, OUTPUT)
        if message.headers
    ]
    assert kept == [(new_id, "succeeded", b"x" * 16_384)]


async def test_single_schedules_share_subjects(client: Client, new_id: str) -> None:
    """However many ids there are; a recurring one has a subject of its own."""
    receiver = await Receiver.start(client.nats)
    ids = [f"{new_id}-{number}" for number in range(50)]
    for id_ in ids:
        await schedule(client, id_, receiver.subject)
    await schedule(client, new_id, receiver.subject, Gozo_When="@every 1h")
    await call_one(client, "trigger", new_id)
    for id_ in (*ids, new_id):
        await outcome(client, id_)
    subjects = {message.subject for message in await stored(client)}
    assert f"gozo.outcome.{new_id}" in subjects
    assert not {f"gozo.outcome.{id_}" for id_ in ids} & subjects
    assert all(
        subject.startswith("gozo.outcome.=_once.") for subject in subjects if "id-" not in subject
    )
