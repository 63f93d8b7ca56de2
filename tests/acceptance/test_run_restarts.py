"""Runs outlive the daemon that began them, whatever state they are in."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from dataclasses import replace

import pytest

from gozo.schedule.model import Confirm, Confirmation, State
from tests.support.patience import allow, until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.receipts import ask
from tests.support.receiver import Delivered, Receiver, Worker, ask_until
from tests.support.run_events import RunEvents
from tests.support.runs import put_run, run_of

BY = {
    "running": "reply",
    "silent": "reply",
    "retrying": "reply",
    "failed": "reply",
    "answered": "reply",
    "offered": "claim",
    "claimed": "claim",
}
MORE = {
    "silent": {"Gozo-Ack-Wait": "1s"},
    "retrying": {"Gozo-Backoff": "1s"},
    "answered": {"Gozo-Ack-Wait": "1h"},
}


@pytest.mark.parametrize("ending", ["SIGTERM", "SIGKILL"])
async def test_in_each_state(
    servers: Servers, daemons: Daemons, clients: Clients, ending: str
) -> None:
    """After a restart each run continues as it was: none at work is started again."""
    server = servers.start()
    first = await daemons.serve(server, "--events")
    client = await clients.connect(server)
    receivers = {name: await Receiver.start(client.nats, *[None] * 50) for name in BY}
    events = {name: await RunEvents.listen(client, name) for name in BY}
    for name, receiver in receivers.items():
        headers = {"Gozo-When": "+0", "Gozo-Id": name, "Gozo-Confirm": BY[name]}
        receipt = await ask(client, headers | MORE.get(name, {}), reply=receiver.subject)
        assert receipt["status"] == "stored"
    jobs = {name: (await receiver.wait())[0] for name, receiver in receivers.items()}
    assert await receivers["retrying"].ask(jobs["retrying"], b"-NAK later") == b"+OK"
    assert await receivers["failed"].ask(jobs["failed"], b"+TERM") == b"+OK"
    assert await receivers["claimed"].ask(jobs["claimed"], b"+CLAIM mine") == b"+GO"

    if ending == "SIGTERM":
        assert await first.terminate() == 0
    else:
        await first.kill()
    states = {name: await events[name].states() for name in BY}
    expected = {name: ["running"] for name in BY}
    expected |= {"retrying": ["retrying"], "failed": ["failed"]}
    expected["offered"] = ["pending"]
    assert states in (expected, {**expected, "silent": ["retrying"]})
    counts = {name: len(receiver.all) for name, receiver in receivers.items()}
    repeated = asyncio.create_task(ask_until(client.nats, jobs["answered"].reply, b"+ACK"))
    await daemons.serve(server, "--events")

    await asyncio.wait_for(repeated, allow(5))
    await receivers["offered"].wait(counts["offered"] + 1)
    offered = receivers["offered"].all[-1]
    assert (offered.attempt, offered.reply != jobs["offered"].reply) == (1, True)
    said = [
        await receivers["offered"].ask(job, b"+CLAIM %d" % number)
        for number, job in enumerate([jobs["offered"], offered, jobs["offered"]])
    ]
    assert said == [b"+GO", b"+NO", b"+NO"], "either offer can be claimed, once"
    assert await receivers["claimed"].ask(jobs["claimed"], b"+CLAIM other") == b"+NO"
    assert await receivers["claimed"].ask(jobs["claimed"], b"+CLAIM mine") == b"+GO"
    await receivers["retrying"].wait(2)
    await receivers["silent"].wait(2)
    for name in ("running", "claimed", "offered", "failed"):
        assert await receivers[name].ask(jobs[name], b"+ACK") == b"+OK"
    for name in ("retrying", "silent"):
        last = receivers[name].all[-1]
        assert last.attempt >= 2
        assert await receivers[name].ask(last, b"+ACK") == b"+OK"
    for name in BY:
        assert await events[name].states() == (["failed"] if name == "failed" else []), name
    for name in ("running", "claimed", "failed", "answered"):
        assert len(receivers[name].all) == counts[name], f"{name} was sent again"


async def test_what_is_due_at_the_end(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """A graceful shutdown sends each recorded attempt, and none twice."""
    server = servers.start()
    first = await daemons.serve(server)
    client = await clients.connect(server)
    receiver = await Receiver.start(client.nats)
    for number in range(600):
        headers = {"Gozo-When": "+0.3", "Gozo-Id": f"n{number}", "Gozo-Confirm": "reply"}
        await client.send(headers | {"Gozo-Attempts": "1"}, reply=receiver.subject)
    await receiver.wait(20)
    assert await first.terminate() == 0
    await daemons.serve(server)
    await receiver.wait(600)
    await client.confirm()
    times = Counter(job.headers["Gozo-Id"] for job in receiver.all)
    assert len(times) == 600
    assert {job.attempt for job in receiver.all} == {1}
    assert set(times.values()) == {1}


async def test_a_standby_takes_over(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """If the leader is killed, workers that repeat their claims start each job once."""
    server = servers.start()
    leader = await daemons.serve(server)
    client = await clients.connect(server)
    release = asyncio.Event()

    async def work(job: Delivered) -> bytes:
        await release.wait()
        return b"+ACK"

    worker = Worker(client.nats, work)
    await worker.listen("jobs")
    due = f"{time.time() + 3:.3f}"
    for number in range(200):
        headers = {"Gozo-When": due, "Gozo-Id": f"n{number}", "Gozo-Confirm": "claim"}
        await client.send(headers | {"Gozo-Ack-Wait": "1s"}, reply="jobs")
    await daemons.serve(server)
    await until(lambda: worker.starts >= 20, "some have begun")
    await leader.kill()
    release.set()
    await until(lambda: worker.ended.total() == 200, "all have ended", allow(20))
    assert set(worker.started.values()) == {1}
    assert worker.starts == 200


async def test_answers_while_nobody_leads(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """A standby keeps answers that are sent once, and applies them when it leads."""
    server = servers.start()
    leader = await daemons.serve(server)
    client = await clients.connect(server)
    receiver = await Receiver.start(client.nats, *[None] * 200)
    for number in range(100):
        headers = {"Gozo-When": "+0", "Gozo-Id": f"n{number}", "Gozo-Confirm": "reply"}
        await client.send(headers, reply=receiver.subject)
    await receiver.wait(100)
    offers = await Receiver.start(client.nats, *[None] * 100)
    claim = {"Gozo-When": "+0", "Gozo-Id": "claim", "Gozo-Confirm": "claim"}
    await client.send(claim, reply=offers.subject)
    (offer,) = await offers.wait()
    standby = await daemons.serve(server)
    await leader.kill()
    for job in receiver.all:
        await receiver.say(job, b"+ACK")
    await offers.say(offer, b"+CLAIM of one that does not wait for the answer")
    await client.confirm()
    await standby.event("daemon.leading", timeout=allow(20))

    async def is_empty() -> bool:
        return await RunEvents(client, "*").runs() == []

    assert await offers.ask(offer, b"+CLAIM another") == b"+GO"
    assert await offers.ask(offer, b"+ACK") == b"+OK"
    await until(is_empty, "all runs are settled")
    assert len(receiver.all) == 100


async def test_a_leader_that_was_frozen(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """When it wakes, it contradicts nothing that the next leader has said."""
    server = servers.start()
    frozen = await daemons.serve(server)
    client = await clients.connect(server)
    standby = await daemons.serve(server)
    frozen.send(signal.SIGSTOP)
    await standby.event("daemon.leading", timeout=allow(20))
    receiver = await Receiver.start(client.nats, *[None] * 10)
    headers = {"Gozo-When": "+0", "Gozo-Id": "a", "Gozo-Confirm": "claim"}
    await client.send(headers, reply=receiver.subject)
    (job,) = await receiver.wait()
    said = await client.arrivals("said.of.claim"), await client.arrivals("said.of.end")
    for words, answers in zip([b"+CLAIM n", b"-NAK"], said, strict=True):
        await client.nats.publish(job.reply, words, answers.subject)
        await answers.wait()
    frozen.send(signal.SIGCONT)
    await frozen.event("lease.lost", timeout=allow(10))
    heard = await client.arrivals("gozo.ack.later")
    assert await receiver.ask(replace(job, reply=heard.subject), b"+ACK") == b"+OK"
    assert [answers.payloads for answers in said] == [[b"+GO"], [b"+OK"]]


async def test_what_others_wrote(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """A run that appears in the bucket is waited for, whoever stored it."""
    server = servers.start()
    await daemons.serve(server)
    client = await clients.connect(server)
    receiver = await Receiver.start(client.nats, subject="jobs")
    wait = Confirmation(Confirm.REPLY, ack_wait_us=1_000_000, backoff_us=(1_000,))
    put_run(server, run_of("late", State.RUNNING, confirmation=wait))
    (again,) = await receiver.wait()
    assert again.attempt == 3
    assert again.headers["Gozo-Id"] == "late"
