"""Which schedules fail, and which workers there are, as `gozoctl status` says."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import time
from pathlib import Path

from gozo.client import Client as Gozo
from tests.support.client import Client
from tests.support.gozoctl import Done, Gozoctl
from tests.support.hosts import Hosts, apply, settled, table
from tests.support.jobs import Jobs, call_one
from tests.support.metrics import scrape, serve
from tests.support.patience import until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.readme import ROOT
from tests.support.running import Running

SUCCESS = "gozo_last_success_timestamp_seconds{id=backup}"

EACH = {
    "fails": "failed",
    "hangs": "overdue",
    "late": "nobody",
    "once": "failed",
    "silent": "unanswered",
}
"""How each id that fails does."""


async def status(ctl: Gozoctl, *arguments: str) -> Done:
    """Run `gozoctl status`."""
    return await asyncio.to_thread(ctl.run, "status", *arguments)


async def trigger(client: Client, jobs: Jobs, id_: str, answer: bytes | None) -> None:
    """Trigger a recurring schedule, and answer it."""
    count = len(jobs.all)
    await jobs.store(id_, Gozo_Attempts="1", Gozo_Ack_Wait="1s")
    assert (await call_one(client, "trigger", id_))["status"] == "triggered"
    job = await jobs.wait(count + 1)
    if answer is not None:
        await jobs.answer(job, answer)


async def test_failing(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """Each is printed, with a daemon and without one; the leader counts the same."""
    server = servers.start()
    ctl = Gozoctl(tmp_path, server.url)
    assert (await status(ctl, "--failing")).err == "nothing fails\n"
    daemon = await daemons.serve(server)
    client = await clients.connect(server)
    jobs = await Jobs.listen(client)
    await jobs.store("once", "+0")
    await jobs.answer(await jobs.wait(1), b"+TERM no disk")
    await trigger(client, jobs, "works", b"+ACK")
    await trigger(client, jobs, "fails", b"+TERM broken")
    await trigger(client, jobs, "silent", None)
    jobs.subject = f"nobody.{jobs.subject}"
    await jobs.store("late", "@every 1s", Gozo_Max_Age="0.2s")
    hanging = await Jobs.listen(client)
    await hanging.store("hangs", "@every 0.5s", Gozo_Overlap="skip", Gozo_Expect="1s")
    async with await Gozo.connect(server.url) as gozo:

        async def all_fail() -> bool:
            return {one.id: one.result for one in await gozo.failing()} == EACH

        await until(all_fail, "each fails")

        async def are_counted() -> bool:
            return (await gozo.count()).failing == len(EACH)

        await until(are_counted, "the leader counts them")
    assert (await status(ctl, "-o", "json")).json["failing"] == len(EACH)
    assert ["failing", str(len(EACH))] in (await status(ctl)).rows
    done = await status(ctl, "--failing", "-o", "json")
    assert done.code == 1
    reasons = {one["id"]: one["reason"] for one in done.json}
    assert (reasons["once"], reasons["fails"]) == ("no disk", "broken")
    assert (await status(ctl, "--failing", "--watch")).code == 2

    assert await daemon.terminate() == 0
    done = await status(ctl, "--failing")
    assert done.code == 1
    assert [row[:2] for row in done.rows[1:]] == [list(one) for one in EACH.items()]
    assert (await status(ctl, "-o", "json")).json["failing"] == len(EACH)
    with ctl.terminal("status", "--failing", "--quiet") as terminal:
        terminal.shows("overdue")

    await daemons.serve(server)
    await call_one(client, "trigger", "fails")
    await jobs.answer(await jobs.wait(5), b"+ACK")
    await call_one(client, "pause", "hangs")

    async def fewer_fail() -> bool:
        done = await status(ctl, "--failing", "-o", "id")
        return done.out.split() == ["late", "once", "silent"]

    await until(fewer_fail, "one works again, and another is paused")
    async with await Gozo.connect(server.url) as gozo:
        assert (await gozo.count()).failing == 3


async def test_errors(servers: Servers, tmp_path: Path) -> None:
    """They have other exit codes than that something fails."""
    assert Gozoctl(tmp_path, "nats://127.0.0.1:1").run("status", "--failing").code == 5
    ctl = Gozoctl(tmp_path, servers.start(jetstream=False).url)
    assert [(await status(ctl, "--failing")).code, ctl.run("list").code] == [2, 1]


async def test_workers(gozo: Gozo, running: Running, hosts: Hosts, tmp_path: Path) -> None:
    """Each with its host, its version and what it runs."""
    ctl = Gozoctl(tmp_path, running.server.url)
    assert (await status(ctl, "-o", "json")).json["workers"] == []
    text = table("long", f"until test -e {hosts.folder}/go; do sleep 0.05; done")
    text += table("other", "true", host="web2")
    await apply(gozo, text)
    await hosts.start(text, "web1")
    await hosts.start(text, "web2")
    await gozo.trigger("long")

    async def runs() -> bool:
        return any(one.running for one in await gozo.workers())

    await until(runs, "a worker runs it")
    one, two = (await status(ctl, "-o", "json")).json["workers"]
    assert [one["host"], two["host"]] == ["web1", "web2"]
    assert sorted([one["running"], two["running"]]) == [[], ["long"]]
    assert (one["jobs"], two["jobs"], one["files"]) == (1, 2, "cron.toml")
    rows = (await status(ctl)).rows
    head, *found = rows[-3:]
    assert head == ["WORKER", "HOST", "VERSION", "JOBS", "RUNNING", "FILES"]
    assert [row[:2] for row in found] == [["worker", "web1"], ["worker", "web2"]]
    with ctl.terminal("status") as terminal:
        terminal.shows("web2")
    (hosts.folder / "go").touch()
    assert await settled(gozo, "long") == ""


async def test_the_last_success_in_metrics(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """Of the ids that are named, whatever failed since, and after a restart."""
    server = servers.start()
    daemon, port = await serve(daemons, server, "--metrics-ids", "back*,other")
    client = await clients.connect(server)
    jobs = await Jobs.listen(client)
    began = time.time()
    await trigger(client, jobs, "backup", b"+ACK")
    await trigger(client, jobs, "unnamed", b"+ACK")

    async def has(*expected: tuple[str, float]) -> bool:
        figures = await scrape(port)
        return all(figures.get(name) == value for name, value in expected)

    async def has_succeeded() -> bool:
        return SUCCESS in await scrape(port)

    await until(has_succeeded, "it has succeeded")
    last = (await scrape(port))[SUCCESS]
    assert began - 1 < last < time.time() + 1
    assert (await call_one(client, "trigger", "backup"))["status"] == "triggered"
    await jobs.answer(await jobs.wait(3), b"+TERM broken")
    fails = (SUCCESS, last), ("gozo_schedules_failing", 1)
    await until(lambda: has(*fails), "it fails, and has succeeded before")
    assert await daemon.terminate() == 0
    _, port = await serve(daemons, server, "--metrics-ids", "back*")
    await until(lambda: has(*fails), "the same after a restart")
    names = [name for name in await scrape(port) if name.startswith("gozo_last_success")]
    assert names == [SUCCESS]


async def test_alerts_as_in_the_manual(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """The command that gozo(8) shows tells people of what failed, and of nothing else."""
    page = (ROOT / "man" / "source" / "gozo.8").read_text("utf-8")
    (line,) = re.findall(r"^gozoctl exec .*gozo\.event\.alert.*$", page, re.MULTILINE)
    words = shlex.split(line.replace("\\(aq", "'").replace("\\-", "-"))
    assert words[:2] == ["gozoctl", "exec"]
    server = servers.start()
    await daemons.serve(server, "--events")
    ctl = Gozoctl(tmp_path, server.url)
    ctl.program("notify", f"#!/bin/sh\ncat >>'{tmp_path}/told'; echo >>'{tmp_path}/told'\n")
    await daemons.work(server, *words[2:], variables={"PATH": ctl.path})
    client = await clients.connect(server)
    jobs = await Jobs.listen(client)
    await trigger(client, jobs, "works", b"+ACK")
    await trigger(client, jobs, "fails", b"+TERM no disk")
    told = tmp_path / "told"
    await until(lambda: told.exists() and told.read_text().endswith("\n"), "it was told")
    (event,) = map(json.loads, told.read_text().splitlines())
    assert (event["id"], event["outcome"], event["reason"]) == ("fails", "failed", "no disk")
