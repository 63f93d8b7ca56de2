"""What a server must take, and a limit that is changed while daemons and clients are connected."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest

from gozo.client import Client
from gozo.errors import Refusal, RequestError
from gozo.protocol.subject_policy import LEAST_MAX_PAYLOAD
from tests.support.gozoctl import Gozoctl
from tests.support.patience import allow, until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.proxy import Proxy
from tests.support.receipts import ask

FAILED = 1

LARGE = "max_payload: 100000"
SMALL = "max_payload: 20000"
TOO_SMALL = "max_payload: 2048"
PAYLOAD = b"x" * 60_000
"""Fits into the large one."""

WITHOUT_HEADERS = "no_header_support: true"


async def test_a_limit_that_is_raised_is_seen(
    daemons: Daemons, servers: Servers, clients: Clients
) -> None:
    """What was too large is delivered, and what comes is taken, without a new start of anybody."""
    server = servers.start(LARGE)
    first = await daemons.serve(server)
    listening = await clients.connect(server)
    arrivals = await listening.arrivals()
    due = f"{time.time() + 0.5:.3f}"
    await first.kill()
    async with await Client.connect(server.url) as writer:
        await writer.schedule(arrivals.subject, PAYLOAD, when=due, id="early")
    server.configure(SMALL)
    server.restart()
    daemon = await daemons.serve(server)
    await daemon.event("entry.invalid", key="early")

    async with await Client.connect(server.url) as client:
        with pytest.raises(RequestError) as refused:
            await client.schedule(arrivals.subject, PAYLOAD, when="+3600", id="one")
        assert refused.value.code is Refusal.TOO_LARGE
        server.reload(LARGE)
        await until(lambda: "Reloaded: max_payload" in server.log, "the server has reloaded")
        guest = await clients.connect(server)  # which knows the limit as it is now

        async def is_taken() -> bool:
            headers = {"Gozo-When": "+3600", "Gozo-Id": "two"}
            answer = await ask(guest, headers, reply=arrivals.subject, payload=PAYLOAD)
            return bool(answer["status"] == "stored")

        async def is_asked_for() -> bool:
            try:
                await client.schedule(arrivals.subject, PAYLOAD, when="+3600", id="one")
            except RequestError:
                return False
            return True

        await until(is_taken, "the daemon takes a large request", allow(15))
        await until(is_asked_for, "the client asks for it", allow(15))
    (arrival,) = await arrivals.wait()
    assert (arrival.data, arrival.headers["Gozo-Id"]) == (PAYLOAD, "early")
    assert len(daemon.events("connection.made")) == 2  # the links are those of the start


@pytest.mark.parametrize(
    ("config", "named"),
    [(TOO_SMALL, ("2048", str(LEAST_MAX_PAYLOAD))), (WITHOUT_HEADERS, ("no_header_support",))],
)
async def test_a_server_that_gozo_cannot_work_with_is_refused(
    config: str, named: tuple[str, ...], daemons: Daemons, servers: Servers, tmp_path: Path
) -> None:
    """The daemon does not start, and says which setting is to be changed; the check does so too."""
    server = servers.start(config)
    serve = daemons.start("serve", "--address", server.url, "--connect-timeout", "60")
    check = daemons.start("check", "--address", server.url, "--connect-timeout", "60")
    create = Gozoctl(tmp_path, server.url).run("create", "tea", "kitchen", "--in", "1h")
    assert (await serve.wait(), await check.wait(), create.code) == (FAILED, FAILED, FAILED)
    for said in (serve.stderr.splitlines()[-1], check.stderr.splitlines()[-1], create.err):
        assert all(word in said for word in named), said


async def test_the_least_that_a_server_must_take(
    daemons: Daemons, servers: Servers, clients: Clients
) -> None:
    """There the largest schedule without a payload fits, stored and sent."""
    server = servers.start(f"max_payload: {LEAST_MAX_PAYLOAD}")
    await daemons.serve(server)
    client = await clients.connect(server)
    arrivals = await client.arrivals("s" * 3_400)
    id_ = "=" * 1_024
    answer = await ask(client, {"Gozo-When": "+0.1", "Gozo-Id": id_}, reply=arrivals.subject)
    assert answer["status"] == "stored", answer
    (arrival,) = await arrivals.wait()
    assert arrival.headers["Gozo-Id"] == id_


async def test_a_limit_that_becomes_too_small_is_told(
    daemons: Daemons, servers: Servers, clients: Clients
) -> None:
    """A daemon that runs complains, and refuses with the cure until the limit is raised again."""
    server = servers.start(LARGE)
    daemon = await daemons.serve(server)
    mark = daemon.mark()
    server.configure(TOO_SMALL)
    server.restart()
    logged = await daemon.event("server.unsuitable")
    made = partial(daemon.events, "connection.made", since=mark)
    await until(lambda: len(made()) == 2, "both connections are made again")
    client = await clients.connect(server)
    answer = await ask(client, {"Gozo-When": "+60", "Gozo-Id": "one"}, reply="somewhere")
    assert answer["error"] == "too_large"
    assert answer["message"] == logged.fields["reason"]
    assert "2048" in answer["message"]
    server.reload(LARGE)

    async def is_taken() -> bool:
        headers = {"Gozo-When": "+60", "Gozo-Id": "one"}
        answer = await ask(client, headers, reply="somewhere")
        return bool(answer["status"] == "stored")

    await until(is_taken, "a request is taken", allow(15))


async def test_a_server_without_headers_is_told_of_while_it_runs(
    daemons: Daemons, servers: Servers, clients: Clients
) -> None:
    """A daemon names the setting, once, and goes on when the server has it no more."""
    server = servers.start()
    async with Proxy(server.port) as proxy:
        daemon = await daemons.serve(proxy.url)
        server.configure(WITHOUT_HEADERS)
        server.restart()
        await daemon.event("connection.failed")
        await until(lambda: "no_header_support" in daemon.stderr, "it names the setting")
        await proxy.begins(6)
        named = [
            event
            for event in daemon.events("connection.failed")
            if "no_header_support" in event.fields["reason"]
        ]
        assert [event.level for event in named] == ["error"]
        server.configure("")
        server.restart()
        client = await clients.connect(server)
        arrivals = await client.arrivals()
        await until(lambda: len(daemon.events("connection.made")) == 4, "it is connected again")
        answer = await ask(client, {"Gozo-When": "+0.1", "Gozo-Id": "one"}, reply=arrivals.subject)
        assert answer["status"] == "stored"
        await arrivals.wait()
