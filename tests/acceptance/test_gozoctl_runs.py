"""`gozoctl runs`: how runs ended, and those that have not."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from gozo.client import Client as Gozo
from tests.support.client import Client
from tests.support.gozoctl import Done, Gozoctl
from tests.support.hosts import Hosts, apply, settled, table
from tests.support.jobs import Jobs, call_one
from tests.support.outcomes import outcome
from tests.support.patience import until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.receiver import Receiver, Say
from tests.support.running import Running

FAILED = {
    "Gozo-Answer": '-NAK {"reason": "no disk"}',
    "Gozo-Exit-Status": "3",
    "Gozo-Host": "web1",
    "Gozo-Started": "2026-11-30T02:00:00.120Z",
    "Gozo-Duration": "12.5",
}


@pytest.fixture
def ctl(running: Running, tmp_path: Path) -> Gozoctl:
    """Return a `gozoctl` for the module's server."""
    return Gozoctl(tmp_path, running.server.url)


async def runs(ctl: Gozoctl, *arguments: str) -> Done:
    """Run `gozoctl runs`."""
    return await asyncio.to_thread(ctl.run, "runs", *arguments)


async def test_how_they_ended(client: Client, ctl: Gozoctl, new_id: str) -> None:
    """What receivers said, with the output; then what has not ended, in every format."""
    jobs = await Jobs.listen(client)
    ids = {end: f"{new_id}-{end}" for end in ("fails", "works", "works.too", "hangs")}
    more = {"Gozo_Attempts": "1", "Gozo_Keep_Output": "yes"}
    await jobs.store(ids["fails"], "+0", **more)
    failing = await jobs.wait(1)
    await client.nats.publish(failing.reply, b"disk full\n\x1b[2J\xff", headers=FAILED)
    await outcome(client, ids["fails"])
    for number, end in enumerate(("works", "works.too"), 2):
        await jobs.store(ids[end], "+0")
        await jobs.answer(await jobs.wait(number))
        await outcome(client, ids[end])
    await jobs.store(ids["hangs"], Gozo_Overlap="skip")
    assert (await call_one(client, "trigger", ids["hangs"]))["status"] == "triggered"
    assert await jobs.answer(await jobs.wait(4), b"+WPI") in (b"+OK", b"")

    done = await runs(ctl, "--id", f"{new_id}*", "--show-output", "-o", "json")
    assert done.code == 0, done
    fails, works, too, hangs = done.json
    assert [one["id"] for one in done.json] == list(ids.values())
    said = {"outcome": "failed", "exit_status": 3, "host": "web1", "took": 12.5, "attempt": 1}
    assert fails.items() >= said.items()
    assert fails["reason"] == "no disk"
    assert fails["started"] == "2026-11-30T02:00:00.120Z"
    assert fails["output_base64"]
    assert (works["outcome"], works["exit_status"], "output" in works) == ("succeeded", None, False)
    assert too["due"] <= too["started"] <= too["ended"]
    assert (hangs["outcome"], hangs["ended"], hangs["subject"]) == ("running", None, jobs.subject)
    assert hangs["took"] >= 0
    for arguments, expected in (
        ((ids["works"], ids["hangs"], ids["fails"]), ["fails", "works", "hangs"]),
        (("--failed", "--id", f"{new_id}*"), ["fails"]),
        (("--since", "1h", "--id", f"{new_id}*"), list(ids)),
    ):
        done = await runs(ctl, *arguments, "-o", "id")
        assert (done.code, done.out.split()) == (0, [ids[end] for end in expected]), arguments
    head, row = (await runs(ctl, ids["fails"], "--show-output")).rows
    assert head == [
        *("DUE", "STARTED", "TOOK", "HOST", "OUTCOME", "EXIT", "ATTEMPT", "ID", "REASON"),
        "OUTPUT",
    ]
    assert row[1:] == [
        *("2026-11-30T02:00:00.120Z", "12.500", "web1", "failed", "3", "1", ids["fails"]),
        *("no disk", r"disk full\n\u001b[2J\xff"),
    ]
    with ctl.terminal("runs", ids["fails"], ids["hangs"], "--show-output", columns=200) as terminal:
        terminal.shows("no disk")
        terminal.shows("    disk full")
        terminal.shows("running")
    with ctl.terminal("runs", ids["fails"]) as terminal:
        terminal.shows("12.5s")
        terminal.shows("no disk")


