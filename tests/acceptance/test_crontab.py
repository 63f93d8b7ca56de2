"""Crontabs, moved to gozo: imported, applied, and run by the workers of hosts."""

from __future__ import annotations

import json
import os
import pwd
import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.support.daemon import Daemon
from tests.support.gozoctl import PROGRAM, Gozoctl
from tests.support.patience import until
from tests.support.processes import Daemons
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
set -- "$GOZO_ID" "${0##*/}" "$*" "$(echo $(cat))"
(IFS='|'; echo "$*" >>ran)
"""
"""Stands for every program of a crontab: notes what it was run for, and what it was given."""

ME = pwd.getpwuid(os.getuid()).pw_name


class Moved:
    """Crontabs of hosts, imported and applied, and a daemon whose clock can be set."""

    def __init__(self, server: NatsServer, daemons: Daemons, folder: Path) -> None:
        self._server = server
        self._daemons = daemons
        self._clock = WallClock(folder / "clock")
        self.ctl = Gozoctl(folder, server.url)

    async def serve(self) -> None:
        """Start the daemon."""
        arguments = ("serve", "--address", self._server.url)
        daemon = self._daemons.start(*arguments, variables=self._clock.variables)
        await daemon.event("daemon.leading")

    def import_(self, crontab: str, host: str, *options: str) -> tuple[str, str]:
        """Import a crontab, whose programs run in a folder of the host; return file and errors.

        Whatever cannot be converted, the file is complete.
        """
        (self.ctl.home / host).mkdir(exist_ok=True)
        text = f"PATH={self.ctl.path}\nHOME={self.ctl.home / host}\n{crontab}"
        name = () if "--shared" in options else ("--host", host)
        arguments = ("import-crontab", "-", "--time-zone", "Europe/Malta", *name, *options)
        done = self.ctl.run(*arguments, stdin=text.encode())
        assert done.code == (1 if done.err else 0)
        return done.out, done.err

    def apply(self, file: str, *options: str) -> list[str]:
        """Apply a file; return the ids of what changed, with what was done."""
        done = self.ctl.ok("apply", "-", *options, stdin=file.encode())
        return [" ".join(row[:2]) for row in done.rows[1:]]

    async def work(self, file: str, host: str) -> Daemon:
        """Start a host's worker on a file."""
        worker = self._daemons.start(
            *("worker", "cron.toml", "--host", host),
            variables={"NATS_ADDRESS": self._server.url},
            files={"cron.toml": file},
            program=PROGRAM,
        )
        await worker.event("worker.ready")
        return worker

    def pass_time(self) -> None:
        """Let a year pass."""
        self._clock.set(YEAR)

    def ran(self, host: str) -> list[list[str]]:
        """Return what programs have noted on a host: id, name, arguments, input."""
        path = self.ctl.home / host / "ran"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line.split("|") for line in lines]


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    """Run a server for all tests; their ids differ."""
    with NatsServer() as server:
        yield server


@pytest.fixture
async def moved(server: NatsServer, daemons: Daemons, tmp_path: Path) -> Moved:
    """A daemon, and nothing applied yet."""
    moved = Moved(server, daemons, tmp_path)
    await moved.serve()
    return moved


async def test_each_occurrence_runs_once(moved: Moved) -> None:
    """On one of two hosts that share it, at the times and with the input that the crontab says."""
    for name in (*DUE, "tidy"):
        moved.ctl.program(name, NOTE)
    file, left_out = moved.import_(CRONTAB, "all", "--shared", "all", "--misfire", "once")
    assert [line.split(":")[2] for line in left_out.splitlines()] == ["13"]
    assert "@reboot is not a time" in left_out
    moved.apply(file)
    workers = [await moved.work(file, host) for host in ("web1", "web2")]
    moved.pass_time()
    names = {*DUE, "tidy"}
    await until(lambda: {name for _, name, _, _ in moved.ran("all")} == names, "all have run")
    ran = moved.ran("all")
    assert Counter(name for _, name, _, _ in ran) == dict.fromkeys(names, 1)
    for id_, name, arguments, given in ran:
        if name == "tidy":
            assert id_ == f"all.{ME}.sync"
            continue
        assert id_ == f"all.{ME}.{name}"
        assert (arguments, given) == (ARGUMENTS.get(name, arguments), GIVEN.get(name, ""))
    assert (moved.ctl.home / "all" / "backup.log").exists()
    started = [one.fields for worker in workers for one in worker.events("job.started")]
    assert len(started) == len(DUE)
    for fields in started:
        name = fields["id"].rpartition(".")[2]
        zone = ZoneInfo("Asia/Tokyo" if name in ("tokyo", "close-month") else "Europe/Malta")
        told = f"{datetime.fromisoformat(fields['due']).astimezone(zone):%a %d %b %H:%M}"
        assert re.fullmatch(DUE[name], told), f"{name}: {told}"


