"""A crontab, moved to gozo: imported, applied, and run by workers that share its commands."""

from __future__ import annotations

import re
from collections import Counter
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from nats.js import api

from tests.support.daemon import Daemon
from tests.support.gozoctl import Gozoctl
from tests.support.patience import until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.server import NatsServer
from tests.support.wallclock import WallClock

YEAR = 366 * 86_400.0  # seconds

CRONTAB = r"""
# m   h       dom  mon     dow      command
*/10  8-18    *    *       mon-fri  poll --quick
0     3       *    *       *        LANG=C backup --full > backup.log 2>&1
30    2       1,15 *       *        clean spool
0     4       *    jan,JUL Sun      report "the half-year"
5-35/10 */2   *    *       *        sync; tidy
@daily                              rotate logs
@hourly                             probe

@reboot                             start-it
15    6       *    *       1-5      stamp +\%F
45    5       *    *       7        mail -s weekly root%Hello,%100\% of you.
CRON_TZ=Asia/Tokyo
0     9       *    *       *        tokyo
30    17      L    *       *        close-month
"""

DUE = {
    "poll": r"(Mon|Tue|Wed|Thu|Fri) .* (0[89]|1[0-8]):[0-5]0",
    "backup": r".* 03:00",
    "clean": r"... (01|15) .* 02:30",
    "report": r"Sun .. (Jan|Jul) 04:00",
    "sync": r".* .[02468]:(05|15|25|35)",
    "rotate": r".* 00:00",
    "probe": r".* ..:00",
    "stamp": r"(Mon|Tue|Wed|Thu|Fri) .* 06:15",
    "mail": r"Sun .* 05:45",
    "tokyo": r".* 09:00",
    "close-month": r"... (28|29|30|31) .* 17:30",
}
"""What the clocks of its zone show when each is due: weekday, day, month and time."""

ARGUMENTS = {
    "poll": "--quick",
    "clean": "spool",
    "report": "the half-year",
    "rotate": "logs",
    "stamp": "+%F",
    "mail": "-s weekly root",
    "backup": "--full",
}
GIVEN = {"mail": "Hello, 100% of you."}

NOTE = """#!/bin/sh
set -- "$GOZO_MESSAGE_ID" "$GOZO_MESSAGE_DUE" "${0##*/}" "$*" "$(echo $(cat))"
(IFS='|'; echo "$*" >>ran)
"""
"""Stands for every program of the crontab: notes what it was run for, and what it was given."""

HELD = """#!/bin/sh
echo "$GOZO_MESSAGE_ID $GOZO_MESSAGE_DUE" >>begun
n=0; until [ -e go ] || [ $n = 400 ]; do sleep 0.05; n=$((n+1)); done
echo "$GOZO_MESSAGE_ID $GOZO_MESSAGE_DUE" >>ended
"""
"""Runs until there is a file `go`; 20 s at most, should the test fail."""


class Moved:
    """A crontab that was imported and applied while a daemon runs, whose clock can be set."""

    def __init__(self, server: NatsServer, daemons: Daemons, folder: Path) -> None:
        self.server = server
        self._daemons = daemons
        self.clock = WallClock(folder / "clock")
        self.ctl = Gozoctl(folder, server.url)

    async def serve(self) -> None:
        """Start the daemon."""
        arguments = ("serve", "--address", self.server.url)
        daemon = self._daemons.start(*arguments, variables=self.clock.variables)
        await daemon.event("daemon.leading")

    def move(self, crontab: str, subject: str = "cron") -> str:
        """Import a crontab and apply it; return what was told of what is left out."""
        (self.ctl.home / "tab").write_text(crontab)
        zone = ("--time-zone", "Europe/Malta")
        done = self.ctl.ok("import-crontab", "tab", "--subject", subject, *zone)
        (self.ctl.home / "cron.toml").write_text(done.out)
        self.ctl.ok("apply", "cron.toml")
        return done.err

    async def work(self, *arguments: str) -> Daemon:
        """Start a worker that gives commands to a shell."""
        path = {"PATH": self.ctl.path}
        return await self._daemons.work(self.server, *arguments, "--", "/bin/sh", variables=path)

    def pass_time(self) -> None:
        """Let a year pass: all that fell due meanwhile comes once."""
        self.clock.set(YEAR)


@pytest.fixture
async def moved(servers: Servers, daemons: Daemons, tmp_path: Path) -> Moved:
    """A daemon, and nothing applied yet."""
    moved = Moved(servers.start(), daemons, tmp_path)
    await moved.serve()
    return moved


def noted(name: str, *workers: Daemon) -> list[str]:
    """Return the lines that programs have written to a file, in the folders of their workers."""
    paths = [worker.folder / name for worker in workers]
    return [line for path in paths if path.exists() for line in path.read_text().splitlines()]


async def test_each_occurrence_runs_once(moved: Moved) -> None:
    """On one of two workers, at the times and with the input that the crontab says."""
    for name in (*DUE, "tidy"):
        moved.ctl.program(name, NOTE)
    left_out = moved.move(CRONTAB)
    assert [line.split(":")[2] for line in left_out.splitlines()] == ["11"]
    assert "@reboot is not a time: skipped" in left_out
    workers = [await moved.work("cron") for _ in range(2)]
    moved.pass_time()
    await until(
        lambda: {line.split("|")[2] for line in noted("ran", *workers)} == {*DUE, "tidy"},
        "all have run",
    )
    ran = [line.split("|") for line in noted("ran", *workers)]
    assert Counter((due, name) for _, due, name, *_ in ran).most_common(1)[0][1] == 1
    for id_, due, name, arguments, given in ran:
        if name == "tidy":
            assert id_ == "sync"
            continue
        assert id_ == name
        assert (arguments, given) == (ARGUMENTS.get(name, arguments), GIVEN.get(name, ""))
        zone = ZoneInfo("Asia/Tokyo" if name in ("tokyo", "close-month") else "Europe/Malta")
        told = f"{datetime.fromisoformat(due).astimezone(zone):%a %d %b %H:%M}"
        assert re.fullmatch(DUE[name], told), f"{name}: {told}"
    assert any((worker.folder / "backup.log").exists() for worker in workers)
    assert all(noted("ran", worker) for worker in workers)


async def test_an_occurrence_outlives_its_worker(moved: Moved, clients: Clients) -> None:
    """Where a stream keeps it, it runs again on the other; the one that is done does not."""
    client = await clients.connect(moved.server)
    js = client.nats.jetstream()
    await js.add_stream(name="CRON", subjects=["cron"])
    await js.add_consumer(
        "CRON",
        durable_name="sh",
        filter_subject="cron",
        ack_policy=api.AckPolicy.EXPLICIT,
        ack_wait=0.5,
    )
    moved.ctl.program("backup", HELD)
    moved.move("@yearly backup --full")
    # What the dead worker leaves behind does not hold on to the output that the test reads.
    options = ("--stream", "CRON", "--consumer", "sh", "--log-output")
    workers = [await moved.work("cron", *options) for _ in range(2)]
    moved.pass_time()
    await until(lambda: len(noted("begun", *workers)) == 1, "one runs it")
    first, second = sorted(workers, key=lambda worker: -len(noted("begun", worker)))
    (second.folder / "go").touch()
    await first.kill()
    await second.event("command.ended", status="0", id="backup")
    assert noted("begun", first) == noted("begun", second) == noted("ended", second)

    async def is_done() -> bool:
        info = await js.consumer_info("CRON", "sh")
        return (info.num_pending, info.num_ack_pending) == (0, 0)

    await until(is_done, "it is acknowledged")
    (first.folder / "go").touch()
