"""Triggering confirmed schedules: a run begins, unless there is one already."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.gozoctl import Gozoctl
from tests.support.jobs import Jobs, call, call_one
from tests.support.patience import allow, until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.receipts import entry_of
from tests.support.running import Running
from tests.support.storage import Limit


async def trigger(client: Client, id_: str, **more: object) -> str:
    """Trigger a schedule; return the status or the refusal's code."""
    result = await call_one(client, "trigger", id_, **more)
    assert result["id"] == id_
    code = result.get("error", result["status"])
    assert isinstance(code, str)
    return code


async def test_one_at_a_time(client: Client, new_id: str) -> None:
    """A run begins at once; another only after its end, or by force. The schedule stays."""
    jobs = await Jobs.listen(client)
    await jobs.store(new_id)
    before = await entry_of(client, new_id)
    assert await trigger(client, new_id) == "triggered"
    first = await jobs.wait(1)
    assert first.headers is not None
    assert first.data == b"job"
    assert first.headers["Gozo-Attempt"] == "1"
    assert "Gozo-Occurrence" not in first.headers
    assert await trigger(client, new_id) == "running"
    twice = await call(client, "trigger", new_id, new_id, force=True)
    assert [one["status"] for one in twice] == ["triggered", "triggered"]
    await jobs.wait(3)
    for job in jobs.all:
        assert await jobs.answer(job) == b"+OK"
    once = await call(client, "trigger", new_id, new_id)
    assert [one.get("error", one["status"]) for one in once] == ["triggered", "running"]
    await jobs.answer(await jobs.wait(4))
    after = await entry_of(client, new_id)
    assert after.pop("Gozo-Outcome").startswith("succeeded ")
    for name in ("Nats-Expected-Last-Subject-Sequence", "Gozo-Request"):  # of this write
        after.pop(name)
        before.pop(name)
    assert after == before


async def test_until_settled(client: Client, new_id: str) -> None:
    """One that is tried again, or that nobody has claimed, counts as well; one given up does not.

    A pause ends what waits, and a paused schedule can be triggered.
    """
    jobs = await Jobs.listen(client)
    await jobs.store(new_id, Gozo_Attempts="2", Gozo_Backoff="1m")
    assert await trigger(client, new_id) == "triggered"
    assert await jobs.answer(await jobs.wait(1), b"-NAK") == b"+OK"
    assert await trigger(client, new_id) == "running"
    assert (await call_one(client, "pause", new_id))["status"] == "paused"
    assert await trigger(client, new_id) == "triggered"
    await jobs.answer(await jobs.wait(2), b"+TERM broken")
    assert await trigger(client, new_id) == "triggered"
    await jobs.answer(await jobs.wait(3))
    await jobs.store(new_id, Gozo_Confirm="claim")
    assert await trigger(client, new_id) == "triggered"
    offer = await jobs.wait(4)
    assert await trigger(client, new_id) == "running"
    assert await jobs.answer(offer, b"+CLAIM one") == b"+GO"
    assert await jobs.answer(offer) == b"+OK"
    assert await trigger(client, new_id) == "triggered"


@pytest.mark.parametrize("overlap", ["skip", "queue", "allow"])
async def test_overlap(client: Client, new_id: str, overlap: str) -> None:
    """An occurrence due while a triggered run is running is skipped, waits, or runs as well."""
    jobs = await Jobs.listen(client)
    await jobs.store(new_id, Gozo_Overlap=overlap)
    assert await trigger(client, new_id) == "triggered"
    first = await jobs.wait(1)
    before = await entry_of(client, new_id)
    body = json.dumps({"id": new_id, "when": "+0"}).encode()
    answer = await client.nats.request("gozo.admin.reschedule", body, timeout=allow(5))
    assert json.loads(answer.data)["status"] == "rescheduled"

    async def has_gone_on() -> bool:
        due = (await entry_of(client, new_id))["Gozo-Due"]
        return float(due) > float(before["Gozo-Due"])

    await until(has_gone_on, "the occurrence was due")
    if overlap == "allow":
        await jobs.wait(2)
    assert len(jobs.all) == (2 if overlap == "allow" else 1)
    await jobs.answer(first)
    if overlap == "skip":
        assert await trigger(client, new_id) == "triggered"
    second = await jobs.wait(2)
    assert second.headers is not None
    assert second.headers.get("Gozo-Occurrence") == (None if overlap == "skip" else "1")
    await jobs.answer(second)


async def test_by_force_in_a_queue(client: Client, new_id: str) -> None:
    """With `queue`, a run triggered by force waits for others."""
    jobs = await Jobs.listen(client)
    await jobs.store(new_id, Gozo_Overlap="queue")
    assert await trigger(client, new_id) == "triggered"
    first = await jobs.wait(1)
    assert await trigger(client, new_id, force=True) == "triggered"
    await client.confirm()
    assert len(jobs.all) == 1
    await jobs.answer(first)
    await jobs.answer(await jobs.wait(2))


async def test_by_force_up_to_a_bound(client: Client, new_id: str) -> None:
    """No schedule has more than a hundred unsettled runs."""
    jobs = await Jobs.listen(client)
    await jobs.store(new_id)
    results = await call(client, "trigger", *[new_id] * 101, force=True)
    assert [one["status"] for one in results] == ["triggered"] * 100 + ["refused"]
    assert results[-1]["error"] == "running"
    await jobs.wait(100)
    await call_one(client, "cancel", new_id)
    for job in jobs.all:
        await jobs.answer(job)


async def test_force_is_for_runs(client: Client, new_id: str) -> None:
    """It has no effect if no receiver confirms the schedule; invalid values are refused."""
    arrivals = await client.arrivals()
    await client.schedule(4_000_000_000, reply=arrivals, id=new_id)
    assert await trigger(client, new_id, force=True) == "triggered"
    assert await trigger(client, new_id) == "triggered"
    await arrivals.wait(2)
    answer = await client.nats.request("gozo.admin.trigger", b'{"ids": ["a"], "force": 1}')
    assert b'"invalid_request"' in answer.data


async def test_bucket_full(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """A run that cannot be recorded is not sent, and the trigger is refused."""
    server = Limit.start("server", servers)
    client = await clients.connect(server)
    await daemons.serve(server)
    jobs = await Jobs.listen(client)
    await jobs.store("job")
    async with Limit("server", client):
        assert await trigger(client, "job") == "unavailable"
        assert await trigger(client, "job") == "unavailable", "it is no run that waits"
    assert await trigger(client, "job") == "triggered"
    await jobs.wait(1)
    assert len(jobs.all) == 1


async def test_gozoctl(running: Running, client: Client, new_id: str, tmp_path: Path) -> None:
    """A refusal exits with 1 and says what to do; the Python client raises the same."""
    ctl = Gozoctl(tmp_path, running.server.url)
    jobs = await Jobs.listen(client)
    await jobs.store(new_id)
    assert (await asyncio.to_thread(ctl.ok, "trigger", new_id)).rows[1] == [new_id, "triggered"]
    await jobs.wait(1)
    refused = await asyncio.to_thread(ctl.run, "trigger", new_id)
    assert refused.code == 1
    assert "running" in refused.err
    assert "--force" in refused.err
    await asyncio.to_thread(ctl.ok, "trigger", new_id, "--force")
    await jobs.wait(2)
