"""No server at the start, the wrong kind of server, and a server that goes away later."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from nats.js.api import StorageType

from tests.support.client import Client
from tests.support.gozoctl import Gozoctl
from tests.support.patience import allow, until, wall_clock
from tests.support.processes import Clients, Daemons, Servers
from tests.support.server import HOST, free_port
from tests.support.service import known_to_have_arrived

FAILED = 1
NO_SERVER = 5
LONGEST_START = 5  # seconds until it gives up, as promised
LONGEST_END = 10  # seconds from the signal to the end, as promised


@pytest.fixture
def silent() -> Iterator[str]:
    """Accept connections and never say a word; return the address."""
    with socket.create_server((HOST, 0)) as listener:
        yield f"nats://{HOST}:{listener.getsockname()[1]}"


class Mailbox:
    """A stream that keeps what gozo sends, whether or not the test's client is connected."""

    def __init__(self, client: Client) -> None:
        self._streams = client.nats.jetstream()

    async def open(self) -> None:
        """Create the stream, for the subjects `kept.*`."""
        await self._streams.add_stream(
            name="kept", subjects=["kept.*"], storage=StorageType.FILE, allow_direct=True
        )

    async def payloads(self) -> list[bytes]:
        """Return what has come so far, in order."""
        state = (await self._streams.stream_info("kept")).state
        found = [await self._streams.get_msg("kept", n + 1) for n in range(state.messages)]
        return [message.data or b"" for message in found]

    async def holds(self, wanted: set[bytes]) -> None:
        """Wait until all of these have come."""

        async def all_there() -> bool:
            return wanted <= set(await self.payloads())

        await until(all_there, f"{wanted} in the stream", allow(15))


def address() -> str:
    """Return an address where nobody listens."""
    return f"nats://{HOST}:{free_port()}"


async def test_nobody_listens(daemons: Daemons) -> None:
    """It gives up within 5 s: exit code 5, and a sentence with the address and `--embedded`."""
    dead = address()
    began = time.monotonic()
    daemon = daemons.start("serve", "--address", dead)
    assert await daemon.wait() == NO_SERVER
    assert time.monotonic() - began < LONGEST_START
    said = daemon.stderr.splitlines()[-1]
    assert said.startswith("gozo: ")
    assert dead in said
    assert "--embedded" in said


async def test_several_addresses(daemons: Daemons, silent: str) -> None:
    """All addresses are named, those where somebody accepts and says nothing among them."""
    dead = [address(), silent, address()]
    began = time.monotonic()
    daemon = daemons.start("serve", "--address", ",".join(dead))
    assert await daemon.wait() == NO_SERVER
    assert time.monotonic() - began < LONGEST_START
    said = daemon.stderr.splitlines()[-1]
    assert [one for one in dead if one not in said] == []
    assert "--embedded" in said


async def test_behind_a_silent_address(servers: Servers, daemons: Daemons, silent: str) -> None:
    """A first address that accepts and says nothing does not keep it from the second."""
    server = servers.start()
    await daemons.start("serve", "--address", f"{silent},{server.url}").ready()


