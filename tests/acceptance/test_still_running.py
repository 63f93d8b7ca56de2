"""A schedule is cancelled, paused or rescheduled while a receiver works on an occurrence."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gozo.client import Answer, Cancelled
from gozo.client import Client as GozoClient
from gozo.errors import NotFoundError, RequestError
from tests.support.client import Client
from tests.support.gozoctl import Gozoctl
from tests.support.jobs import Jobs, call_one, runs
from tests.support.patience import allow, until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.receipts import ask, entry_of
from tests.support.running import Running

WAYS = ("request", "verb", "gozoctl")


async def cancel(
    way: str, client: Client, ctl: Gozoctl, id_: str, *, code: int = 0
) -> dict[str, Any]:
    """Cancel a schedule in one of several ways; return the answer. gozoctl exits with `code`."""
    if way == "request":
        return await ask(client, {"Gozo-Del-Id": id_})
    if way == "verb":
        return await call_one(client, "cancel", id_)
    done = await asyncio.to_thread(ctl.run, "cancel", id_, "-o", "jsonl")
    assert done.code == code
    answer: dict[str, Any] = done.json
    assert ("still running" in done.err) == answer.get("running", False)
    return answer


async def reschedule(client: Client, id_: str) -> dict[str, Any]:
    """Reschedule to a distant time; return the answer."""
    body = json.dumps({"id": id_, "when": "+1h"}).encode()
    answer: dict[str, Any] = json.loads(
        (await client.nats.request("gozo.admin.reschedule", body, timeout=allow(5))).data
    )
    return answer


async def begin(client: Client, id_: str, state: str) -> Jobs:
    """Bring the only occurrence of a schedule into a state; the schedule itself is gone then."""
    jobs = await Jobs.listen(client)
    confirm = "claim" if state == "waiting" else "reply"
    await jobs.store(id_, "+0", Gozo_Confirm=confirm, Gozo_Backoff="1h")
    job = await jobs.wait(1)
    if state == "retrying":
        await jobs.answer(job, b"-NAK")
    elif state == "failed":
        await jobs.answer(job, b"+TERM broken")

    async def is_so() -> bool:
        found = [one.get("Gozo-State", "waiting") for one in await runs(client, id_)]
        return found == [state] and "KV-Operation" in await entry_of(client, id_)

    await until(is_so, f"a run of {id_} is {state}, and the schedule is over")
    return jobs


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("state", ["running", "retrying", "failed"])
async def test_only_a_run_is_left(
    running: Running, client: Client, new_id: str, tmp_path: Path, state: str, way: str
) -> None:
    """It is cancelled instead: a running one may end, others are removed."""
    ctl = Gozoctl(tmp_path, running.server.url)
    jobs = await begin(client, new_id, state)
    answer = await cancel(way, client, ctl, new_id)
    assert answer["status"] == "cancelled"
    assert answer.get("running", False) == (state == "running")
    if state == "running":
        again = await cancel(way, client, ctl, new_id, code=3)
        assert again == {"status": "already_delivered", "id": new_id, "running": True}
        assert (await jobs.answer(jobs.all[0], b"-NAK")) == b"+OK"
        (left,) = await runs(client, new_id)
        assert left["Gozo-State"] == "failed", "nothing further is tried"
        assert await cancel(way, client, ctl, new_id) == {"status": "cancelled", "id": new_id}

    async def none_left() -> bool:
        return not await runs(client, new_id)

    await until(none_left, "no run is left")
    answer = await call_one(client, "cancel", new_id)
    assert answer == {"status": "already_delivered", "id": new_id}
    assert len(jobs.all) == 1


@pytest.mark.parametrize("state", ["running", "retrying", "waiting"])
async def test_what_else_is_asked_of_a_run_that_is_left(
    running: Running, client: Client, new_id: str, tmp_path: Path, state: str
) -> None:
    """The answer to each other verb says that the run is not over, and nothing changes."""
    ctl = Gozoctl(tmp_path, running.server.url)
    jobs = await begin(client, new_id, state)
    before = await runs(client, new_id)
    said = f"the schedule is over, but an occurrence of it is still {state}"
    left = {"status": "already_delivered", "id": new_id, "running": True, "reason": said}
    assert await call_one(client, "pause", new_id) == left
    assert await call_one(client, "resume", new_id) == left
    assert await reschedule(client, new_id) == left
    for force in (False, True):
        refused = await call_one(client, "trigger", new_id, force=force)
        assert (refused["status"], refused["error"]) == ("refused", "running")
        assert said in refused["message"]
        assert "--force" not in refused["message"]
    async with await GozoClient.connect(running.server.url) as gozo:
        over = Answer(new_id, "already_delivered", said, running=True)
        assert await gozo.pause(new_id) == await gozo.resume(new_id) == [over]
        with pytest.raises(NotFoundError, match=said) as caught:
            await gozo.reschedule(new_id, "+1h")
        assert (caught.value.status, caught.value.reason) == ("already_delivered", said)
        with pytest.raises(RequestError, match=said):
            await gozo.trigger(new_id, force=True)
    done = await asyncio.to_thread(ctl.run, "pause", new_id)
    assert (done.code, done.rows[1]) == (3, [new_id, "already_delivered"])
    assert f"'{new_id}' was not paused: {said}" in done.err
    done = await asyncio.to_thread(ctl.run, "trigger", new_id)
    assert (done.code, said in done.err) == (1, True)
    assert await runs(client, new_id) == before
    assert len(jobs.all) == 1


@pytest.mark.parametrize("way", WAYS)
async def test_a_schedule_that_recurs(
    running: Running, client: Client, new_id: str, tmp_path: Path, way: str
) -> None:
    """Answers say that an occurrence is running as long as one is."""
    ctl = Gozoctl(tmp_path, running.server.url)
    jobs = await Jobs.listen(client)
    await jobs.store(new_id)
    assert "running" not in await call_one(client, "pause", new_id)
    assert "running" not in await reschedule(client, new_id)
    await call_one(client, "trigger", new_id)
    job = await jobs.wait(1)
    paused = {"status": "paused", "id": new_id, "running": True}
    assert await call_one(client, "pause", new_id) == paused
    assert (await reschedule(client, new_id))["running"] is True
    cancelled = await cancel(way, client, ctl, new_id)
    assert cancelled == {"status": "cancelled", "id": new_id, "running": True}
    again = await cancel(way, client, ctl, new_id, code=3)
    assert again == {"status": "not_found", "id": new_id, "running": True}
    assert await jobs.answer(job) == b"+OK"
    assert await runs(client, new_id) == []


@pytest.mark.parametrize("without_daemon", [False, True])
async def test_a_resume_changes_no_run(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path, without_daemon: bool
) -> None:
    """A run that was triggered while the schedule was paused is still retried after a resume."""
    server = servers.start()
    daemon = await daemons.serve(server)
    client = await clients.connect(server)
    jobs = await Jobs.listen(client)
    await jobs.store("job", Gozo_Backoff="50ms")
    await call_one(client, "pause", "job")
    assert (await call_one(client, "trigger", "job"))["status"] == "triggered"
    job = await jobs.wait(1)
    if without_daemon:
        assert await daemon.terminate() == 0
    done = await asyncio.to_thread(Gozoctl(tmp_path, server.url).ok, "resume", "job", "-o", "jsonl")
    assert done.json == {"id": "job", "status": "resumed"}
    assert "running" not in done.err
    if without_daemon:
        await daemons.serve(server)
    assert "Gozo-State" not in await entry_of(client, "job")
    assert await jobs.answer(job, b"-NAK") == b"+OK"
    await jobs.wait(2)
    (left,) = await runs(client, "job")
    assert "Gozo-Last-Attempt" not in left


async def test_gozo_client(running: Running, client: Client, new_id: str) -> None:
    """Programs get the same information."""
    jobs = await Jobs.listen(client)
    await jobs.store(new_id)
    async with await GozoClient.connect(running.server.url) as gozo:
        await gozo.trigger(new_id)
        job = await jobs.wait(1)
        assert await gozo.pause(new_id) == [Answer(new_id, "paused", running=True)]
        assert (await gozo.reschedule(new_id, "+1h")).running
        assert await gozo.cancel(new_id) == [Cancelled(new_id, "cancelled", running=True)]
        await jobs.answer(job)
        await jobs.store(new_id)
        assert await gozo.pause(new_id) == [Answer(new_id, "paused")]
        assert not (await gozo.reschedule(new_id, "+1h")).running
        assert await gozo.cancel(new_id) == [Cancelled(new_id, "cancelled")]


async def test_gozoctl(running: Running, client: Client, new_id: str, tmp_path: Path) -> None:
    """It says what is still running, and does not fail."""
    ctl = Gozoctl(tmp_path, running.server.url)
    jobs = await Jobs.listen(client)
    await jobs.store(new_id)
    await call_one(client, "trigger", new_id)
    await jobs.wait(1)
    for command in (("pause", new_id), ("reschedule", new_id, "--in", "1h"), ("cancel", new_id)):
        done = await asyncio.to_thread(ctl.ok, *command)
        assert f"'{new_id}' is still running" in done.err
