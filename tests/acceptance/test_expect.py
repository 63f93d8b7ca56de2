"""Gozo-Expect: what did not succeed in time is announced, once."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.jobs import call_one
from tests.support.patience import until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.receipts import ask, entry_of
from tests.support.receiver import Receiver
from tests.support.run_events import RunEvents

HEADERS = {"Gozo-Confirm": "reply", "Gozo-Expect": "1s", "Gozo-Overlap": "skip"}


@pytest.mark.parametrize("ending", ["SIGTERM", "SIGKILL"])
async def test_a_job_that_hangs(
    servers: Servers, daemons: Daemons, clients: Clients, ending: str
) -> None:
    """Occurrences that are skipped count; the next success ends it, also after a restart."""
    server = servers.start()
    daemon = await daemons.serve(server, "--events")
    client = await clients.connect(server)
    events = await RunEvents.listen(client, "a")
    receiver = await Receiver.start(client.nats, None)
    await ask(
        client, HEADERS | {"Gozo-Id": "a", "Gozo-When": "@every 0.5s"}, reply=receiver.subject
    )
    (job,) = await receiver.wait()
    overdue = await events.find("overdue")
    alert = await events.find("alert")
    assert (overdue["due"], alert["due"], alert["outcome"]) == (job.due, job.due, "overdue")
    assert overdue["subject"] == receiver.subject
    assert "skipped" in events.kinds
    if ending == "SIGKILL":
        await daemon.kill()
    else:
        assert await daemon.terminate() == 0
    await daemons.serve(server, "--events")
    skipped = events.kinds.count("skipped")
    await until(lambda: events.kinds.count("skipped") > skipped + 3, "it goes on")
    assert (events.kinds.count("overdue"), events.kinds.count("alert")) == (1, 1)
    assert "Gozo-Overdue" in await entry_of(client, "a")

    receiver.script.append(None)
    assert await receiver.ask(job, b"+ACK") == b"+OK"
    await receiver.wait(2)
    await until(lambda: events.kinds.count("overdue") == 2, "the next one that hangs is another")


async def test_what_is_not_overdue(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """What succeeds in time, what is paused, and what waits for its time."""
    server = servers.start()
    await daemons.serve(server, "--events")
    client = await clients.connect(server)
    times = {"good": "@every 0.3s", "later": "@every 1h", "paused": "@every 0.3s"}
    events = {id_: await RunEvents.listen(client, id_) for id_ in (*times, "hangs", "once")}
    good, silent = await Receiver.start(client.nats), await Receiver.start(client.nats, *[None] * 9)
    for id_, when in times.items():
        subject = silent.subject if id_ == "paused" else good.subject
        await ask(client, HEADERS | {"Gozo-Id": id_, "Gozo-When": when}, reply=subject)
    await silent.wait()
    await call_one(client, "pause", "paused")
    await ask(
        client, HEADERS | {"Gozo-Id": "hangs", "Gozo-When": "@every 1h"}, reply=silent.subject
    )
    await call_one(client, "trigger", "hangs")
    once = {name: value for name, value in HEADERS.items() if name != "Gozo-Overlap"}
    await ask(client, once | {"Gozo-Id": "once", "Gozo-When": "+0"}, reply=silent.subject)
    assert (await events["once"].find("alert"))["outcome"] == "overdue", "a single one counts too"
    await asyncio.sleep(0.5)
    told = {id_: one.kinds.count("overdue") for id_, one in events.items()}
    assert told == {"good": 0, "later": 0, "paused": 0, "hangs": 0, "once": 1}
