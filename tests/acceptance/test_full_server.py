"""Servers and accounts without room for another connection: what may pass is waited for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gozo.client import Client
from gozo.errors import NoServerError, NotAllowedError
from tests.support.client import Client as Guest
from tests.support.daemon import Daemon
from tests.support.gozoctl import Gozoctl
from tests.support.patience import until
from tests.support.processes import Clients, Daemons
from tests.support.server import HOST, NatsServer

NOT_ALLOWED, NO_SERVER = 4, 5

ACCOUNT = """
    accounts {
      A { jetstream: enabled, users: [ { user: a, password: a } ], limits { max_conn: 2 } }
      SYS { users: [ { user: s, password: s } ] }
    }
    system_account: SYS
"""
LOGIN = {"user": "a", "password": "a"}
OPTIONS = ("--user", "a", "--password", "a")

FULL = {
    "account": (ACCOUNT, "maximum account active connections exceeded"),
    "server": (
        "max_connections: 2\nauthorization { user: a, password: a }",
        "maximum connections exceeded",
    ),
}


@pytest.fixture(params=list(FULL))
def full(request: pytest.FixtureRequest) -> Iterator[tuple[NatsServer, str]]:
    """Start a server with room for two connections; return it with what it says to a third."""
    config, words = FULL[request.param]
    with NatsServer(config=config) as server:
        yield server, words


async def guests(clients: Clients, server: NatsServer) -> list[Guest]:
    """Take all the room that there is."""
    return [await clients.connect(server, **LOGIN) for _ in range(2)]


def address(server: NatsServer) -> str:
    """Return the address of a server, with the login."""
    return f"nats://a:a@{HOST}:{server.port}"


def waiting(daemons: Daemons, server: NatsServer, timeout: int) -> Daemon:
    """Start a daemon that waits for so many seconds."""
    return daemons.start(
        "serve", "--address", server.url, *OPTIONS, "--connect-timeout", str(timeout)
    )


async def test_room_is_waited_for(
    full: tuple[NatsServer, str], daemons: Daemons, clients: Clients
) -> None:
    """A daemon begins to serve once others have left."""
    server, words = full
    present = await guests(clients, server)
    daemon = waiting(daemons, server, 60)
    await until(lambda: words in daemon.stderr, "it says why it waits")
    for guest in present:
        await guest.nats.close()
    await daemon.ready()
    assert await daemon.terminate() == 0


async def test_without_room_the_words_are_the_servers(
    full: tuple[NatsServer, str], daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """All three say what the server said when the time is over, and none of credentials."""
    server, words = full
    await guests(clients, server)
    began = time.monotonic()
    daemon = waiting(daemons, server, 1)
    with pytest.raises(NoServerError, match=words):
        await Client.connect(address(server), timeout=1)
    done = Gozoctl(tmp_path, server.url).run("ls", *OPTIONS)
    assert await daemon.wait() == done.code == NO_SERVER
    assert time.monotonic() - began > 1
    for said in (daemon.stderr.splitlines()[-1], done.err):
        assert words in said
        assert "--token" not in said
        assert "--embedded" not in said


async def test_wrong_credentials_are_not_waited_for(daemons: Daemons) -> None:
    """What cannot pass is told at once."""
    with NatsServer(config="authorization { user: a, password: b }") as server:
        with pytest.raises(NotAllowedError, match="refused the credentials"):
            await Client.connect(address(server), timeout=60)
        assert await waiting(daemons, server, 60).wait() == NOT_ALLOWED


@pytest.mark.parametrize("most", [3, 12])
async def test_room_for_subscriptions_is_waited_for(most: int, daemons: Daemons) -> None:
    """A server that lets a daemon in and ends each connection soon after has its words shown."""
    with NatsServer(config=f"max_subscriptions: {most}") as server:
        daemon = waiting(daemons, server, 1)
        assert await daemon.wait() == NO_SERVER
        assert "maximum subscriptions exceeded" in daemon.stderr.splitlines()[-1]
