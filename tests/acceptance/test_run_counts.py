"""Confirmed runs in metrics, counts and events: they are never counted as schedules."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from gozo.client import Client as GozoClient
from tests.support.client import Client
from tests.support.gozoctl import Gozoctl
from tests.support.jobs import Jobs, call_one
from tests.support.metrics import scrape, serve
from tests.support.patience import allow, until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.receiver import Receiver

ONE_EACH = {"running": 1, "retrying": 1, "pending": 1, "failed": 1}


async def keys(client: Client) -> dict[str, Any]:
    """Ask the leader for its counts of schedules."""
    body = b'{"limit": 0, "counts": true}'
    answer: dict[str, Any] = json.loads(
        (await client.nats.request("gozo.admin.keys", body, timeout=allow(5))).data
    )
    return answer


async def test_one_in_each_state(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """Metrics, the leader's answers, `gozoctl status` and a count without a daemon agree."""
    server = servers.start()
    daemon, port = await serve(daemons, server)
    client = await clients.connect(server)
    ctl = Gozoctl(tmp_path, server.url)
    jobs = await Jobs.listen(client)
    await jobs.store("silent", "+0", Gozo_Ack_Wait="1s", Gozo_Backoff="1h")
    await jobs.wait(1)
    await jobs.store("failing", "+0")
    await jobs.answer(await jobs.wait(2), b"+TERM broken")
    await jobs.store("unclaimed", "+0", Gozo_Confirm="claim")
    await jobs.wait(3)
    await jobs.store("recurring", Gozo_Overlap="skip")
    await call_one(client, "trigger", "recurring")
    running = await jobs.wait(4)
    await jobs.answer(running, b"+WPI")
    body = b'{"id": "recurring", "when": "+0"}'
    await client.nats.request("gozo.admin.reschedule", body, timeout=allow(5))

    async def is_so() -> bool:
        figures = await scrape(port)
        found = {state: figures[f"gozo_runs{{state={state}}}"] for state in ONE_EACH}
        return found == ONE_EACH and figures["gozo_runs_skipped_total"] == 1

    await until(is_so, "a run in each state, and an occurrence that was skipped")
    figures = await scrape(port)
    expected = {
        "gozo_schedules_pending": 1,
        "gozo_schedules_overdue": 0,
        "gozo_schedules_failed": 0,
        "gozo_schedules_paused": 0,
        "gozo_unanswered_total": 1,
        "gozo_answers_total{answer=terminated}": 1,
        "gozo_answers_total{answer=alive}": 1,
        "gozo_answers_total{answer=done}": 0,
        "gozo_answer_headers_invalid_total": 0,
        "gozo_runs_running": 1,
        "gozo_outcomes_total{outcome=failed}": 1,
        "gozo_outcomes_total{outcome=skipped}": 1,
        "gozo_outcomes_total{outcome=succeeded}": 0,
    }
    assert 0 < figures["gozo_oldest_run_seconds"] < allow(60)
    assert {name: figures.get(name) for name in expected} == expected

    told = await keys(client)
    none = {"overdue": 0, "paused": 0, "failed": 0, "invalid": 0}
    assert told["runs"] == ONE_EACH
    assert {name: told[name] for name in none} == none
    assert told["schedules"] == 1
    said = (await asyncio.to_thread(ctl.ok, "status", "-o", "json")).json
    assert said["runs"] == ONE_EACH
    assert {name: said[name] for name in none} == none
    assert said["schedules"] == 1
    rows = (await asyncio.to_thread(ctl.ok, "status")).rows
    assert ["runs", "1 running, 1 retrying, 1 pending, 1 failed"] in rows
    async with await GozoClient.connect(server.url) as gozo:
        counts = await gozo.count()
        assert await daemon.terminate() == 0
        assert await gozo.count() == counts
        assert (counts.schedules, counts.runs) == (1, ONE_EACH)


async def test_events(servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path) -> None:
    """They come live and from the history, by type and by subject, with the attempt."""
    server = servers.start()
    await daemons.serve(server, "--history", "1h")
    client = await clients.connect(server)
    ctl = Gozoctl(tmp_path, server.url)
    jobs = await Jobs.listen(client)
    async with await GozoClient.connect(server.url) as gozo, gozo.events("job") as events:
        await jobs.store("job", Gozo_Overlap="skip", Gozo_Backoff="0s")
        await call_one(client, "trigger", "job")
        await jobs.answer(await jobs.wait(1), b"-NAK")
        second = await jobs.wait(2)
        body = b'{"id": "job", "when": "+0"}'
        await client.nats.request("gozo.admin.reschedule", body, timeout=allow(5))
        seen = []
        async with asyncio.timeout(allow(10)):
            async for event in events:
                seen.append(event)
                if event.kind == "skipped":
                    await jobs.answer(second)
                if event.kind == "succeeded":
                    break
    of_runs = [one for one in seen if one.kind in ("started", "retrying", "skipped", "succeeded")]
    assert [(one.kind, one.attempt, one.attempts) for one in of_runs] == [
        ("started", 1, 0),
        ("retrying", 0, 1),
        ("started", 2, 0),
        ("skipped", 0, 0),
        ("succeeded", 0, 2),
    ]
    assert {(one.id, one.subject) for one in of_runs} == {("job", jobs.subject)}
    types = ("--type", "started", "--type", "skipped", "--type", "succeeded")
    found = await asyncio.to_thread(ctl.ok, "history", "--subject", jobs.subject, *types)
    assert [(row[1], row[6]) for row in found.rows[1:]] == [
        ("started", "attempt 1"),
        ("started", "attempt 2"),
        ("skipped", ""),
        ("succeeded", "after 2 attempts"),
    ]
    lines = (await asyncio.to_thread(ctl.ok, "history", "job", *types[:2], "-o", "jsonl")).out
    assert [json.loads(line)["attempt"] for line in lines.splitlines()] == [1, 2]


async def test_what_is_tried_again_is_not_late(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """Lateness is measured from the due time of each attempt, without waits for other runs."""
    server = servers.start()
    _, port = await serve(daemons, server)
    client = await clients.connect(server)
    for by in ("reply", "claim"):
        receiver = await Receiver.start(client.nats, *[b'-NAK {"busy": true}'] * 5)
        headers = {"Gozo-When": "+0", "Gozo-Confirm": by}
        await client.send(headers, reply=receiver.subject)
        first, *_, last = await receiver.wait(6)
        assert last.at - first.at >= 3
    # Nor is an occurrence that waits for the one before, here for two seconds.
    jobs = await Jobs.listen(client)
    await jobs.store("queue", "@every 1s", Gozo_Overlap="queue", Gozo_Misfire="all")
    first_job = await jobs.wait(1)
    await asyncio.sleep(3)
    await jobs.answer(first_job)
    await jobs.wait(2)
    await call_one(client, "cancel", "queue")
    figures = await scrape(port)
    assert figures["gozo_lateness_seconds_count"] == 14
    assert figures["gozo_lateness_max_seconds"] < 2
