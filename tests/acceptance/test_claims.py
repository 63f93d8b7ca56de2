"""Receivers that claim a job before they start: each run is started by one of them, once."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import PIPE, Popen

import pytest

from tests.support.client import Client
from tests.support.patience import allow, until
from tests.support.processes import Clients
from tests.support.raw import RawClient, request
from tests.support.readme import ROOT
from tests.support.receipts import ask, entry_of
from tests.support.receiver import Delivered, Receiver, Worker
from tests.support.run_events import RunEvents
from tests.support.running import Running

CLAIM = {"Gozo-Confirm": "claim", "Gozo-Backoff": "50ms", "Gozo-When": "+0"}


@pytest.fixture(scope="module")
def options() -> tuple[str, ...]:
    """Publish events, which show what happens to runs."""
    return ("--events",)


@pytest.fixture
async def events(client: Client, new_id: str) -> RunEvents:
    """Record the events of the test's id."""
    return await RunEvents.listen(client, new_id)


async def offer(client: Client, receiver: Receiver, id_: str, **headers: str) -> Delivered:
    """Store a schedule that is due now, and return its first offer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    asked = {**CLAIM, "Gozo-Id": id_, **named}
    receipt = await ask(client, asked, reply=receiver.subject)
    assert receipt["status"] == "stored"
    return (await receiver.wait())[0]


async def silent(client: Client) -> Receiver:
    """Subscribe, and answer nothing automatically."""
    return await Receiver.start(client.nats, *[None] * 100)


async def test_a_worker(client: Client, new_id: str, events: RunEvents) -> None:
    """It claims, starts, sends signs of life for longer than the ack wait, and ends."""
    finish = asyncio.Event()

    async def work(job: Delivered) -> bytes:
        await finish.wait()
        return b"+ACK"

    worker = Worker(client.nats, work)
    await worker.listen(f"jobs.{new_id}")
    asked = {**CLAIM, "Gozo-Id": new_id, "Gozo-Ack-Wait": "1s"}
    await ask(client, asked, reply=f"jobs.{new_id}")
    await events.wait_for_run("running")
    await asyncio.sleep(2)
    finish.set()
    await until(lambda: worker.ended.total() == 1, "its end is confirmed")
    assert (await events.find("succeeded"))["attempts"] == 1
    assert (worker.starts, worker.refused) == (1, 0)
    assert await events.runs() == []


async def test_one_of_two(client: Client, new_id: str, events: RunEvents) -> None:
    """The first claim is granted, and so is its repetition; others are not."""
    receiver = await silent(client)
    job = await offer(client, receiver, new_id)
    assert await events.states() == ["pending"]
    said = await asyncio.gather(*[receiver.ask(job, b"+CLAIM %d" % one) for one in range(5)])
    assert sorted(said) == [b"+GO"] + [b"+NO"] * 4
    assert await events.states() == ["running"]
    owner = said.index(b"+GO")
    assert await receiver.ask(job, b"+CLAIM %d" % owner) == b"+GO"
    assert await receiver.ask(job, b"+CLAIM %d" % (owner + 1)) == b"+NO"
    assert await receiver.ask(job, b"+ACK") == b"+OK"
    assert await receiver.ask(job, b"+CLAIM %d" % owner) == b"+NO"
    await events.find("succeeded")
    assert events.kinds.count("started") == 1
    assert len(receiver.all) == 1


@pytest.mark.parametrize("nonce", [b"", b" ", b"n" * 129])
async def test_an_invalid_nonce(client: Client, new_id: str, nonce: bytes) -> None:
    """No claim is granted without a nonce that identifies its sender."""
    receiver = await silent(client)
    job = await offer(client, receiver, new_id)
    await receiver.say(job, b"+CLAIM " + nonce)
    assert await receiver.ask(job, b"+CLAIM good") == b"+GO"
    assert await receiver.ask(job, b"+ACK") == b"+OK"


async def test_an_offer_is_repeated(client: Client, new_id: str, events: RunEvents) -> None:
    """After 2 s without a claim, the same attempt is offered again; either offer can be claimed."""
    receiver = await silent(client)
    job = await offer(client, receiver, new_id, Gozo_Ack_Wait="1s", Gozo_Attempts="1")
    _, again = await receiver.wait(2)
    assert 1.9 <= again.at - job.at <= allow(2.5)
    assert (again.reply, again.attempt) == (job.reply, 1)
    assert await receiver.ask(again, b"+CLAIM late") == b"+GO"
    assert await receiver.ask(job, b"+CLAIM frozen") == b"+NO"
    assert await receiver.ask(again, b"+ACK") == b"+OK"
    assert (await events.find("succeeded"))["attempts"] == 1
    assert "retrying" not in events.kinds


async def test_who_is_silent_after_a_claim(client: Client, new_id: str, events: RunEvents) -> None:
    """The run is offered again; the earlier claimer starts nothing more when it wakes."""
    receiver = await silent(client)
    job = await offer(client, receiver, new_id, Gozo_Ack_Wait="1s")
    assert await receiver.ask(job, b"+CLAIM one") == b"+GO"
    _, again = await receiver.wait(2)
    assert again.at - job.at >= 1
    assert (again.attempt, again.reply != job.reply) == (2, True)
    assert await receiver.ask(job, b"+CLAIM one") == b"+NO"
    assert await receiver.ask(again, b"+CLAIM two") == b"+GO"
    assert await receiver.ask(job, b"+CLAIM one") == b"+NO"
    assert await receiver.ask(again, b"+ACK") == b"+OK"
    assert (await events.find("succeeded"))["attempts"] == 2


async def test_who_comes_back_in_time(client: Client, new_id: str, events: RunEvents) -> None:
    """A claimer that resumes before the next attempt keeps the job to itself."""
    receiver = await silent(client)
    job = await offer(client, receiver, new_id, Gozo_Ack_Wait="1s", Gozo_Backoff="1h")
    assert await receiver.ask(job, b"+CLAIM one") == b"+GO"
    await events.find("retrying")
    assert await receiver.ask(job, b"+WPI") == b"+OK"
    await events.wait_for_run("running")
    assert await receiver.ask(job, b"+CLAIM two") == b"+NO"
    assert await receiver.ask(job, b'-NAK {"busy": true}') == b"+OK"
    assert await events.states() == ["running"]
    assert await receiver.ask(job, b"+CLAIM one") == b"+GO"
    assert await receiver.ask(job, b"+ACK") == b"+OK"
    assert (await events.find("succeeded"))["attempts"] == 1


@pytest.mark.parametrize("answer", [b'-NAK {"busy": true}', b"-NAK"])
async def test_an_offer_that_is_refused(
    client: Client, new_id: str, events: RunEvents, answer: bytes
) -> None:
    """It is repeated after the back-off, and can be claimed."""
    receiver = await silent(client)
    job = await offer(client, receiver, new_id)
    assert await receiver.ask(job, answer) == b"+OK"
    _, again = await receiver.wait(2)
    assert again.at - job.at < allow(1)
    assert again.attempt == (1 if b"busy" in answer else 2)
    assert await receiver.ask(job, b"+CLAIM late") == b"+NO"
    assert await receiver.ask(again, b"+CLAIM n") == b"+GO"
    assert await receiver.ask(again, b"+ACK") == b"+OK"
    await events.find("succeeded")


async def test_nobody(client: Client, new_id: str, events: RunEvents) -> None:
    """An offer without subscribers is repeated soon, and can be claimed then."""
    receiver = await silent(client)
    await receiver.leave()
    asked = {**CLAIM, "Gozo-Id": new_id, "Gozo-Attempts": "1"}
    assert (await ask(client, asked, reply=receiver.subject))["status"] == "stored"
    await events.wait_for_run("retrying")
    await receiver.listen()
    (job,) = await receiver.wait()
    assert await receiver.ask(job, b"+CLAIM n") == b"+GO"
    assert await receiver.ask(job, b"+ACK") == b"+OK"
    assert (await events.find("succeeded"))["attempts"] == 1


async def test_what_is_said_of_a_claimed_offer(
    running: Running, client: Client, new_id: str, events: RunEvents
) -> None:
    """Other receivers of the same offer cannot have the job started elsewhere."""
    receiver = await silent(client)
    job = await offer(client, receiver, new_id)
    assert await receiver.ask(job, b"+CLAIM n") == b"+GO"
    assert await receiver.ask(job, b'-NAK {"busy": true}') == b"+OK"
    with RawClient(running.server.url) as raw:
        raw.send(request(job.reply.encode(), headers=b"NATS/1.0 503\r\n\r\n"))
        raw.confirm()
    assert await receiver.ask(job, b"+WPI") == b"+OK"
    assert await events.states() == ["running"]
    assert await receiver.ask(job, b"+ACK") == b"+OK"
    assert (await events.find("succeeded"))["attempts"] == 1
    assert len(receiver.all) == 1


async def test_a_failed_job(client: Client, new_id: str, events: RunEvents) -> None:
    """The next attempt is claimed anew."""
    answers = iter([b"-NAK exit status 1", b"+TERM exit status 2"])

    async def work(job: Delivered) -> bytes:
        return next(answers)

    worker = Worker(client.nats, work)
    await worker.listen(f"jobs.{new_id}")
    await ask(client, {**CLAIM, "Gozo-Id": new_id}, reply=f"jobs.{new_id}")
    failed = await events.find("failed")
    assert (failed["reason"], failed["attempts"]) == ("exit status 2", 2)
    assert [attempt for _, _, attempt in worker.started] == [1, 2]
    assert worker.starts == 2
    (key,) = await events.runs()
    assert (await entry_of(client, key))["Gozo-State"] == "failed"


async def test_many_offers_and_two_workers(
    running: Running, client: Client, clients: Clients, new_id: str
) -> None:
    """Each of two hundred jobs is started once."""

    async def work(job: Delivered) -> bytes:
        return b"+ACK"

    workers = []
    for queue in ("one", "other"):  # so that both get each offer
        worker = Worker((await clients.connect(running.server)).nats, work)
        await worker.listen(f"jobs.{new_id}", queue)
        workers.append(worker)
    for number in range(200):
        asked = {**CLAIM, "Gozo-Id": f"{new_id}-{number}"}
        await client.send(asked, reply=f"jobs.{new_id}")
    await until(
        lambda: sum(worker.ended.total() for worker in workers) == 200, "all have ended", allow(15)
    )
    started = sum((worker.started for worker in workers), start=Counter())
    assert len(started) == 200
    assert set(started.values()) == {1}
    assert sum(worker.refused for worker in workers) == 200


@contextmanager
def worker_process(url: str, subject: str, queue: str) -> Iterator[Popen[str]]:
    """Run a worker whose jobs take no time, in a process of its own."""
    command = [sys.executable, "-m", "tests.support.receiver", url, subject, queue, "0"]
    with Popen(command, stdout=PIPE, text=True, cwd=ROOT) as process:
        try:
            assert what(process) == "ready"
            yield process
        finally:
            process.kill()


def what(process: Popen[str]) -> str:
    """Read the next event of a worker."""
    assert process.stdout is not None
    said: str = json.loads(process.stdout.readline())["what"]
    return said


async def test_a_frozen_worker(running: Running, client: Client, new_id: str) -> None:
    """When it wakes, it starts nothing that another worker has started, or that is over."""
    subject = f"jobs.{new_id}"
    url = running.server.url
    with (
        worker_process(url, subject, "one") as frozen,
        worker_process(url, subject, "two") as other,
    ):
        frozen.send_signal(signal.SIGSTOP)
        for number in range(10):
            asked = {**CLAIM, "Gozo-Id": f"{new_id}-{number}"}
            assert (await ask(client, asked, reply=subject))["status"] == "stored"
        done = [await asyncio.to_thread(what, other) for _ in range(20)]
        assert (done.count("started"), done.count("ended")) == (10, 10)
        frozen.send_signal(signal.SIGCONT)
        assert [await asyncio.to_thread(what, frozen) for _ in range(10)] == ["refused"] * 10