async def test_nothing_to_show(client: Client, ctl: Gozoctl, new_id: str) -> None:
    """Exit 3 for an id without runs that match; 0 otherwise; what is impossible is refused."""
    done = await runs(ctl, "--id", f"{new_id}*")
    assert (done.code, done.rows[1:], done.err) == (0, [], "no matching runs\n")
    receiver = await Receiver.start(client.nats, Say(b"+ACK"))
    await Jobs(client, receiver.subject).store(new_id, "+0")
    await outcome(client, new_id)
    done = await runs(ctl, new_id, f"{new_id}.b")
    assert (done.code, len(done.rows)) == (3, 2)
    assert done.err == f"gozoctl: no runs of schedule '{new_id}.b'\n"
    done = await runs(ctl, new_id, "--failed", "-o", "json")
    assert (done.code, done.json) == (3, [])
    assert "no matching runs" in done.err
    assert (await runs(ctl, new_id, "--id", "*")).code == 2
    assert (await runs(ctl, "--since", "2999-01-01")).code == 2


async def test_where_no_outcomes_are_kept(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """What is in the bucket is printed all the same, what failed too."""
    server = servers.start()
    await daemons.serve(server, "--outcomes", "0")
    client, ctl = await clients.connect(server), Gozoctl(tmp_path, server.url)
    jobs = await Jobs.listen(client)
    await jobs.store("fails", "+0")
    await jobs.answer(await jobs.wait(1), b"+TERM no disk")
    await jobs.store("hangs", "+0")
    await jobs.wait(2)
    done = await runs(ctl, "-o", "jsonl")
    found = [json.loads(line) for line in done.out.splitlines()]
    assert (done.code, "--outcomes 0" in done.err) == (3, True)
    assert [(one["id"], one["outcome"]) for one in found] == [
        ("fails", "failed"),
        ("hangs", "running"),
    ]


async def test_jobs_of_a_worker(gozo: Gozo, hosts: Hosts, ctl: Gozoctl, new_id: str) -> None:
    """Their host, exit status and output."""
    text = table(new_id, "echo done; exit 4")
    await apply(gozo, text)
    await hosts.start(text, "web2")
    await gozo.trigger(new_id)
    await settled(gozo, new_id)
    (one,) = (await runs(ctl, new_id, "--show-output", "-o", "json")).json
    assert (one["host"], one["exit_status"], one["outcome"]) == ("web2", 4, "failed")
    assert (one["output"], one["reason"]) == ("done\n", "exit code 4")


async def test_the_last_one_in_lists(client: Client, ctl: Gozoctl, new_id: str) -> None:
    """`list` has its result, and `inspect` all that is known of it."""
    jobs = await Jobs.listen(client)
    await jobs.store(new_id, Gozo_Overlap="skip", Gozo_Attempts="1", Gozo_Expect="1h")
    assert (await call_one(client, "trigger", new_id))["status"] == "triggered"
    await client.nats.publish((await jobs.wait(1)).reply, headers=FAILED)
    await outcome(client, new_id)

    async def show(*arguments: str) -> Done:
        return await asyncio.to_thread(ctl.ok, *arguments)

    async def is_in_the_entry() -> bool:
        schedules = (await show("list", "--id", new_id, "-o", "json")).json
        return any(one.get("outcome") for one in schedules)

    await until(is_in_the_entry, "the entry has the outcome")
    (told,) = [
        one["outcome"]
        for one in (await show("list", "--id", new_id, "-o", "json")).json
        if "outcome" in one
    ]
    said = {"outcome": "failed", "exit_status": 3, "host": "web1", "took": 12.5, "attempt": 1}
    assert told.items() >= said.items()
    assert told["ended"].endswith("Z")
    whole = (await show("inspect", new_id, "-o", "json")).json
    assert (whole["outcome"], whole["overdue_at"] > whole["due"]) == (told, True)
    rows = (await show("list", "--id", new_id)).rows
    assert rows[0][-1] == "RESULT"
    assert sorted(row[-1] for row in rows[1:]) == ["", "failed"]  # one is that of the run itself
    lines = dict(line[:2] for line in (await show("inspect", new_id)).rows)
    assert (lines["result"], lines["run took"], lines["host"]) == ("failed", "12.5s", "web1")
    assert (lines["exit status"], lines["attempts"], lines["run ended"]) == (
        "3",
        "1",
        told["ended"],
    )
    with ctl.terminal("list", "--id", new_id, columns=160) as terminal:
        terminal.shows("RESULT")
    with ctl.terminal("inspect", new_id) as terminal:
        terminal.shows("exit status  3")
