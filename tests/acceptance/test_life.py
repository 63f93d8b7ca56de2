"""How a daemon starts and ends."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest

from tests.support.daemon import GOZO
from tests.support.patience import allow
from tests.support.processes import Clients, Daemons, Servers
from tests.support.readme import ROOT
from tests.support.terminal import Terminal

LONGEST_END = 10  # seconds from the signal to the end, as promised


async def test_ready_is_logged(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """Ready comes with the number of schedules pending, the seconds it took, and the role."""
    server = servers.start()
    first = await daemons.serve(server)
    ready = await first.ready()
    assert ready.level == "info"
    assert ready.fields["pending"] == "0"
    assert ready.fields["role"] == "leader"
    assert 0 <= float(ready.fields["seconds"]) < allow(5)

    client = await clients.connect(server)
    arrivals = await client.arrivals()
    for number in range(3):
        await client.schedule("+3600", reply=arrivals, id=f"n{number}")
    await client.schedule("+3600", reply="secret", id="invalid")
    await client.confirm()
    await first.terminate()
    second = await daemons.serve(server, "--deny", "secret")
    assert (await second.ready()).fields["pending"] == "3"
    assert (await second.event("daemon.leading")).fields["pending"] == "3"


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
async def test_signal(
    servers: Servers, daemons: Daemons, clients: Clients, signal_number: signal.Signals
) -> None:
    """SIGTERM and SIGINT end it with 0 within 10 s, said in the log, in the middle of work."""
    server = servers.start()
    daemon = await daemons.serve(server)
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    for number in range(2000):
        await client.schedule("+0.5", reply=arrivals, id=f"n{number}")
        await client.schedule("+60", reply=arrivals)
    await arrivals.wait(100)
    began = time.monotonic()
    daemon.send(signal_number)
    assert await daemon.wait() == 0
    assert time.monotonic() - began < LONGEST_END
    await daemon.event("daemon.stopped")


async def test_signal_at_once(servers: Servers, daemons: Daemons) -> None:
    """A signal that comes as soon as the daemon is ready ends it in the same way."""
    server = servers.start()
    for _ in range(3):
        daemon = await daemons.serve(server)
        assert await daemon.terminate() == 0


async def test_second_signal(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """While the end waits for a server that does not answer, a second signal ends it at once."""
    server = servers.start()
    daemon = await daemons.serve(server)
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    for _ in range(100):
        await client.schedule("+3600", reply=arrivals)
    await client.confirm()
    server.freeze()
    daemon.send(signal.SIGTERM)
    daemon.send(signal.SIGINT)  # another signal: two of one kind may be seen as one
    began = time.monotonic()
    await daemon.wait()
    assert time.monotonic() - began < allow(0.5)
    server.thaw()


async def test_hang_ups(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """SIGHUP, however often and beside SIGTERM, ends it in order: nothing in memory is lost."""
    server = servers.start()
    daemon = await daemons.serve(server)
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    for _ in range(10):
        await client.schedule("+3", reply=arrivals)
    await client.confirm()
    server.freeze()  # so that the end waits
    daemon.send(signal.SIGHUP)
    await daemon.event("daemon.signal", signal="SIGHUP")
    daemon.send(signal.SIGHUP)
    daemon.send(signal.SIGTERM)
    server.thaw()
    assert await daemon.wait() == 0
    await daemons.serve(server)
    await arrivals.wait(10)


async def test_terminal_is_closed(servers: Servers, clients: Clients, tmp_path: Path) -> None:
    """A daemon whose terminal goes, and with it whoever read what it says, ends in order too."""
    server = servers.start()
    client = await clients.connect(server)
    command = [*GOZO, "serve", "--address", server.url]
    with Terminal(command, {"HOME": str(tmp_path)}, ROOT) as terminal:
        await asyncio.to_thread(terminal.shows, "daemon.ready")
        before = await client.stored()
        await client.schedule("+3600", reply="to")
        await client.confirm()
        terminal.hang_up()
        await asyncio.to_thread(terminal.ends)
    assert await client.stored() == before + 1


async def test_nohup(servers: Servers, daemons: Daemons) -> None:
    """Where SIGHUP is ignored, as nohup(1) has it, it goes on."""
    address = servers.start().url
    daemon = daemons.start("serve", "--address", address, program=("nohup", *GOZO))
    await daemon.ready()
    daemon.send(signal.SIGHUP)
    assert await daemon.terminate() == 0
    assert (await daemon.event("daemon.signal")).fields["signal"] == "SIGTERM"


async def test_signal_without_a_server(servers: Servers, daemons: Daemons) -> None:
    """A daemon whose server has gone still ends within 10 s."""
    server = servers.start()
    daemon = await daemons.serve(server)
    server.kill()
    await daemon.event("connection.lost")
    began = time.monotonic()
    daemon.send(signal.SIGTERM)
    await daemon.wait()
    assert time.monotonic() - began < LONGEST_END


async def test_another_buckets_daemon(servers: Servers, daemons: Daemons) -> None:
    """A daemon refuses to share its request subject with the daemon of another bucket."""
    server = servers.start()
    await daemons.serve(server, "--bucket", "first_bucket")
    other = daemons.start("serve", "--address", server.url, "--bucket", "second_bucket")
    assert await other.wait() == 1
    said = other.stderr.splitlines()[-1]
    assert "first_bucket" in said
    assert "second_bucket" in said


async def test_two_apart(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """With a request subject and a bucket of its own, a second gozo lives beside the first."""
    server = servers.start()
    await daemons.serve(server)
    await daemons.serve(server, "--bucket", "other", "--request-subject", "other.gozo")
    one = await clients.connect(server)
    two = await clients.connect(server, request_subject="other.gozo", bucket="other")
    arrivals = await one.arrivals()
    await one.schedule("+0.4", reply=arrivals, id="same", payload=b"one")
    await two.schedule("+0.4", reply=arrivals, id="same", payload=b"two")
    await arrivals.wait(2)
    assert sorted(arrivals.payloads) == [b"one", b"two"]