async def test_two_hosts(moved: Moved) -> None:
    """The same crontab of two hosts: each has its own schedules, and runs its own commands only."""
    moved.ctl.program("backup", NOTE)
    crontab = "0 2 * * * backup $HOME\n30 2 * * * backup --other\n"
    files = {host: moved.import_(crontab, host)[0] for host in ("web1", "web2")}
    for host, file in files.items():
        ids = [f"{host}.{ME}.backup", f"{host}.{ME}.backup-2"]
        assert moved.apply(file, "--prune") == [f"create {one}" for one in ids]
    for file in files.values():
        assert moved.apply(file, "--prune") == []  # as it is applied again and again
    for host, file in files.items():
        await moved.work(file, host)
    for host in files:
        moved.ctl.ok("trigger", f"{host}.{ME}.backup")
    for host in files:
        await until(lambda host=host: len(moved.ran(host)) == 1, f"{host} has run its own")
        folder = str(moved.ctl.home / host)
        assert moved.ran(host) == [[f"{host}.{ME}.backup", "backup", folder, ""]]
    shorter, _ = moved.import_("0 2 * * * backup $HOME", "web1")
    assert moved.apply(shorter, "--prune") == [f"remove web1.{ME}.backup-2"]
    assert moved.apply(files["web2"]) == []


async def test_what_was_missed(moved: Moved) -> None:
    """It is skipped, as cron does."""
    moved.ctl.program("late", NOTE)
    file, _ = moved.import_("@hourly late", "web3")
    moved.apply(file)
    await moved.work(file, "web3")
    id_ = f"web3.{ME}.late"
    before = moved.ctl.ok("inspect", id_, "-o", "json").json["due"]
    moved.pass_time()

    def is_later() -> bool:
        return bool(moved.ctl.ok("inspect", id_, "-o", "json").json["due"] > before)

    await until(is_later, "it is due at another time")
    moved.ctl.ok("trigger", id_)
    await until(lambda: bool(moved.ran("web3")), "it runs")
    assert len(moved.ran("web3")) == 1


async def test_a_system_crontab(moved: Moved) -> None:
    """Each line runs as its user, and files of one host have sets of their own."""
    moved.ctl.program("tidy", NOTE)
    (moved.ctl.home / "web4").mkdir()
    names = ["first", "second"]
    for name in names:
        lines = f"PATH={moved.ctl.path}\nHOME={moved.ctl.home / 'web4'}\n@daily {ME} tidy {name}\n"
        (moved.ctl.home / name).write_text(lines)
        done = moved.ctl.ok("import-crontab", name, "--system", "--host", "web4")
        assert f'user = "{ME}"' in done.out
        id_ = f"web4.{ME}.{name}.tidy"
        assert moved.apply(done.out, "--prune") == [f"create {id_}"]
        await moved.work(done.out, "web4")
        moved.ctl.ok("trigger", id_)
    await until(lambda: [one[2] for one in moved.ran("web4")] == names, "both have run")
    wrong = moved.ctl.run("import-crontab", "-", stdin=b"@daily root tidy\n@daily tidy\n")
    assert wrong.code == 1
    assert "the user root: give --system" in wrong.err
    assert wrong.out.count("[schedules") == 1


async def test_the_pipeline(moved: Moved) -> None:
    """As it is printed, on whatever host this is."""
    moved.ctl.program("crontab", "#!/bin/sh\necho '@reboot x'; echo '@daily backup --full'")
    pipeline = "crontab -l | gozoctl import-crontab - > cron.toml; gozoctl apply cron.toml"
    done = moved.ctl.shell(pipeline)
    assert done.code == 0
    (row,) = done.rows[1:]
    assert row[0] == "create"
    found = json.loads(moved.ctl.ok("inspect", row[1], "-o", "json").out)
    assert (found["set"], found["confirm"]) == (f"cron.{row[1].rpartition('.')[0]}", "claim")
    assert moved.ctl.ok("diff", "cron.toml").out == ""
