"""Two hosts move their crontabs to gozo, and much goes wrong: a third machine knows all of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import chain
from pathlib import Path

import pytest

from gozo.client import Client, Event, Outcome
from gozoctl.worker.mail import SENDMAIL
from tests.support.crontab_host import ME, CrontabHost
from tests.support.daemon import Daemon
from tests.support.gozoctl import Gozoctl
from tests.support.patience import allow, until
from tests.support.processes import Daemons, Servers
from tests.support.programs import require_program
from tests.support.server import NatsServer

CRONTAB = """\
# Edit this file to introduce tasks to be run by cron.
HOME={home}
PATH={home}/bin:/usr/bin:/bin
MAILTO=ops@example.com

0 {hour} * * * backup --full
30 {hour} * * sun logrotate /etc/logrotate.conf
RANDOM_DELAY=60
17 {hour} * * * certbot renew -q
RANDOM_DELAY=0
0 {hour} * * * health ping
0 {hour} 1 * * greet everybody%Hello, 100\\% of you.
15 {hour} * * mon-fri flock -n $HOME/lock sync-files
MAILTO=boss@example.com
0 {hour} * * mon report --weekly
MAILTO=""
PATH={home}/opt:/usr/bin:/bin
45 {hour} * * * tool --own-path
"""
"""Eight jobs, none of which is due by itself while the test runs."""

COMMANDS = {
    "backup": "backup --full|",
    "logrotate": "logrotate /etc/logrotate.conf|",
    "certbot": "certbot renew -q|",
    "health": "health ping|",
    "greet": "greet everybody|Hello, 100% of you.",
    "flock": "sync-files |",
    "report": "report --weekly|",
    "tool": "tool --own-path|",
}
"""What each line runs, and the input."""

ENDS = ("succeeded", "failed", "skipped", "missed", "overdue", "alert")


class ThirdMachine:
    """What is known of hosts where none of this runs; `alerts` is a file to which they come."""

    def __init__(self, client: Client, ctl: Gozoctl, alerts: Path) -> None:
        self.client = client
        self.ctl = ctl
        self._alerts = alerts

    @property
    def alerts(self) -> list[tuple[str, str]]:
        """The ids and outcomes of alerts, as they came."""
        lines = self._alerts.read_text().splitlines() if self._alerts.exists() else []
        found = [json.loads(line) for line in lines]
        return [(one["id"], one["outcome"]) for one in found]

    async def outcomes(self, id_: str) -> list[Outcome]:
        """Return how the runs of a schedule ended."""
        return [one async for one in self.client.outcomes(id_)]

    async def ended(self, *ids: str, count: int = 1) -> None:
        """Wait until as many runs of each have ended."""
        for id_ in ids:

            async def have_ended(id_: str = id_) -> bool:
                return len(await self.outcomes(id_)) >= count

            await until(have_ended, f"{count} runs of {id_} end", allow(15))

    async def history(self) -> list[Event]:
        """Return what happened."""
        return [one async for one in self.client.history()]


@pytest.fixture
def server(servers: Servers) -> NatsServer:
    """The server of all."""
    return servers.start()


@pytest.fixture
def hosts(server: NatsServer, daemons: Daemons, tmp_path: Path) -> list[CrontabHost]:
    """Two hosts."""
    return [CrontabHost(name, server, daemons, tmp_path) for name in ("amber", "birch")]


@pytest.fixture
async def third(
    server: NatsServer, daemons: Daemons, tmp_path: Path
) -> AsyncIterator[ThirdMachine]:
    """A machine that is neither, where a program is called with each alert."""
    alerts = tmp_path / "alerts"
    notify = f"(cat; echo) >>'{alerts}'"
    await daemons.work(server, "gozo.event.alert.>", "--", "/bin/sh", "-c", notify)
    async with await Client.connect(server.url) as client:
        yield ThirdMachine(client, Gozoctl(tmp_path, server.url), alerts)


@pytest.mark.skipif(Path(SENDMAIL).exists(), reason="this host would send mail")
async def test_two_hosts_move(
    server: NatsServer,
    hosts: list[CrontabHost],
    third: ThirdMachine,
    daemons: Daemons,
    tmp_path: Path,
) -> None:
    """Each job runs once, on its host; what fails, hangs, overlaps or is not done is known."""
    require_program("flock", package="util-linux")
    amber, birch = hosts
    daemon = await daemons.serve(server, "--history", "1d")
    workers = await _moved(amber, birch)

    # One fails, one hangs, one is still running when it is due again.
    quick = ("logrotate", "greet", "tool")
    ids = [host.id(name) for host in hosts for name in quick]
    ids += [birch.id("certbot"), birch.id("health")]
    ids += [amber.id(name) for name in ("backup", "certbot", "flock")]
    await third.client.trigger(*ids)
    await third.ended(amber.id("health"), count=2)  # skipped, while the first one runs
    overdue = (amber.id("health"), "overdue")
    await until(lambda: overdue in third.alerts, "it is overdue")
    await third.client.pause(amber.id("health"))
    amber.let_go("health-ends")
    await third.ended(*ids)

    # One host dies in the middle of a job, and is away when two others are due.
    await third.client.trigger(amber.id("report"), birch.id("backup"))
    await amber.ran("report")
    await until((birch.home / "pid").exists, "the backup of birch runs")
    await workers[1].kill()
    await third.client.trigger(birch.id("report"), birch.id("flock"))
    await third.ended(birch.id("backup"), birch.id("report"))

    # The daemon is restarted while a job runs and another waits for its host.
    assert await daemon.terminate() == 0
    await daemons.serve(server, "--history", "1d")
    amber.let_go("report-ends", "sales doubled")
    worker = await birch.work()
    await third.ended(amber.id("report"), birch.id("flock"))

    async def has_ended() -> bool:
        return (await third.outcomes(amber.id("health")))[-1].reason == "succeeded"

    await until(has_ended, "the job that was due again has ended")
    dead = Path("/proc") / (birch.home / "pid").read_text().strip()
    await until(lambda: not dead.exists(), "the command of the dead worker has ended")
    await until(lambda: len(third.alerts) == 5, "all alerts came")
    await until(lambda: len(amber.mail) == 3, "all mail was sent")
    await _knows_all(third, amber, birch)
    _ran_once(tmp_path, amber, birch)
    _was_mailed(amber, birch)

    # One host goes back to cron.
    await worker.terminate()
    birch.ctl.ok("cancel", "--yes", "--subject", f"cron.birch.{ME}.>")
    assert set(birch.ctl.ok("list", "-o", "id").out.split()) == set(map(amber.id, COMMANDS))


async def _moved(amber: CrontabHost, birch: CrontabHost) -> list[Daemon]:
    """Move both crontabs, prepare what will go wrong, and return the workers."""
    hour = (datetime.now(UTC) + timedelta(hours=12)).hour
    for host in (amber, birch):
        for name in ("logrotate", "certbot", "health", "greet", "sync-files", "tool"):
            host.program(name)
        host.program("tool", folder="opt")
        host.move(CRONTAB.format(home=host.home, hour=hour))
    amber.program("backup", "echo disk full >&2; exit 3")
    amber.program("certbot", "sleep 1000")
    amber.program("health", amber.waits("health-ends"))
    amber.program("report", amber.waits("report-ends"))
    birch.program("backup", 'echo $$ >"$HOME/pid"; sleep 1000')
    birch.program("report")
    workers = [await host.work() for host in (amber, birch)]
    health = {"when": "@every 500ms", "expect": "1s"}
    await amber.edit(workers[0], {"certbot": {"timeout": "1s"}, "health": health})
    await birch.edit(workers[1], {"backup": {"ack-wait": "3s"}, "report": {"max-age": "1s"}})
    return workers


async def _knows_all(third: ThirdMachine, amber: CrontabHost, birch: CrontabHost) -> None:
    skipped = len(await third.outcomes(amber.id("health"))) - 1
    good = ("succeeded", 0)
    expected: dict[str, list[tuple[str, int | None]]] = {
        host.id(name): [good] for host in (amber, birch) for name in COMMANDS
    }
    expected |= {
        amber.id("backup"): [("failed", 3)],
        amber.id("certbot"): [("failed", 124)],
        amber.id("health"): [*[("skipped", None)] * skipped, good],
        birch.id("backup"): [("unanswered", None)],
        birch.id("report"): [("nobody", None)],
    }
    found = {id_: await third.outcomes(id_) for id_ in expected}
    ends = {id_: [(one.reason, one.exit_status) for one in found[id_]] for id_ in found}
    assert ends == expected
    runs = third.ctl.ok("runs", "-o", "json").json
    assert Counter((one["id"], one["outcome"], one["exit_status"]) for one in runs) == Counter(
        (id_, *end) for id_, all_ in expected.items() for end in all_
    )
    for one in chain(*found.values()):
        assert one.host == ("" if one.exit_status is None else str(one.id).partition(".")[0])
        assert one.attempt == (0 if one.reason in ("skipped", "nobody") else 1), one
    assert found[amber.id("backup")][0].detail == "exit code 3"
    assert await third.client.output(amber.id("backup")) == b"disk full\n"
    assert found[amber.id("certbot")][0].detail == "timed out after 1 s"
    assert await third.client.output(amber.id("report")) == b"sales doubled\n"

    failures = [(amber.id("health"), "overdue")] + [
        (id_, outcome)
        for id_, outcomes in expected.items()
        for outcome, _ in outcomes
        if outcome not in ("succeeded", "skipped")
    ]
    assert len(failures) == 5
    assert Counter(third.alerts) == Counter(failures)
    failing = third.ctl.run("status", "--failing", "-o", "json")
    assert failing.code == 1
    # What was overdue has succeeded since.
    assert Counter((one["id"], one["result"]) for one in failing.json) == Counter(failures[1:])
    wanted = Counter((id_, "alert") for id_, _ in failures)
    wanted[failures[0]] += 1
    for id_, outcomes in expected.items():
        wanted.update((id_, one if one in ENDS else "failed") for one, _ in outcomes)
    events = await third.history()
    assert Counter((one.id, one.kind) for one in events if one.kind in ENDS) == wanted


def _ran_once(folder: Path, amber: CrontabHost, birch: CrontabHost) -> None:
    lines = (folder / "ran").read_text().splitlines()
    wanted: Counter[str] = Counter()
    for host in (amber, birch):
        for name, command in COMMANDS.items():
            bin_ = host.home / ("opt" if name == "tool" else "bin")
            wanted[f"{host.name}|{host.id(name)}|{bin_}/{command}"] = 1
    bin_ = birch.home / "bin"
    del wanted[f"birch|{birch.id('report')}|{bin_}/{COMMANDS['report']}"]
    assert Counter(lines) == wanted


def _was_mailed(amber: CrontabHost, birch: CrontabHost) -> None:
    assert not birch.mail
    found = {(mail["To"], mail["Subject"], str(mail.get_payload())) for mail in amber.mail}
    ops, boss = "ops@example.com", "boss@example.com"
    timed_out = "timed out after 1 s"
    assert found == {
        (ops, f"gozo: {amber.id('backup')} on amber: exit code 3", "disk full\n"),
        (
            ops,
            f"gozo: {amber.id('certbot')} on amber: {timed_out}",
            f"{timed_out}, without output\n",
        ),
        (boss, f"gozo: {amber.id('report')} on amber: succeeded", "sales doubled\n"),
    }
