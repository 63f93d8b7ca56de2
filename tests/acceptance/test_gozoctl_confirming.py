"""Confirmed schedules in `gozoctl`: their options, and what it shows of them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from gozo.schedule.model import Confirm, Confirmation, State
from tests.support.gozoctl import Gozoctl
from tests.support.processes import Servers
from tests.support.runs import put_run, run_of
from tests.support.server import NatsServer

REPLY = (
    *("--confirm-reply", "--attempts", "3", "--ack-wait", "90s", "--backoff", "1s,1m"),
    *("--max-age", "10m", "--overlap", "skip", "--dead-letter", "failed"),
)


@pytest.fixture
def server(servers: Servers) -> NatsServer:
    """Run a server without a daemon, which would change the runs."""
    return servers.start()


@pytest.fixture
def ctl(server: NatsServer, tmp_path: Path) -> Gozoctl:
    """Return gozoctl."""
    return Gozoctl(tmp_path, server.url)


def test_create_inspect_and_export(ctl: Gozoctl) -> None:
    """All options are shown, and applying an export changes nothing, here or elsewhere."""
    ctl.ok("create", "call", "service", "full", "--cron", "@daily", "--tz", "UTC", *REPLY)
    ctl.ok("create", "claim", "jobs", "--in", "10h", "--confirm-claim")
    ctl.ok("create", "keep", "stored", "--in", "10h", "--confirm", "--ttl", "5m")
    found = ctl.ok("inspect", "call", "-o", "json").json
    wanted = {
        "confirm": "reply",
        "attempts": 3,
        "ack_wait": 90.0,
        "backoff": [1.0, 60.0],
        "max_age": 600.0,
        "overlap": "skip",
        "dead_letter": "failed",
        "ttl": None,
    }
    assert found | wanted == found
    assert "runs" not in found
    rows = ctl.ok("inspect", "call").rows
    for row in (
        ["confirm", "by its receiver, 3 attempts"],
        *(["ack wait", "1m30s"], ["backoff", "1s, 1m"], ["max age", "10m"]),
        *(["overlap", "skip"], ["dead letter", "failed"]),
    ):
        assert row in rows
    rows = ctl.ok("inspect", "claim", "keep").rows
    claimed = ["confirm", "by its receiver, which claims it first, any number of attempts"]
    assert claimed in rows
    assert ["ttl", "5m"] in rows
    text = ctl.ok("export").out
    tables = tomllib.loads(text)["schedules"]
    assert tables["call"] == {
        "subject": "service",
        "when": "@daily",
        "payload": "full",
        "confirm": "reply",
        "attempts": 3,
        "ack-wait": "90s",
        "backoff": "1s,60s",
        "max-age": "600s",
        "overlap": "skip",
        "dead-letter": "failed",
        "time-zone": "UTC",
    }
    assert tables["claim"]["confirm"] == "claim"
    assert (tables["keep"]["confirm"], tables["keep"]["ttl"]) == (True, "300s")
    (ctl.home / "all.toml").write_text(text)
    assert [row[2] for row in ctl.ok("apply", "all.toml").rows[1:]] == ["set"] * 3
    assert ctl.ok("diff", "all.toml").out == ""
    changed = text.replace('overlap = "skip"', 'overlap = "queue"')
    (ctl.home / "all.toml").write_text(changed)
    done = ctl.run("diff", "all.toml")
    assert done.code == 1
    lines = done.out.splitlines()
    assert [one for one in lines[3:] if one[0] != " "] == [
        '-overlap = "skip"',
        '+overlap = "queue"',
    ]


def test_the_dead_letter_is_named_in_a_file(ctl: Gozoctl) -> None:
    """The error names its key, not the subject of the schedule."""
    text = "[schedules.a]\nsubject='a'\nwhen='0'\nconfirm='reply'\ndead-letter='$SYS.a'"
    done = ctl.run("apply", "-", stdin=text.encode())
    assert done.code == 2
    assert "[schedules.a]: dead-letter: the dead-letter subject '$SYS.a' begins with" in done.err
    done = ctl.run("create", "a", "a", "--in", "1", "--confirm-reply", "--dead-letter", "a.*")
    assert done.code == 2
    assert "the dead-letter subject 'a.*' has the wildcard '*': give a single" in done.err


def test_what_runs_is_seen(ctl: Gozoctl, server: NatsServer) -> None:
    """It is listed by its state, and shown with its attempt, start and last answer."""
    ctl.ok("create", "backup", "jobs", "--cron", "@daily", "--confirm-claim")
    put_run(server, run_of("backup"))
    put_run(server, run_of("report", State.RETRYING, occurrence="64a2"))
    states = {row[0]: row[5] for row in ctl.ok("list", "--state", "running").rows[1:]}
    assert states == {"backup": "running"}
    assert ctl.ok("list", "--state", "retrying", "-o", "id").out == "report\n"
    rows = ctl.ok("list", "--id", "backup").rows[1:]
    assert sorted((row[0], row[5]) for row in rows) == [
        ("backup", "pending"),
        ("backup", "running"),
    ]
    (run,) = ctl.ok("list", "--state", "running", "-o", "json").json
    wanted = {
        "id": "backup",
        "key": "=_run.backup.64a1-1",
        "state": "running",
        "occurrence": "64a1-1",
        "due": "2026-11-18T11:06:40.000Z",
        "attempt": 2,
        "tried": 1,
        "sent": "2026-11-18T11:06:42.000Z",
        "next": None,
        "claimed": True,
        "give_up": None,
        "last_attempt": False,
        "reason": "exit status 3",
    }
    assert run | wanted == run
    found = ctl.ok("inspect", "backup", "-o", "json").json
    assert (found["state"], found["runs"]) == ("pending", [run])
    rows = ctl.ok("inspect", "backup").rows
    assert rows[[row[0] for row in rows].index("occurrence") :] == [
        ["occurrence", "64a1-1"],
        ["attempt", "2 of 3"],
        ["since", "2026-11-18T11:06:42.000Z"],
        ["claimed", "yes"],
        ["due", "2026-11-18T11:06:40.000Z"],
        ["state", "running"],
        ["tried", "1"],
        ["reason", "exit status 3"],
    ]


def test_a_run_without_its_schedule(ctl: Gozoctl, server: NatsServer) -> None:
    """It is found and completed by its id, and can be cancelled, but not exported or paused."""
    ctl.ok("create", "tea", "kitchen", "--in", "10h")
    reply = Confirmation(Confirm.REPLY)
    put_run(server, run_of("report", State.RETRYING, confirmation=reply))
    put_run(server, run_of("report", occurrence="64a2", confirmation=reply))
    found = ctl.ok("inspect", "report", "-o", "json").json
    assert (found["occurrence"], found["confirm"], found["payload"]) == ("64a2", "reply", "full")
    assert [run["state"] for run in found["runs"]] == ["retrying", "running"]
    assert ctl.ok("inspect", "report", "--payload").out == "full"
    rows = ctl.ok("inspect", "report").rows
    assert ["next try", "2058-07-27T12:53:20.100Z"] in rows
    assert ["reason", "nobody subscribes"] in rows
    complete = {
        "_GOZOCTL_COMPLETE": "complete_fish",
        "_TYPER_COMPLETE_ARGS": "gozoctl inspect rep",
    }
    offered = ctl.run(variables=complete).out.splitlines()[1:]
    assert [one.partition("\t")[0] for one in offered] == ["report"]
    done = ctl.ok("export")
    assert (tomllib.loads(done.out)["schedules"].keys(), done.err) == ({"tea"}, "")
    assert ctl.ok("export", "--subject", "jobs").err == "no matching schedules\n"
    paused = ctl.ok("pause", "--all", "--yes", "-o", "json").json
    assert paused == [{"id": "tea", "status": "paused"}]
    assert ctl.ok("cancel", "report", "--dry-run", "-o", "id").out == "report\n"
    done = ctl.ok("cancel", "--id", "rep*", "--yes", "-o", "json")
    assert done.json == [{"id": "report", "status": "cancelled", "running": True}]
    assert "'report' is still running; it is not tried again" in done.err
    done = ctl.run("cancel", "report")
    assert (done.code, done.rows[1:]) == (3, [["report", "not_found"]])
    assert "'report' is still running" in done.err
    assert ctl.run("inspect", "nothing").code == 3


def test_in_a_terminal(ctl: Gozoctl, server: NatsServer) -> None:
    """Runs are shown as blocks below their schedule."""
    ctl.ok("create", "backup", "jobs", "--in", "10h", "--confirm-claim", "--dead-letter", "failed")
    put_run(server, run_of("backup", State.FAILED))
    with ctl.terminal("inspect", "backup") as terminal:
        assert terminal.ends() == 0
        lines = [line.rstrip() for line in terminal.text.splitlines()]
    schedule, run = lines[: lines.index("")], lines[lines.index("") :]
    assert {"         id  backup", "dead letter  failed"} <= {*schedule}
    assert {" occurrence  64a1-1", "      state  failed", "     reason  exit status 4"} <= {*run}