async def test_a_server_that_comes_later(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """With `--connect-timeout` it waits for a server that comes up after it."""
    port = free_port()
    url = f"nats://{HOST}:{port}"
    daemon = daemons.start("serve", "--address", url, "--connect-timeout", "60")
    told = await daemon.event("connection.failed")
    assert url in told.fields["reason"]
    server = servers.start(port=port)
    await daemon.ready()
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    await client.schedule("+0", reply=arrivals, id="x")
    await arrivals.wait()


async def test_signal_while_it_waits(daemons: Daemons) -> None:
    """While it waits for a server, a signal ends it at once and with 0: nothing is lost."""
    daemon = daemons.start("serve", "--address", address(), "--connect-timeout", "60")
    await daemon.event("connection.failed")
    began = time.monotonic()
    assert await daemon.terminate() == 0
    assert time.monotonic() - began < allow(1)


async def test_without_jetstream(servers: Servers, daemons: Daemons, tmp_path: Path) -> None:
    """A server without JetStream is not enough: exit code 1, and JetStream in the sentence."""
    server = servers.start(jetstream=False)
    began = time.monotonic()
    daemon = daemons.start("serve", "--address", server.url)
    assert await daemon.wait() == FAILED
    assert time.monotonic() - began < LONGEST_START
    said = daemon.stderr.splitlines()[-1]
    assert said.startswith("gozo: ")
    assert "JetStream" in said
    for command in ("list", "status", "history"):
        done = Gozoctl(tmp_path, server.url).run(command)
        assert (done.code, done.err) == (FAILED, f"gozoctl: {said.removeprefix('gozo: ')}\n")


async def test_an_account_without_jetstream(
    servers: Servers, daemons: Daemons, tmp_path: Path
) -> None:
    """The same where the server has JetStream, and this user's account has not."""
    server = servers.start("""
        accounts {
            with { jetstream: enabled, users: [{user: other, password: x}] }
            without { users: [{user: me, password: x}] }
        }
    """)
    daemon = daemons.start("serve", "-a", server.url, "-u", "me", "-p", "x")
    assert await daemon.wait() == FAILED
    said = daemon.stderr.splitlines()[-1].removeprefix("gozo: ")
    assert "JetStream is not enabled for this account: set 'jetstream: enabled' there" in said
    for command in ("list", "status", "history"):
        done = Gozoctl(tmp_path, server.url).run(command, "-u", "me", "-p", "x")
        assert (done.code, done.err) == (FAILED, f"gozoctl: {said}\n")


@pytest.mark.parametrize("ending", ["SIGTERM", "SIGKILL"])
async def test_server_goes_away(
    servers: Servers, daemons: Daemons, clients: Clients, ending: str
) -> None:
    """The server ends while the daemon runs, and comes back: nothing is lost, all goes on.

    What fell due while it was away is sent at once, with an id and without; what is due
    later, later, and the daemon that lived through it takes requests.
    """
    server = servers.start()
    daemon = await daemons.serve(server)
    client = await clients.connect(server)
    mailbox = Mailbox(client)
    await mailbox.open()
    due = time.time() + 1
    await client.schedule(due, reply="kept.a", id="a", payload=b"away")
    await client.schedule(due, reply="kept.b", payload=b"away, without id")
    await client.schedule(due + 2, reply="kept.c", id="c", payload=b"later")
    await client.schedule(due + 2, reply="kept.d", payload=b"later, without id")
    await client.confirm()
    assert await mailbox.payloads() == []

    async def stored() -> bool:
        return await client.stored() >= 2

    await until(stored, "two schedules stored")
    if ending == "SIGTERM":
        server.stop()
    else:
        server.kill()
    await wall_clock(due)
    server.start()
    await client.confirm()
    await mailbox.holds({b"away", b"away, without id", b"later", b"later, without id"})

    await client.schedule("+0", reply="kept.e", id="e", payload=b"new")
    await client.schedule("+0", reply="kept.f", payload=b"new, without id")
    await mailbox.holds({b"new", b"new, without id"})
    assert await daemon.terminate() == 0
    # A broken connection may cost a second delivery, but not here: nothing was under way.
    assert len(await mailbox.payloads()) == 6


async def test_what_it_says_while_it_is_away(servers: Servers, daemons: Daemons) -> None:
    """While the server is away, the log says so once for each part that waits, and why."""
    server = servers.start()
    daemon = await daemons.serve(server)
    server.kill()
    await daemon.event("connection.lost")
    failed = await daemon.event("connection.failed")
    assert server.url in failed.fields["reason"]
    await asyncio.sleep(4)  # this is about what is said in a length of time
    for name in ("connection.failed", "follower.waiting", "lease.waiting"):
        events = daemon.events(name)
        assert events != []
        reasons = [event.fields["reason"] for event in events]
        assert len(reasons) == len(set(reasons)) <= 3
    server.start()
    await daemon.event("lease.acquired", since=daemon.mark())


async def test_signal_while_it_is_away(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """SIGTERM while the server is away: 0 within 10 s, since all is in the bucket."""
    server = servers.start()
    daemon = await daemons.serve(server)
    client = await clients.connect(server)
    await client.schedule("+3600", reply="kept.a", id="a")

    async def stored() -> bool:
        info = await client.nats.jetstream().stream_info("KV_gozo", subjects_filter=">")
        return "$KV.gozo.a" in (info.state.subjects or {})

    await until(stored, "the schedule is stored")
    server.kill()
    await daemon.event("connection.lost")
    began = time.monotonic()
    assert await daemon.terminate() == 0
    assert time.monotonic() - began < LONGEST_END

    server.start()
    second, third = daemons.start("serve", "-a", server.url), daemons.start("-a", server.url)
    for ready in await asyncio.gather(second.ready(), third.ready()):
        assert ready.fields["pending"] == "1"


async def test_signal_with_something_to_lose(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """With schedules in memory only, it still ends within 10 s, but says how many are lost."""
    server = servers.start()
    daemon = await daemons.serve(server)
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    for _ in range(3):
        await client.schedule("+3600", reply=arrivals)
    await client.schedule("+0", reply=arrivals)
    await arrivals.wait()  # requests are taken in order
    await known_to_have_arrived(client)
    server.kill()
    await daemon.event("connection.lost")
    began = time.monotonic()
    assert await daemon.terminate() == FAILED
    assert time.monotonic() - began < LONGEST_END
    assert "3 schedules" in daemon.stderr.splitlines()[-1]
