"""`gozo serve --embedded`: a nats-server of its own, which ends whenever gozo does."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.support.client import Client
from tests.support.daemon import Daemon
from tests.support.false_server import FalseServer
from tests.support.gozoctl import Gozoctl
from tests.support.patience import allow, until, wall_clock
from tests.support.processes import Clients, Daemons, Servers
from tests.support.server import HOST, free_port, listens
from tests.support.service import known_to_have_arrived

AT_ONCE = 4  # seconds: less than a shutdown waits for a server that may come back


def embedded(daemons: Daemons, port: int, store: Path | None = None) -> Daemon:
    """Start gozo with a server of its own on a port."""
    options = [] if store is None else ["--store", str(store)]
    return daemons.start("serve", "--embedded", "-a", f"nats://{HOST}:{port}", *options)


async def connected(clients: Clients, daemon: Daemon) -> Client:
    """Connect with the token that the daemon made for its server."""
    ready = (await daemon.event("embedded.ready")).fields
    return await clients.connect(
        ready["address"], token=Path(ready["token_file"]).read_text().strip()
    )


async def gone(port: int) -> None:
    """Wait until nobody listens on the port any more."""
    await until(lambda: not listens(port), f"port {port} closed")


async def test_it_serves(daemons: Daemons, clients: Clients) -> None:
    """One command, and schedules are taken and delivered; SIGTERM ends both with 0."""
    port = free_port()
    daemon = embedded(daemons, port)
    await daemon.ready()
    client = await connected(clients, daemon)
    arrivals = await client.arrivals()
    await client.schedule("+0.5", reply=arrivals, id="tea", payload=b"ready")
    (arrival,) = await arrivals.wait()
    assert arrival.data == b"ready"
    assert await daemon.terminate() == 0
    await gone(port)
    # With no --store it is in the user's data directory, which is the test's own here.
    assert (daemon.folder / ".local" / "share" / "gozo").is_dir()


async def test_schedules_are_kept(daemons: Daemons, clients: Clients, tmp_path: Path) -> None:
    """A restart on the same store finds the schedules again, with an id and without."""
    port, store = free_port(), tmp_path / "store"
    first = embedded(daemons, port, store)
    await first.ready()
    client = await connected(clients, first)
    due = time.time() + 4
    await client.schedule(due, reply="kept", id="tea", payload=b"with id")
    await client.schedule(due, reply="kept", payload=b"without id")
    await client.confirm()
    assert await first.terminate() == 0
    await client.close()

    second = embedded(daemons, port, store)
    await second.ready()
    again = await connected(clients, second)
    arrivals = await again.arrivals("kept")
    await arrivals.wait(2)
    assert sorted(arrivals.payloads) == [b"with id", b"without id"]


async def test_ctrl_c(daemons: Daemons, clients: Clients, tmp_path: Path) -> None:
    """Ctrl-C in a terminal goes to every process: gozo still hands over before the server ends."""
    port, store = free_port(), tmp_path / "store"
    daemon = embedded(daemons, port, store)
    await daemon.ready()
    client = await connected(clients, daemon)
    for _ in range(50):
        await client.schedule("+3600", reply="later")
    await client.confirm()
    daemon.press_ctrl_c()
    assert await daemon.wait() == 0
    await gone(port)
    second = embedded(daemons, port, store)
    assert (await second.ready()).fields["pending"] == "50"


async def test_killed(daemons: Daemons, clients: Clients, tmp_path: Path) -> None:
    """SIGKILL of gozo ends the server too, and the next start finds all with an id."""
    port, store = free_port(), tmp_path / "store"
    first = embedded(daemons, port, store)
    await first.ready()
    client = await connected(clients, first)
    for number in range(20):
        await client.schedule("+3600", reply="later", id=f"n{number}")

    async def all_stored() -> bool:
        return await client.stored() >= 20

    await until(all_stored, "20 schedules stored")
    await client.close()
    first.send(signal.SIGKILL)
    await first.wait()
    await gone(port)
    second = embedded(daemons, port, store)
    assert (await second.ready()).fields["pending"] == "20"


async def test_port_in_use(servers: Servers, daemons: Daemons, tmp_path: Path) -> None:
    """It refuses to start on a port in use, and names the port."""
    server = servers.start()
    daemon = embedded(daemons, server.port, tmp_path / "store")
    assert await daemon.wait() == 1
    assert str(server.port) in daemon.stderr.splitlines()[-1]


async def test_store_in_use(daemons: Daemons, tmp_path: Path) -> None:
    """It refuses to start on the store of another one, names it, and leaves that one alone."""
    store = tmp_path / "store"
    first = embedded(daemons, free_port(), store)
    await first.ready()
    second = embedded(daemons, free_port(), store)
    assert await second.wait() == 1
    assert str(store) in second.stderr
    assert first.alive
    assert await first.terminate() == 0


async def test_killed_and_delivered(daemons: Daemons, clients: Clients, tmp_path: Path) -> None:
    """What fell due after a SIGKILL of gozo is delivered by the next start, once."""
    port, store = free_port(), tmp_path / "store"
    first = embedded(daemons, port, store)
    await first.ready()
    client = await connected(clients, first)
    stream = client.nats.jetstream()
    await stream.add_stream(name="kept", subjects=["kept"])
    due = time.time() + 1
    await client.schedule(due, reply="kept", id="tea", payload=b"late")

    async def stored() -> bool:
        info = await stream.stream_info("KV_gozo", subjects_filter="$KV.gozo.tea")
        return bool(info.state.subjects)

    await until(stored, "the schedule stored")
    await first.kill()
    await gone(port)
    await wall_clock(due)

    second = embedded(daemons, port, store)
    await second.ready()
    await client.confirm()

    async def delivered() -> bool:
        return (await stream.stream_info("kept")).state.messages > 0

    await until(delivered, "the schedule delivered")
    assert (await stream.get_msg("kept", 1)).data == b"late"
    assert await second.terminate() == 0


async def test_server_is_killed(daemons: Daemons, tmp_path: Path) -> None:
    """A nats-server that dies takes gozo with it: exit code 1, and where to look."""
    port, store = free_port(), tmp_path / "store"
    daemon = embedded(daemons, port, store)
    pid = int((await daemon.event("embedded.ready")).fields["pid"])
    await daemon.ready()
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    assert await daemon.wait() == 1
    assert time.monotonic() - began < AT_ONCE
    assert "nats-server exited" in daemon.stderr
    assert str(store) in daemon.stderr
    await gone(port)
    again = embedded(daemons, port, store)
    await again.ready()
    assert await again.terminate() == 0


async def test_server_is_killed_with_something_in_memory(
    daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """The same where schedules without an id are lost by it, which is said as well."""
    port = free_port()
    daemon = embedded(daemons, port, tmp_path / "store")
    pid = int((await daemon.event("embedded.ready")).fields["pid"])
    await daemon.ready()
    client = await connected(clients, daemon)
    arrivals = await client.arrivals()
    for _ in range(3):
        await client.schedule("+3600", reply="later")
    await client.schedule("+0", reply=arrivals)
    await arrivals.wait()  # requests are taken in order
    await known_to_have_arrived(client)
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    assert await daemon.wait() == 1
    assert time.monotonic() - began < AT_ONCE
    assert "nats-server exited" in daemon.stderr
    assert "3 schedules" in daemon.stderr


async def test_gozoctl_of_the_same_user(daemons: Daemons, tmp_path: Path) -> None:
    """It finds the token by itself, in the default store or in the one of `GOZO_STORE`."""
    port, elsewhere = free_port(), tmp_path / "elsewhere"
    for store in (None, elsewhere):
        daemon = embedded(daemons, port, store)
        await daemon.ready()
        ctl = Gozoctl(daemon.folder, f"nats://localhost:{port}")
        variables = {} if store is None else {"GOZO_STORE": str(store)}
        done = ctl.run("create", "tea", "kitchen", "--in", "1h", variables=variables)
        assert (done.code, done.out) == (0, "tea\n"), done
        standby = daemons.start(
            "serve", "-a", ctl.url, variables=variables | {"HOME": str(daemon.folder)}
        )
        assert (await standby.ready()).fields["role"] == "standby"
        assert await standby.terminate() == 0
        assert await daemon.terminate() == 0
        token = Path((await daemon.event("embedded.ready")).fields["token_file"]).read_text()
        assert token.strip() not in daemon.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
async def test_another_user_of_the_host(daemons: Daemons, tmp_path: Path) -> None:
    """One who knows where everything is gets in neither without the token nor at its file."""
    port, other = free_port(), 65_534
    daemon = embedded(daemons, port)
    await daemon.ready()
    file = Path((await daemon.event("embedded.ready")).fields["token_file"])
    for folder in (daemon.folder, *file.parents[1:3]):
        folder.chmod(0o755)  # so that it is the store that keeps them out
    for name in (file, file.with_name("nats-server.conf"), file.with_name("jetstream")):
        done = subprocess.run(
            ["/bin/ls", "-d", name],
            user=other,
            group=other,
            extra_groups=[],
            capture_output=True,
            check=False,
        )
        assert b"Permission denied" in done.stderr
    # To the server, all users of the host are alike.
    refused = Gozoctl(tmp_path, f"nats://localhost:{port}").run("list")
    assert refused.code == 4
    assert "refused the credentials" in refused.err
    purge = b"PUB $JS.API.STREAM.PURGE.KV_gozo 0\r\n\r\n"
    with socket.create_connection((HOST, port), timeout=allow(5)) as link:
        link.sendall(b'CONNECT {"verbose":false}\r\n' + purge + b"PING\r\n")
        said = b"".join(iter(lambda: link.recv(4096), b""))
    assert b"Authorization Violation" in said
    assert b"PONG" not in said


@pytest.mark.parametrize("ending", ["stopped", "killed", "beside"])
async def test_another_server_in_its_place(daemons: Daemons, ending: str) -> None:
    """A false server gets no token: not once gozo has ended, nor on another loopback address."""
    port = free_port()
    daemon = embedded(daemons, port)
    await daemon.ready()
    file = Path((await daemon.event("embedded.ready")).fields["token_file"])
    ctl = Gozoctl(daemon.folder, f"nats://localhost:{port}")
    host = HOST
    match ending:
        case "stopped":
            await daemon.terminate()
        case "killed":
            await daemon.kill()
        case "beside":
            host = "127.0.0.2"
            ctl = Gozoctl(daemon.folder, f"nats://{host}:{port}")
    if host == HOST:
        await gone(port)
    with FalseServer(host=host, port=port) as false:
        assert ctl.run("list").code == 4
    assert false.connections > 0
    assert false.logins == []
    assert file.read_text().strip() not in false.heard


async def test_the_login_of_the_address(daemons: Daemons, clients: Clients) -> None:
    """What `NATS_URL` holds is the server's login: the shell that has it may start gozo too."""
    port = free_port()
    token = "t0ken-of-the-address"  # noqa: S105  # of this test alone
    url = f"nats://{token}@localhost:{port}"
    daemon = daemons.start("serve", "--embedded", variables={"NATS_URL": url})
    ready = await daemon.event("embedded.ready")
    assert "token_file" not in ready.fields
    await daemon.ready()
    await clients.connect(f"nats://{HOST}:{port}", token=token)
    assert Gozoctl(daemon.folder, url).run("list").code == 0
    assert token not in daemon.stderr
