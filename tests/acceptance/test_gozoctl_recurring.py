"""`gozoctl` with what recurs: created, listed, shown; paused, resumed and triggered."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from tests.support.gozoctl import Gozoctl
from tests.support.processes import Clients, Daemons, Servers

MALTA = ZoneInfo("Europe/Malta")
WEEKDAYS = "0 2 * * mon-fri"


@pytest.fixture
def ctl(servers: Servers, tmp_path: Path) -> Gozoctl:
    """Gozoctl on a server where no daemon runs."""
    return Gozoctl(tmp_path, servers.start().url)


@pytest.fixture
def alone(tmp_path: Path) -> Gozoctl:
    """Gozoctl where no server is."""
    return Gozoctl(tmp_path, "nats://127.0.0.1:1")


def test_a_cron_expression(ctl: Gozoctl) -> None:
    """What is said of it is stored and shown, the next times by the clocks of its zone."""
    spec = ("--count", "10", "--jitter", "30s", "--misfire", "all", "--misfire-grace", "1h")
    life = ("--start", "2099-03-27 12:00", "--until", "2099-12-24T18:00:00Z")
    ctl.ok(
        *("create", "a", "jobs.a", "--cron", WEEKDAYS, "--tz", "Europe/Malta"),
        *(*life, *spec, "--yes"),
    )
    found = ctl.ok("inspect", "a", "-o", "json").json
    assert found["when"] == WEEKDAYS
    assert (found["time_zone"], found["count"], found["remaining"]) == ("Europe/Malta", 10, 10)
    assert (found["start"], found["until"]) == (
        "2099-03-27T11:00:00.000Z",
        "2099-12-24T18:00:00.000Z",
    )
    assert (found["jitter"], found["misfire"], found["misfire_grace"]) == (30.0, "all", 3600.0)
    assert (found["occurred"], found["last"]) == (0, None)
    # Clocks are put forward on the 29th.
    assert found["upcoming"] == [
        *(f"2099-03-{day}T00:00:00.000Z" for day in (30, 31)),
        *(f"2099-04-{day}T00:00:00.000Z" for day in ("01", "02", "03")),
    ]
    rows = ctl.ok("inspect", "a").rows
    assert ["time zone", "Europe/Malta"] in rows
    assert [value for name, value in rows if name == "next"] == found["upcoming"]
    assert ctl.ok("next", "--id", "a", "-o", "id").out.split() == found["upcoming"]
    head, row = ctl.ok("list").rows
    assert dict(zip(head, row, strict=True)) | {"LEFT": ""} == {
        "ID": "a",
        "DUE": found["due"],
        "LEFT": "",
        "SUBJECT": "jobs.a",
        "SIZE": "0",
        "STATE": "pending",
        "LAST": "",
        "WHEN": WEEKDAYS,
        "RESULT": "",
    }


def test_the_zone_of_this_machine(ctl: Gozoctl) -> None:
    """Without --time-zone it is sent by name, and told; where it has no name, one is asked for."""
    done = ctl.ok("create", "a", "jobs.a", "--cron", "@daily", "-o", "json").json
    assert done["time_zone"] == "Europe/Berlin"
    assert ctl.ok("inspect", "a", "-o", "json").json["time_zone"] == "Europe/Berlin"
    nameless = ("create", "b", "jobs.b", "--cron", "@daily")
    done_ = ctl.run(*nameless, variables={"TZ": "CET-1CEST"})
    assert done_.code == 2
    assert "use --time-zone" in done_.err
    assert ctl.run(*nameless, "--tz", "UTC", variables={"TZ": "CET-1CEST"}).code == 0
    with ctl.terminal("create", "c", "jobs.c", "--cron", "@daily") as terminal:
        terminal.shows("time zone Europe/Berlin")


def test_an_interval_in_a_table(ctl: Gozoctl) -> None:
    """In a terminal of 80 columns each schedule has a line, with what people look for."""
    ctl.ok("create", "poll", "jobs.poll", "--every", "1h30m")
    ctl.ok("create", "backup", "jobs.backup", "--cron", WEEKDAYS)
    ctl.ok("create", "tea", "kitchen", "--in", "3d")
    ctl.ok("pause", "poll", "--note", "till Monday")
    with ctl.terminal("list", variables={"COLUMNS": "80"}) as terminal:
        terminal.ends()
        head, rule, *rows = terminal.text.splitlines()
    assert head.split() == ["ID", "NEXT", "LEFT", "LAST", "WHEN", "SUBJECT", "STATE"]
    assert len(rule) <= 80
    assert sorted(row.split()[0] for row in rows) == ["backup", "poll", "tea"]
    assert any(WEEKDAYS in row for row in rows)
    (poll,) = (row for row in rows if row.startswith("poll"))
    assert "@every 1h30m" in poll
    assert poll.endswith("paused")
    zones = {one["id"]: one.get("time_zone") for one in ctl.ok("list", "-o", "json").json}
    assert zones == {"poll": None, "backup": "Europe/Berlin", "tea": None}
    with ctl.terminal("inspect", "poll") as terminal:
        terminal.shows("till Monday")


def test_what_rests_has_no_next_time(ctl: Gozoctl) -> None:
    """No time is shown at which a paused schedule would be due; what it was made with stays."""
    ctl.ok("create", "poll", "jobs.poll", "--cron", WEEKDAYS)
    ctl.ok("create", "once", "jobs.once", "--at", "2099-12-24 18:00", "--yes")
    ctl.ok("pause", "--all", "--yes")

    def listed() -> dict[str, list[str]]:
        head, *rows = ctl.ok("list").rows
        assert head[:3] == ["ID", "DUE", "LEFT"]
        return {row[0]: row[1:3] for row in rows}

    assert listed() == {"poll": ["", ""], "once": ["2099-12-24T17:00:00.000Z", ""]}
    with ctl.terminal("list", columns=150) as terminal:
        assert terminal.ends() == 0
        head, _, *rows = (line.split() for line in terminal.text.splitlines())
    assert head[:3] == ["ID", "NEXT", "LEFT"]
    assert ["poll", "-", "-"] in [row[:3] for row in rows]
    names = [name for name, _ in ctl.ok("inspect", "poll").rows]
    assert "next" not in names
    assert ctl.ok("inspect", "poll", "-o", "json").json["upcoming"] == []
    with ctl.terminal("inspect", "once", "poll") as terminal:
        assert terminal.ends() == 0
        assert re.findall(r"(?m)^ +due  (.*)$", terminal.text) == ["Thu 2099-12-24 18:00:00 CET"]
    said = ctl.ok("next", "--id", "poll")
    assert len(said.rows) > 1
    assert said.err == "it will not be delivered while it is paused\n"
    ctl.ok("resume", "--all", "--yes")
    assert all(all(row) for row in listed().values())


@pytest.mark.parametrize("recurs", [False, True])
def test_ids_in_a_narrow_terminal(ctl: Gozoctl, *, recurs: bool) -> None:
    """On 80 columns a UUID is on one line, with all the rest below or beside it; on 200 too."""
    ids = [str(uuid4()) for _ in range(3)]
    ctl.ok("create", ids[0], "notifications.email.send", "x", "--in", "13m20s")
    ctl.ok("create", ids[1], "accounts.expire.eu-west-1", "x", "--in", "14d")
    what = ("--cron", "*/15 8-18 * * mon-fri") if recurs else ("--in", "20d")
    ctl.ok("create", ids[2], "jobs.poll.status", "x", *what)
    ctl.ok("pause", ids[2])
    with ctl.terminal("list", columns=80) as terminal:
        assert terminal.ends() == 0
        heads, below, rule, *rows = terminal.text.splitlines()
    assert heads.split() == (["ID", "NEXT", "LEFT", "STATE"] if recurs else ["ID", "DUE", "STATE"])
    assert below.split() == (["SUBJECT", "WHEN", "LAST"] if recurs else ["SUBJECT", "LEFT", "SIZE"])
    assert len(rule) <= 80
    assert {row.split()[0] for row in rows[::2]} == set(ids)
    (at,) = (number for number, row in enumerate(rows) if row.startswith(ids[2]))
    assert rows[at].endswith(" paused")
    assert rows[at + 1].startswith("  jobs.poll.status ")
    assert not recurs or rows[at + 1].index(what[1]) == below.index("WHEN")
    with ctl.terminal("list", columns=200) as terminal:
        assert terminal.ends() == 0
        head, _, *rows = terminal.text.splitlines()
    assert {row.split()[0] for row in rows} == set(ids)
    assert head.split()[0] == "ID"
    assert "SUBJECT" in head


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--cron", "61 * * * *"), "minute '61' is not within 0-59"),
        (("--cron", "@every 3s"), "expected five fields"),
        (("--cron", "@daily", "--tz", "Europe/Valletta"), "--time-zone 'Europe/Valletta'"),
        (("--every", "3 x"), "invalid --every '3 x': expected"),
        (("--every", "3s", "--tz", "UTC"), "cron expressions only"),
        (("--every", "3s", "--in", "3"), "one of --in"),
        (("--every", "3s", "--jitter", "long"), "--jitter 'long'"),
        (("--every", "3s", "--misfire-grace", "-1"), "--misfire-grace '-1'"),
        (("--every", "3s", "--misfire", "never"), "'never' is not one of"),
        (("--every", "3s", "--until", "soon"), "soon"),
        (("--every", "3s", "--start", "+2d", "--until", "+1d"), "--until is before"),
        (("--every", "3s", "--count", "0"), "--count"),
        (("--in", "3", "--count", "3"), "recurring schedules only"),
    ],
)
def test_what_is_wrong(ctl: Gozoctl, options: tuple[str, ...], words: str) -> None:
    """Each exits 2 with a sentence that names the value, and stores nothing."""
    done = ctl.run("create", "a", "jobs.a", *options)
    assert done.code == 2
    assert words in done.err
    assert done.out == ""
    assert ctl.ok("list", "-o", "json").json == []


def test_next(alone: Gozoctl) -> None:
    """The next times of an expression are told without a server."""
    said = alone.ok("next", WEEKDAYS, "--count", "7", "--time-zone", "Europe/Malta", "-o", "json")
    times = [datetime.fromisoformat(one["due"]) for one in said.json]
    assert len(times) == 7
    assert all(one.astimezone(MALTA).hour == 2 for one in times)
    assert all(one.astimezone(MALTA).weekday() < 5 for one in times)
    assert datetime.now(UTC) < times[0] < datetime.now(UTC) + timedelta(days=4)
    head, *rows = alone.ok("next", "@every 90s").rows
    assert head == ["DUE", "LEFT"]
    spans = {
        datetime.fromisoformat(later) - datetime.fromisoformat(sooner)
        for (sooner, _), (later, _) in pairwise(rows)
    }
    assert (len(rows), spans) == (5, {timedelta(seconds=90)})
    assert alone.ok("next", "2099-12-24T18:00:00Z", "-o", "id").out == "2099-12-24T18:00:00.000Z\n"
    with alone.terminal("next", WEEKDAYS, "--tz", "America/New_York") as terminal:
        terminal.shows(lambda text: "EST" in text or "EDT" in text)
    for wrong in ((), ("@daily", "--id", "a"), ("gaga",), ("@daily", "--tz", "x")):
        assert alone.run("next", *wrong).code == 2


def test_pause_and_resume_in_bulk(ctl: Gozoctl) -> None:
    """A pattern pauses what it matches, and resumes what is paused of it; each is told."""
    for id_, subject in (("a", "jobs.a"), ("b", "jobs.b"), ("c", "other")):
        ctl.ok("create", id_, subject, "--in", "1h")
    assert ctl.run("pause", "--subject", "jobs.>").code == 2
    assert ctl.ok("pause", "--subject", "jobs.>", "--dry-run", "-o", "id").out.split() == ["a", "b"]
    assert ctl.ok("list", "--state", "paused", "-o", "id").out == ""
    done = ctl.ok("pause", "--subject", "jobs.>", "--yes", "--note", "why")
    assert done.rows == [["ID", "STATUS"], ["a", "paused"], ["b", "paused"]]
    found = ctl.ok("list", "--state", "paused", "-o", "json").json
    assert [(one["id"], one["reason"]) for one in found] == [("a", "why"), ("b", "why")]
    # What is paused already is not meant; by its id it may be paused again.
    assert ctl.ok("pause", "--all", "--yes", "-o", "id").out.split() == ["c"]
    assert ctl.ok("pause", "a").rows[1:] == [["a", "paused"]]
    done = ctl.run("resume", "a", "none")
    assert (done.code, done.rows[1:]) == (3, [["a", "resumed"], ["none", "not_found"]])
    assert ctl.ok("resume", "--id", "*", "--yes", "-o", "id").out.split() == ["b", "c"]
    piped = ctl.ok("pause", "-", "-o", "json", stdin=b"b\n").json
    assert piped == [{"id": "b", "status": "paused"}]


async def test_trigger(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """The daemon delivers it at once, paused or not, and the schedule stays; without one: 5."""
    server = servers.start()
    ctl = Gozoctl(tmp_path, server.url)
    arrivals = await (await clients.connect(server)).arrivals("jobs.a")
    ctl.ok("create", "a", "jobs.a", "full", "--at", "2099-12-24 18:00", "-y")
    nobody = ctl.run("trigger", "a")
    assert (nobody.code, nobody.out) == (5, "")
    assert "gozo serve" in nobody.err
    await daemons.serve(server)
    assert ctl.ok("trigger", "a").rows == [["ID", "STATUS"], ["a", "triggered"]]
    ctl.ok("pause", "a")
    assert ctl.ok("trigger", "a", "-o", "json").json == [{"id": "a", "status": "triggered"}]
    await arrivals.wait(2)
    assert arrivals.payloads == [b"full", b"full"]
    missing = ctl.run("trigger", "a", "b")
    assert (missing.code, missing.rows[2]) == (3, ["b", "not_found"])
    await arrivals.wait(3)
    (found,) = ctl.ok("list", "-o", "json").json
    assert (found["state"], found["due"]) == ("paused", "2099-12-24T17:00:00.000Z")
    ctl.ok("create", "b", "jobs.b", "--in", "1h", "--confirm")
    failed = ctl.run("trigger", "b")
    sent = ctl.ok("send", "c", "--cron", WEEKDAYS, "--count", "2", "--id", "c", "-o", "json").json
    assert (sent["id"], sent["time_zone"]) == ("c", "Europe/Berlin")
    assert ctl.ok("inspect", "c", "-o", "json").json["upcoming"][0] == sent["due"]
    assert ctl.run("send", "c", "--every", "1h").code == 2
    assert (failed.code, failed.rows[1]) == (1, ["b", "failed"])
    assert "no stream stores its subject" in failed.err
