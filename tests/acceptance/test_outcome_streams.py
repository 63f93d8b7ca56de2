"""The streams of outcomes: leaders that die, streams that are missing, rights that are."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from tests.support.client import Client
from tests.support.outcomes import OUTCOMES, OUTPUT, outcome, stored
from tests.support.patience import allow, until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.receipts import ask
from tests.support.receiver import Delivered, Receiver, Say, Worker
from tests.support.rights import LOGIN, admin, withholding
from tests.support.run_events import RunEvents
from tests.support.storage import call

QUICK = {"Gozo-Confirm": "reply", "Gozo-When": "+0"}


async def settings(client: Client, stream: str) -> dict[str, object]:
    """Return how a stream is set up."""
    config: dict[str, object] = (await call(client, f"STREAM.INFO.{stream}"))["config"]
    return config


async def test_no_outcome_is_lost(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """While leader after leader is killed: what workers began ends, once, and is recorded."""
    server = servers.start()
    client = await clients.connect(server)
    daemon = await daemons.serve(server)

    async def work(job: Delivered) -> bytes:
        await asyncio.sleep(0.3)
        return b"+ACK"

    worker = Worker(client.nats, work)
    await worker.listen("jobs")
    ids = {f"job-{number}" for number in range(60)}
    for number, id_ in enumerate(sorted(ids)):
        headers = {"Gozo-Confirm": "claim", "Gozo-When": f"+{0.5 + number / 20}", "Gozo-Id": id_}
        assert (await ask(client, headers, reply="jobs"))["status"] == "stored"
    for _ in range(3):
        before = worker.starts
        await until(lambda before=before: worker.starts > before + 3, "some more began")
        await daemon.kill()
        daemon = await daemons.serve(server)
    await until(lambda: worker.ended.total() == len(ids), "all have ended", timeout=allow(30))
    found = [json.loads(message.data) for message in await stored(client)]
    assert {one["id"] for one in found} == ids, "none is lost"
    assert {one["outcome"] for one in found} == {"succeeded"}
    assert worker.starts == len(ids), "and none began twice"


async def test_how_they_are_set_up(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """Bounded by subject, in all, and in time; never shortened, and not at all with 0."""
    server = servers.start()
    client = await clients.connect(server)
    daemon = await daemons.serve(server, "--outcomes", "0")
    assert await stored(client) == []
    assert await daemon.terminate() == 0
    day = 86_400 * 10**9
    for option, days in ((None, 90), ("365d", 365), ("30d", 365)):
        daemon = await daemons.serve(server, *(("--outcomes", option) if option else ()))

        async def is_so(days: int = days) -> bool:
            names = await client.nats.jetstream().streams_info()
            ages = {info.config.name: info.config.max_age for info in names}
            return ages.get(OUTCOMES) == ages.get(OUTPUT) == days * 86_400

        await until(is_so, f"they keep {days} days")
        assert await daemon.terminate() == 0
    kept = await settings(client, OUTCOMES)
    assert (kept["max_msgs_per_subject"], kept["max_msgs"]) == (100, 5_000_000)
    assert (kept["max_age"], kept["discard"]) == (365 * day, "old")
    assert (await settings(client, OUTPUT))["max_msgs_per_subject"] == 10


@pytest.mark.parametrize("what", ["STREAM.CREATE", "outcome"])
async def test_without_permission(
    servers: Servers, daemons: Daemons, clients: Clients, what: str
) -> None:
    """It is a warning: the daemon starts, and runs are settled."""
    denied = ["gozo.outcome.>"]
    if what != "outcome":
        denied = [f"$JS.API.{what}.{stream}" for stream in (OUTCOMES, OUTPUT)]
    server = servers.start(withholding("publish", *denied))
    daemon = await daemons.serve(server, *LOGIN, "--events")
    client = await admin(clients, server)
    receiver, events = await Receiver.start(client.nats), await RunEvents.listen(client, "a")
    await ask(client, QUICK | {"Gozo-Id": "a"}, reply=receiver.subject)
    assert (await daemon.event("outcomes.unavailable")).level == "warning"
    await events.find("succeeded")
    assert await events.runs() == []
    await ask(client, QUICK | {"Gozo-Id": "a"}, reply=receiver.subject)
    (_, job) = await receiver.wait(2)
    assert await receiver.ask(job, b"+ACK") == b"+OK", "nothing waits for the stream"
    assert daemon.events("permission.denied") == []


async def test_a_stream_that_does_not_answer(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """A run waits for it for a moment, and the next ones do not."""
    server = servers.start(withholding("publish", f"$JS.API.STREAM.CREATE.{OUTCOMES}"))
    daemon = await daemons.serve(server, *LOGIN)
    client = await admin(clients, server)
    silent = await client.arrivals("gozo.outcome.>")  # so the server does not say that nobody is
    receiver = await Receiver.start(client.nats, None, None)
    waits = []
    for number in (1, 2):
        await ask(client, QUICK | {"Gozo-Id": f"{number}"}, reply=receiver.subject)
        job = (await receiver.wait(number))[-1]
        begun = time.monotonic()
        assert await receiver.ask(job, b"+ACK") == b"+OK"
        waits.append(time.monotonic() - begun)
    assert waits[0] >= 0.4
    assert waits[1] < waits[0]
    await daemon.event("outcomes.unavailable", stream=OUTCOMES, reason="no answer")
    assert len(silent.payloads) >= 2


async def test_a_stream_that_is_removed(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """Runs are settled meanwhile; it is made again, and what came meanwhile is stored then."""
    server = servers.start()
    daemon = await daemons.serve(server)
    client = await clients.connect(server)
    receiver = await Receiver.start(client.nats)
    await ask(client, QUICK | {"Gozo-Id": "a"}, reply=receiver.subject)
    await outcome(client, "a")
    await call(client, f"STREAM.DELETE.{OUTCOMES}")
    await ask(client, QUICK | {"Gozo-Id": "b"}, reply=receiver.subject)
    (_, job) = await receiver.wait(2)
    assert await receiver.ask(job, b"+ACK") == b"+OK"
    await daemon.event("outcomes.unavailable", stream=OUTCOMES)
    assert (await outcome(client, "b"))["outcome"] == "succeeded"


async def test_a_small_max_payload(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """Output is cut further, and an outcome that does not fit is left out; no link is lost."""
    server = servers.start("max_payload: 8KB")
    daemon = await daemons.serve(server)
    client = await clients.connect(server)
    kept = {"Gozo-Keep-Output": "yes"}
    output = Say(b"x" * 8_000, {"Gozo-Answer": "+ACK"})
    receiver = await Receiver.start(client.nats, output)
    await ask(client, QUICK | kept | {"Gozo-Id": "a"}, reply=receiver.subject)
    await outcome(client, "a")
    (message,) = await stored(client, OUTPUT)
    assert 7_500 < len(message.data) <= 8_000
    long = "\u00f6" * 500
    other = await Receiver.start(client.nats, subject=".".join(["j" * 200] * 14))
    await ask(client, QUICK | {"Gozo-Id": long}, reply=other.subject)
    await other.wait()
    await daemon.event("outcomes.dropped")
    assert len(daemon.events("connection.made")) == 2
