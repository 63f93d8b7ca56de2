"""Under systemd: the unit, readiness, the watchdog, and logs as the journal wants them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gozo.client import Client
from gozo.daemon.daemon import Daemon as Replica
from gozo.monitoring.systemd import Notifier
from gozo.settings.model import ConnectionSettings, ServeSettings
from gozo.store.follower import Follower
from gozo.transport.dialer import Dialer
from tests.support.hosts import Hosts, table
from tests.support.patience import allow, until
from tests.support.processes import Daemons, Servers
from tests.support.programs import require_program
from tests.support.readme import ROOT
from tests.support.server import NatsServer

DATA = ROOT / "gozo" / "data"
UNIT = DATA / "gozo.service"
INSTALLED = "/opt/gozo/bin/gozo"
UNITS = [("gozo.service", " serve"), ("gozo-worker@.service", "ctl worker /etc/gozo/%i.toml")]
BRIEFLY = 1_000_000  # microseconds that the watchdog waits


class Manager:
    """The socket on which systemd would be told."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(0)
        self.told: list[str] = []

    def look(self) -> list[str]:
        """Return all words that were told so far."""
        while True:
            try:
                self.told += self._socket.recv(65_536).decode().split("\n")
            except BlockingIOError:
                return self.told

    async def hears(self, word: str | Callable[[str], bool]) -> None:
        """Wait for a word that was not told before."""
        seen = len(self.look())
        is_meant = (lambda told: told == word) if isinstance(word, str) else word
        await until(lambda: any(map(is_meant, self.look()[seen:])), f"{word} is told")

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Name a socket in both ways that there are."""
    return str(tmp_path / "notify") if request.param == "path" else f"@gozo-test-{os.getpid()}"


@pytest.fixture
def manager(address: str) -> Iterator[Manager]:
    """Listen there."""
    manager = Manager(address)
    yield manager
    manager.close()


@pytest.mark.parametrize(("name", "arguments"), UNITS)
def test_unit(tmp_path: Path, name: str, arguments: str) -> None:
    """The manager itself has nothing to say about the units that a package brings."""
    program = require_program("systemd-analyze", package="systemd")
    text = (DATA / name).read_text("utf-8")
    assert f"ExecStart={INSTALLED}{arguments}" in text
    gozo = Path(sys.executable).with_name("gozo")
    path = tmp_path / name
    path.write_text(text.replace(INSTALLED, str(gozo)))
    done = subprocess.run(
        [program, "verify", "--recursive-errors=yes", path],
        env={"PATH": os.environ["PATH"], "MANPATH": str(ROOT / "man")},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.stderr, done.returncode) == ("", 0)


async def test_a_worker_is_ready(gozo: Client, hosts: Hosts, tmp_path: Path) -> None:
    """Once it hears messages; a service manager is told of its end too."""
    manager = Manager(str(tmp_path / "notify"))
    text = table("notified", "true")
    worker = await hosts.start(text, variables={"NOTIFY_SOCKET": str(tmp_path / "notify")})
    assert manager.look() == ["READY=1"]
    assert await worker.terminate() == 0
    assert manager.look() == ["READY=1", "STOPPING=1"]
    manager.close()


async def test_server_away_at_the_start(daemons: Daemons, tmp_path: Path) -> None:
    """As the unit starts it, it waits a minute for a server; systemd lets it, and says for what."""
    manager = Manager(str(tmp_path / "notify"))
    settings = re.findall(r"^Environment=(GOZO_\w+)=(.*)$", UNIT.read_text("utf-8"), re.MULTILINE)
    variables = {"NOTIFY_SOCKET": str(tmp_path / "notify"), **dict(settings)}
    with NatsServer() as server:
        server.stop()
        daemon = daemons.start("serve", "--address", server.url, variables=variables)
        assert (await daemon.event("connection.failed")).fields["wait_s"] == "60"
        await manager.hears(lambda word: word.startswith("EXTEND_TIMEOUT_USEC="))
        waits = f"STATUS=it is waiting for a server: {server.url} does not answer"
        await until(lambda: manager.look()[-1].startswith(waits), "what it waits for is told last")
        server.start()
        await manager.hears("READY=1")
        assert len(daemon.events("connection.failed")) == 1
    manager.close()


async def test_ready_and_stopping(
    servers: Servers, daemons: Daemons, manager: Manager, address: str
) -> None:
    """It is ready once it leads, feeds the watchdog from then on, and tells of its end."""
    server = servers.start()
    variables = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": str(BRIEFLY)}
    daemon = daemons.start("serve", "--address", server.url, variables=variables)
    await manager.hears("READY=1")
    assert daemon.events("daemon.leading")
    told = manager.look()
    assert any(word.startswith("EXTEND_TIMEOUT_USEC=") for word in told[: told.index("READY=1")])
    await manager.hears("WATCHDOG=1")
    await manager.hears("WATCHDOG=1")
    assert "STATUS=leading, 0 schedules pending" in manager.look()
    assert await daemon.terminate() == 0
    assert manager.look().count("READY=1") == 1
    assert "STOPPING=1" in manager.told


async def test_not_ready(servers: Servers, daemons: Daemons, tmp_path: Path) -> None:
    """What cannot start is never ready."""
    manager = Manager(str(tmp_path / "notify"))
    server = servers.start(jetstream=False)
    variables = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    daemon = daemons.start("serve", "--address", server.url, variables=variables)
    assert await daemon.wait() == 1
    assert "READY=1" not in manager.look()
    manager.close()


async def test_busy_manager(servers: Servers, tmp_path: Path) -> None:
    """What a manager cannot take at the moment is told again: a start is not forgotten."""
    address = str(tmp_path / "notify")
    manager = Manager(address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as others:
        others.setblocking(False)
        with contextlib.suppress(BlockingIOError):  # that is, until it can take no more
            while True:
                others.sendto(b"STATUS=of another service", address)
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": str(BRIEFLY)})
    async with replica(servers.start()) as daemon:
        telling = asyncio.create_task(notifier.run(daemon._health))
        await asyncio.sleep(0)  # it has been told once, in vain
        await manager.hears("READY=1")
        assert "STATUS=leading, 0 schedules pending" in manager.look()
        telling.cancel()
    manager.close()


async def test_server_away(servers: Servers, daemons: Daemons, tmp_path: Path) -> None:
    """A server that ends or freezes is no reason to end the daemon: it goes on trying."""
    manager = Manager(str(tmp_path / "notify"))
    server = servers.start()
    variables = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": str(BRIEFLY)}
    daemon = daemons.start("serve", "--address", server.url, variables=variables)
    await manager.hears("READY=1")
    server.stop()
    await daemon.event("connection.lost")
    await manager.hears("STATUS=the main connection is lost")
    await manager.hears("WATCHDOG=1")
    server.start()
    await manager.hears(lambda word: word.startswith("STATUS=leading"))
    server.freeze()
    await daemon.event("connection.lost", reason="the server does not answer")
    await manager.hears("WATCHDOG=1")
    server.thaw()
    manager.close()


async def test_loop_hangs(servers: Servers, daemons: Daemons, tmp_path: Path) -> None:
    """A process that does not come round feeds nobody; and it does again once it does."""
    manager = Manager(str(tmp_path / "notify"))
    variables = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": str(BRIEFLY)}
    url = servers.start().url
    daemon = daemons.start("serve", "--address", url, variables=variables)
    await manager.hears("READY=1")
    daemon.send(signal.SIGSTOP)
    await until(lambda: _state(daemon.pid) == "T", "the daemon stands still")
    before = len(manager.look())
    await asyncio.sleep(BRIEFLY / 1_000_000)  # nothing is told: only time shows it
    assert len(manager.look()) == before
    daemon.send(signal.SIGCONT)
    await manager.hears("WATCHDOG=1")
    manager.close()


@asynccontextmanager
async def replica(server: NatsServer) -> AsyncIterator[Replica]:
    """Run a daemon in this process, where a part of it can be made to hang."""
    settings = ServeSettings(ConnectionSettings(addresses=(server.url,)), name="hanging")
    thresholds = gc.get_threshold()
    daemon = Replica(settings)
    try:
        await daemon.start(asyncio.Event())
        yield daemon
    finally:
        await daemon.shut_down()
        gc.unfreeze()
        gc.set_threshold(*thresholds)


async def _forever(*_: Any) -> Any:
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    ("owner", "method", "part"),
    [(Follower, "_start", "follower"), (Dialer, "redial", "main connection")],
)
async def test_part_hangs(
    servers: Servers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    method: str,
    part: str,
) -> None:
    """Where the follower or a connection hangs, the watchdog is not fed any more."""
    manager = Manager(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", str(BRIEFLY))
    monkeypatch.setattr("gozo.monitoring.health.HUNG", 1.5)
    async with replica(servers.start()) as daemon:
        await manager.hears("WATCHDOG=1")
        with monkeypatch.context() as patch:
            patch.setattr(owner, method, _forever)
            daemon.connections.main.drop("a test")
            await manager.hears(f"STATUS=the {part} hangs")
            before = manager.look().count("WATCHDOG=1")
            await asyncio.sleep(BRIEFLY / 1_000_000)  # only time shows it
            assert manager.look().count("WATCHDOG=1") == before
    manager.close()


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _logged(url: str, *options: str, as_journal: bool) -> list[str]:
    """Return what a daemon that cannot start writes to the pipe that systemd would give it."""
    reading, writing = os.pipe()
    status = os.fstat(writing)
    variables = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    if as_journal:
        variables["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
    with os.fdopen(reading, encoding="utf-8") as log:
        command = [sys.executable, "-m", "gozo", "serve", "--address", url, *options]
        with subprocess.Popen(command, stderr=writing, env=variables, cwd=ROOT) as process:
            os.close(writing)
            lines = log.read().splitlines()
            process.wait(allow(10))
    return lines


def test_journal(servers: Servers) -> None:
    """There a line has its priority instead of a level, and no second time; elsewhere both."""
    server = servers.start(jetstream=False)
    *events, last = _logged(server.url, as_journal=True)
    assert events[0].startswith("<6>connection.made ")
    assert events[-1].startswith("<3>daemon.failed ")
    assert last.startswith("<3>gozo: ")
    assert " error daemon.failed " in _logged(server.url, as_journal=False)[-2]


def test_json(servers: Servers) -> None:
    """Each event is an object, with time, level, event and its fields."""
    server = servers.start(jetstream=False)
    *events, last = _logged(server.url, "--log-format", "json", as_journal=False)
    made, *_, failed = map(json.loads, events)
    assert (made["level"], made["event"]) == ("info", "connection.made")
    assert made["server"] == server.name
    assert made["time"].endswith("Z")
    assert (failed["level"], failed["event"]) == ("error", "daemon.failed")
    assert failed["reason"] == last.removeprefix("gozo: ")
