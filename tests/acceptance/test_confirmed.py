"""Deliveries that their receivers have to confirm: their headers, and how they recur."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

import pytest

from tests.support.client import Client
from tests.support.patience import until
from tests.support.processes import Clients, Daemons
from tests.support.receipts import ask, entry_of
from tests.support.receiver import Receiver
from tests.support.run_events import RunEvents
from tests.support.running import Running
from tests.support.storage import call

QUICK = {"Gozo-Confirm": "reply", "Gozo-Backoff": "50ms"}


@pytest.fixture(scope="module")
def options() -> tuple[str, ...]:
    """Publish events, which show what happens to runs."""
    return ("--events",)


@pytest.fixture
async def events(client: Client, new_id: str) -> RunEvents:
    """Record the events of the test's id."""
    return await RunEvents.listen(client, new_id)


def given(id_: str, headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a request for a confirmed delivery."""
    return {**QUICK, "Gozo-Id": id_, **headers}


def epoch(text: str) -> float:
    """Return an RFC 3339 time in seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


async def test_what_a_delivery_carries(client: Client, new_id: str, events: RunEvents) -> None:
    """Its run, its attempt, the time for an answer, and the request's own headers."""
    receiver = await Receiver.start(client.nats, b"-NAK")
    asked = given(new_id, {"Gozo-When": "+0.1", "Gozo-Ack-Wait": "90s"})
    asked |= {"trace": "abc", "Nats-Msg-Id": "m1", "Gozo-Due": "ignored", "Gozo-Attempt": "7"}
    receipt = await ask(client, asked, reply=receiver.subject, payload=b"tea")
    for number, job in enumerate(await receiver.wait(2), start=1):
        assert job.headers == {
            "Gozo-Reply": "Yes",
            "Gozo-Id": new_id,
            "Gozo-Due": receipt["due"],
            "Gozo-Attempt": f"{number}",
            "Gozo-Ack-Wait": "90s",
            "trace": "abc",
            "Nats-Msg-Id": "m1",
        }
        assert job.data == b"tea"
        assert job.reply.startswith("gozo.ack.")
    succeeded = await events.find("succeeded")
    assert (succeeded["due"], succeeded["attempts"]) == (receipt["due"], 2)


async def test_the_token_is_not_stored(client: Client, new_id: str, events: RunEvents) -> None:
    """The bucket has only its SHA-256, so that its readers cannot answer."""
    receiver = await Receiver.start(client.nats, None)
    await ask(client, given(new_id, {"Gozo-When": "+0"}), reply=receiver.subject)
    (job,) = await receiver.wait()
    token = job.reply.removeprefix("gozo.ack.")
    assert len(token) >= 22
    (key,) = await events.runs()
    entry = await entry_of(client, key)
    assert entry["Gozo-Token"].startswith("1.")
    assert token not in f"{key} {entry}"
    await receiver.say(job, b"+ACK")
    await events.find("succeeded")


async def test_without_an_id(client: Client) -> None:
    """The schedule is stored under a reserved key, retried, and settled."""
    receiver = await Receiver.start(client.nats, b"-NAK", None)
    asked = {**QUICK, "Gozo-When": "+0"}
    receipt = await ask(client, asked, reply=receiver.subject)
    assert (receipt["status"], receipt["id"]) == ("stored", None)
    _, again = await receiver.wait(2)
    assert "Gozo-Id" not in again.headers
    assert again.attempt == 2
    (key,) = [key for key in await RunEvents(client, "*").runs() if key.startswith("=_run.=_")]
    assert (await entry_of(client, key))["Gozo-State"] == "running"
    assert await receiver.ask(again, b"+ACK") == b"+OK"
    assert (await entry_of(client, key))["KV-Operation"] == "DEL"


async def test_each_occurrence_is_a_run(client: Client, new_id: str, events: RunEvents) -> None:
    """It has a number, a due time and a message id of its own; the schedule continues."""
    receiver = await Receiver.start(client.nats, b"-NAK")
    asked = given(new_id, {"Gozo-When": "@every 1s", "Gozo-Count": "3", "Nats-Msg-Id": "m"})
    await ask(client, asked, reply=receiver.subject)
    jobs = await receiver.wait(4)
    assert [(job.headers["Gozo-Occurrence"], job.attempt) for job in jobs] == [
        ("1", 1),
        ("1", 2),
        ("2", 1),
        ("3", 1),
    ]
    assert [epoch(job.due) - epoch(jobs[0].due) for job in jobs] == [0, 0, 1, 2]
    assert [job.headers["Nats-Msg-Id"] for job in jobs] == [f"m@{job.due}" for job in jobs]
    await until(lambda: events.kinds.count("succeeded") == 3, "all have succeeded")
    assert await events.runs() == []

    async def is_gone() -> bool:
        return (await entry_of(client, new_id)).get("KV-Operation") == "DEL"

    await until(is_gone, "the schedule is over")


async def test_an_occurrence_is_given_up_when_the_next_is_due(
    client: Client, new_id: str, events: RunEvents
) -> None:
    """A job that always fails is not retried forever: each occurrence fails, with its reason."""
    receiver = await Receiver.start(client.nats, *[b"-NAK no disk"] * 100)
    asked = given(new_id, {"Gozo-When": "@every 1s", "Gozo-Backoff": "300ms"})
    await ask(client, asked, reply=receiver.subject)
    await until(lambda: events.kinds.count("failed") >= 2, "two have failed")
    await client.cancel(new_id)
    await events.find("cancelled")
    failed = [event for event in events.all if event["type"].endswith("failed")]
    assert {event["reason"] for event in failed[:2]} == {"no disk"}
    assert 0.7 <= epoch(failed[0]["at"]) - epoch(failed[0]["due"]) < 2
    assert [job.headers["Gozo-Occurrence"] for job in receiver.all[:5]].count("1") in (3, 4)


async def test_no_more_than_one_failed_run_is_kept(
    client: Client, new_id: str, events: RunEvents
) -> None:
    """It is the latest; a success removes it."""
    receiver = await Receiver.start(client.nats, *[b"+TERM"] * 2)
    asked = given(new_id, {"Gozo-When": "@every 1s", "Gozo-Count": "3"})
    await ask(client, asked, reply=receiver.subject)
    await until(lambda: events.kinds.count("failed") == 2, "two have failed")
    await until(lambda: "succeeded" in events.kinds, "the third has not")

    async def is_empty() -> bool:
        return await events.runs() == []

    await until(is_empty, "the failed ones are forgotten")


async def test_a_receiver_that_takes_its_time(
    client: Client, new_id: str, events: RunEvents
) -> None:
    """Occurrences run at the same time; each answer is for its own."""
    receiver = await Receiver.start(client.nats, None, None, None)
    asked = given(new_id, {"Gozo-When": "@every 1s", "Gozo-Count": "3", "Gozo-Ack-Wait": "1h"})
    await ask(client, asked, reply=receiver.subject)
    jobs = await receiver.wait(3)
    assert await events.states() == ["running"] * 3
    assert await receiver.ask(jobs[1], b"+ACK") == b"+OK"
    assert await receiver.ask(jobs[0], b"+TERM") == b"+OK"
    assert sorted(await events.states()) == ["failed", "running"]
    assert await receiver.ask(jobs[2], b"+ACK") == b"+OK"
    await until(lambda: events.kinds.count("succeeded") == 2, "two have succeeded")


@pytest.mark.parametrize("answer", [b"+ACK", b"-NAK"])
async def test_a_cancel_while_it_runs(
    client: Client, new_id: str, events: RunEvents, answer: bytes
) -> None:
    """The running attempt is left alone, and not repeated."""
    receiver = await Receiver.start(client.nats, None)
    asked = given(new_id, {"Gozo-When": "@every 1h", "Gozo-Start": "+0.1s"})
    await ask(client, asked, reply=receiver.subject)
    (job,) = await receiver.wait()
    receipt = await ask(client, {"Gozo-Del-Id": new_id})
    assert receipt == {"status": "cancelled", "id": new_id, "running": True}
    assert await receiver.ask(job, b"+WPI") == b"+OK"
    assert await receiver.ask(job, answer) == b"+OK"
    await events.find("succeeded" if answer == b"+ACK" else "failed")
    await asyncio.sleep(0.1)
    assert len(receiver.all) == 1


async def test_a_job_may_take_longer_than_until_the_next(
    client: Client, new_id: str, events: RunEvents
) -> None:
    """With `Gozo-Overlap: allow`, an occurrence is retried while others are due."""
    receiver = await Receiver.start(client.nats, *[b"-NAK no disk"] * 8)
    asked = given(new_id, {"Gozo-When": "@every 1s", "Gozo-Count": "2", "Gozo-Overlap": "allow"})
    await ask(client, asked | {"Gozo-Backoff": "400ms"}, reply=receiver.subject)
    await until(lambda: events.kinds.count("succeeded") == 2, "both have succeeded")
    assert "failed" not in events.kinds
    tried = {job.headers["Gozo-Occurrence"]: job.attempt for job in receiver.all}
    assert tried["1"] > 3
    assert sum(tried.values()) == 10


async def test_another_request_subject(
    running: Running, daemons: Daemons, clients: Clients
) -> None:
    """Answers go to subjects below it; each daemon hears its own."""
    options = ("--request-subject", "jobs.gozo", "--bucket", "others")
    await daemons.serve(running.server, *options)
    other = await clients.connect(running.server, request_subject="jobs.gozo", bucket="others")
    receiver = await Receiver.start(other.nats, None)
    asked = given("a", {"Gozo-When": "+0"})
    assert (await ask(other, asked, reply=receiver.subject))["status"] == "stored"
    (job,) = await receiver.wait()
    token = job.reply.removeprefix("jobs.gozo.ack.")
    assert "." not in token
    assert await receiver.ask(replace(job, reply=f"gozo.ack.{token}"), b"+TERM") == b"+OK"
    assert await receiver.ask(job, b"+ACK") == b"+OK"
    runs = {"subjects_filter": "$KV.others.=_run.>"}
    (subject,) = (await call(other, "STREAM.INFO.KV_others", runs))["state"]["subjects"]
    marker = await other.nats.jetstream().get_last_msg("KV_others", subject)
    assert (marker.headers or {})["Gozo-Reason"] == "delivered"
