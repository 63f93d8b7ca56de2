"""Options: from the command line, the environment and a file, and what they change."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.support.client import Client
from tests.support.daemon import Daemon
from tests.support.patience import allow
from tests.support.processes import Clients, Daemons, Servers
from tests.support.server import HOST, free_port

USAGE = 2  # the exit code of options that are wrong


async def name_of_daemon(client: Client) -> str:
    """Return the name that the daemon gives itself as a NATS service."""
    answer = await client.nats.request("$SRV.INFO.gozo", timeout=allow(2))
    return str(json.loads(answer.data)["metadata"]["name"])


async def serves(client: Client, payload: bytes = b"tea") -> None:
    """Hold that a schedule with an id is delivered to this client."""
    arrivals = await client.arrivals()
    await client.schedule("+0", reply=arrivals, id="x", payload=payload)
    await arrivals.wait()
    assert arrivals.payloads == [payload]


async def bucket_of(daemon: Daemon) -> str:
    """Return the bucket that a daemon says it keeps."""
    return (await daemon.ready()).fields["bucket"]


@pytest.mark.parametrize("given", ["flags", "variables", "file"])
async def test_ways_to_give_them(
    servers: Servers, daemons: Daemons, clients: Clients, given: str
) -> None:
    """Flags, variables and ./gozo.env give the same, and have their effects."""
    server = servers.start()
    values = {
        "NATS_ADDRESS": server.url,
        "NATS_SECURE": "no",
        "GOZO_REQUEST_SUBJECT": "my.requests",
        "GOZO_BUCKET": "my_bucket",
        "GOZO_REPLICAS": "1",
        "GOZO_NAME": "my-name",
        "GOZO_MAX_BACKLOG": "2KiB",
        "GOZO_CONNECT_TIMEOUT": "7.5",
        "GOZO_LOG_LEVEL": "debug",
    }
    if given == "flags":
        flags = {f"--{name.partition('_')[2].lower()}": value for name, value in values.items()}
        del flags["--secure"]
        words = [word for flag, value in flags.items() for word in (flag.replace("_", "-"), value)]
        daemon = daemons.start("serve", "--no-secure", *words)
    elif given == "variables":
        daemon = daemons.start("serve", variables=values)
    else:
        lines = "\n".join(f"{name}={value}" for name, value in values.items())
        daemon = daemons.start("serve", files={"gozo.env": lines})
    ready = await daemon.ready()
    assert ready.fields["bucket"] == "my_bucket"
    assert ready.fields["request_subject"] == "my.requests"

    client = await clients.connect(server, request_subject="my.requests", bucket="my_bucket")
    assert await name_of_daemon(client) == "my-name"
    await serves(client)
    assert (await daemon.event("request.done")).level == "debug"  # the level
    await client.schedule("+0", reply="anywhere", id="big", payload=bytes(3000))
    await daemon.event("request.refused", code="busy")  # the backlog


async def test_letters(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """Options have letters; without a command they mean `gozo serve`."""
    server = servers.start("authorization { user: me, password: secret }")
    daemon = daemons.start("-a", server.url, "-u", "me", "-p", "secret")
    await daemon.ready()
    await serves(await clients.connect(server, user="me", password="secret"))  # noqa: S106
    assert await daemon.terminate() == 0


async def test_nothing_but_the_name(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """`gozo` with no word behind it serves, with options from elsewhere."""
    server = servers.start()
    daemon = daemons.start(variables={"NATS_ADDRESS": server.url})
    await daemon.ready()
    await serves(await clients.connect(server))
    assert await daemon.terminate() == 0


async def test_before_and_after_the_command(servers: Servers, daemons: Daemons) -> None:
    """Options count before `serve` and behind it; behind it wins."""
    server = servers.start()
    daemon = daemons.start(
        *("--address", server.url, "--bucket", "before", "--name", "before"),
        *("serve", "--bucket", "behind", "--request-subject", "behind"),
    )
    ready = await daemon.ready()
    assert ready.fields["bucket"] == "behind"
    assert ready.fields["request_subject"] == "behind"
    assert (await daemon.event("lease.acquired")).fields["name"] == "before"


async def test_precedence(servers: Servers, daemons: Daemons) -> None:
    """The command line wins over the environment, that over ./gozo.env, that over the default.

    A value that is empty counts as not set, wherever it stands.
    """
    server = servers.start()
    file = f"NATS_ADDRESS={server.url}\nGOZO_BUCKET=file\nGOZO_REQUEST_SUBJECT={{}}\n"

    def start(number: int, *words: str, **variables: str) -> Daemon:
        files = {"gozo.env": file.format(f"subject{number}")}
        return daemons.start("serve", *words, variables=variables, files=files)

    started = [
        start(1, "--bucket", "line", GOZO_BUCKET="environment"),
        start(2, GOZO_BUCKET="environment"),
        start(3),
        start(4, "--bucket", "", GOZO_BUCKET="environment"),
        start(5, "--bucket", "", GOZO_BUCKET=""),
        daemons.start(
            *("serve", "--request-subject", "subject6", "--bucket", ""),
            variables={"NATS_ADDRESS": server.url, "GOZO_BUCKET": ""},
            files={"gozo.env": "GOZO_BUCKET=\n"},
        ),
    ]
    buckets = await asyncio.gather(*(bucket_of(daemon) for daemon in started))
    assert buckets == ["line", "environment", "file", "environment", "file", "gozo"]


async def test_precedence_of_the_address(servers: Servers, daemons: Daemons) -> None:
    """The address follows the same order: a wrong one in a weaker place does no harm."""
    server = servers.start()
    dead = f"nats://{HOST}:{free_port()}"
    line = daemons.start("serve", "-a", server.url, variables={"NATS_ADDRESS": dead})
    environment = daemons.start(
        "serve", variables={"NATS_ADDRESS": server.url}, files={"gozo.env": f"NATS_ADDRESS={dead}"}
    )
    await asyncio.gather(line.ready(), environment.ready())


async def test_no_means_no(servers: Servers, daemons: Daemons) -> None:
    """`NATS_SECURE` set to no, in any of its spellings, connects to a server without TLS."""
    server = servers.start()
    started = [
        daemons.start("serve", "-a", server.url, variables={"NATS_SECURE": no})
        for no in ("0", "false", "no", "")
    ]
    await asyncio.gather(*(daemon.ready() for daemon in started))


async def test_yes_means_yes(servers: Servers, daemons: Daemons) -> None:
    """Set to yes it does not, unless the command line says `--no-secure`."""
    server = servers.start()
    address = ("serve", "-a", server.url)
    refused = [daemons.start(*address, variables={"NATS_SECURE": yes}) for yes in ("1", "true")]
    refused.append(daemons.start(*address, "--secure", variables={"NATS_SECURE": "no"}))
    await daemons.start(*address, "--no-secure", variables={"NATS_SECURE": "yes"}).ready()
    for daemon in refused:
        assert await daemon.wait() != 0
        assert "TLS" in daemon.stderr


async def test_several_addresses(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """Where the first address is dead, the next one is taken."""
    server = servers.start()
    addresses = f"nats://{HOST}:{free_port()}, {server.url}"
    await daemons.start("serve", variables={"NATS_ADDRESS": addresses}).ready()
    await serves(await clients.connect(server))


async def test_other_subject_and_bucket(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """Requests are taken on the given subject only, and kept in the given bucket only."""
    server = servers.start()
    await daemons.serve(server, "--request-subject", "timer.requests", "--bucket", "Timer-1")
    client = await clients.connect(server, request_subject="timer.requests", bucket="Timer-1")
    usual = await clients.connect(server)
    arrivals = await client.arrivals()
    before = await client.stored()
    await usual.schedule("+0", reply=arrivals, id="wrong", payload=b"wrong")
    await usual.confirm()
    await client.schedule("+3600", reply=arrivals, id="kept")
    await client.schedule("+0", reply=arrivals, payload=b"right")
    await arrivals.wait()
    assert arrivals.payloads == [b"right"]
    names = [one.config.name for one in await client.nats.jetstream().streams_info()]
    assert "KV_Timer-1" in names
    assert "KV_gozo" not in names
    assert await client.stored() > before


WRONG = {
    "address": ("--address", "http://localhost"),
    "bucket": ("--bucket", "a.b"),
    "request subject": ("--request-subject", "a.>"),
    "replicas": ("--replicas", "many"),
    "backlog": ("--max-backlog", "much"),
    "time": ("--connect-timeout", "-1"),
    "level": ("--log-level", "loud"),
    "file": ("--ca", "/no/such/file"),
    "nkey": ("--nkey", "/no/such/seed"),
    "unknown": ("--colour", "red"),
}


async def test_wrong_values(daemons: Daemons) -> None:
    """A wrong value ends it at once with 2, on stderr, naming the option or the variable."""
    started = {
        option: daemons.start("serve", option, value) for option, value in WRONG.values()
    } | {
        name: daemons.start("serve", variables={name: "maybe"})
        for name in ("NATS_SECURE", "GOZO_REPLICAS")
    }
    for name, daemon in started.items():
        assert await daemon.wait(allow(3)) == USAGE
        assert name in daemon.stderr
        assert daemon.stdout == ""
