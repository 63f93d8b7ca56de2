"""Contexts of the NATS command line, against servers that insist on what stands in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.credentials import certificates, operator
from tests.support.daemon import Daemon
from tests.support.patience import until
from tests.support.processes import Clients, Daemons, Servers
from tests.support.server import NatsServer, free_port

SECRET = "hush-hush"  # noqa: S105  # what must not be printed
USER = f'authorization {{ users: [ {{ user: ada, password: "{SECRET}" }} ] }}'


class Contexts:
    """A directory of settings with contexts in it, and daemons that find it."""

    def __init__(self, folder: Path, daemons: Daemons) -> None:
        self._folder = folder
        self._daemons = daemons

    def save(self, name: str, server: NatsServer | str, **fields: Any) -> None:
        """Write a context that leads to a server."""
        url = server if isinstance(server, str) else server.url
        path = self._folder / "nats" / "context" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"description": "", "url": url} | fields))

    def start(self, *arguments: str, **variables: str) -> Daemon:
        """Start a daemon that sees the contexts."""
        home = {"XDG_CONFIG_HOME": str(self._folder)}
        return self._daemons.start(*arguments, variables=home | variables)


@pytest.fixture
def contexts(tmp_path: Path, daemons: Daemons) -> Contexts:
    """Make an empty directory of settings."""
    return Contexts(tmp_path / "config", daemons)


async def delivers(daemon: Daemon, server: NatsServer, clients: Clients, **login: Any) -> None:
    """Hold that a daemon becomes ready and delivers a stored schedule."""
    await daemon.ready()
    client = await clients.connect(server, **login)
    arrivals = await client.arrivals()
    await client.schedule("+0.1", reply=arrivals, id="tea")
    await arrivals.wait()


@pytest.mark.parametrize("how", ["option", "variable", "defaults"])
async def test_user_and_password(
    servers: Servers, clients: Clients, contexts: Contexts, tmp_path: Path, how: str
) -> None:
    """A context logs in, however it is named; what is secret in it is not printed."""
    server = servers.start(USER)
    contexts.save("prod", server.url.removeprefix("nats://"), user="ada", password=SECRET)
    if how == "option":
        daemon = contexts.start("serve", "--context", "prod", "--log-level", "debug")
    elif how == "variable":
        daemon = contexts.start("--log-level", "debug", GOZO_CONTEXT="prod")
    else:
        (tmp_path / "config" / "gozo").mkdir()
        (tmp_path / "config" / "gozo" / "config.toml").write_text('context = "prod"\n')
        daemon = contexts.start("--log-level", "debug")
    await delivers(daemon, server, clients, user="ada", password=SECRET)
    assert await daemon.terminate() == 0
    assert SECRET not in daemon.stderr + daemon.stdout


@pytest.mark.parametrize("form", ["creds", "user_jwt"])
async def test_credentials(
    servers: Servers, clients: Clients, contexts: Contexts, tmp_path: Path, form: str
) -> None:
    """A credentials file, its path with a variable, or what stands in such a file."""
    made = operator()
    server = servers.start(made.config)
    (tmp_path / "ada.creds").write_text(made.credentials)
    if form == "creds":
        contexts.save("prod", server, creds="$PLACE/ada.creds")
    else:
        lines = made.credentials.splitlines()
        contexts.save("prod", server, user_jwt=lines[1], user_seed=made.user.seed)
    daemon = contexts.start("--context", "prod", PLACE=str(tmp_path))
    await delivers(daemon, server, clients, credentials=str(tmp_path / "ada.creds"))
    assert await daemon.terminate() == 0
    assert made.user.seed not in daemon.stderr


@pytest.mark.parametrize("place", ["fields", "url"])
async def test_a_token_replaces_the_user_of_a_context(
    servers: Servers, clients: Clients, contexts: Contexts, place: str
) -> None:
    """The server gets to see the token that was given, and nothing of the context's login."""
    server = servers.start('authorization { token: "t0ken" }')
    if place == "fields":
        contexts.save("prod", server, user="ada", password=SECRET)
    else:
        contexts.save("prod", server.url.replace("//", f"//ada:{SECRET}@"))
    refused = contexts.start("--context", "prod")
    assert await refused.wait() == 4
    daemon = contexts.start("--context", "prod", "--token", "t0ken")
    await delivers(daemon, server, clients, token="t0ken")  # noqa: S106  # of this test alone
    assert await daemon.terminate() == 0


async def test_a_user_replaces_the_token_of_the_environment(
    servers: Servers, clients: Clients, contexts: Contexts
) -> None:
    """A context that is named on the command line goes before the environment's token."""
    server = servers.start(USER)
    contexts.save("prod", server, user="ada", password=SECRET)
    daemon = contexts.start("--context", "prod", NATS_TOKEN=SECRET, NATS_URL="nats://no.invalid")
    await delivers(daemon, server, clients, user="ada", password=SECRET)
    assert await daemon.terminate() == 0


async def test_variables_of_the_nats_command_line(
    servers: Servers, clients: Clients, contexts: Contexts, tmp_path: Path
) -> None:
    """`NATS_URL` and `NATS_CREDS`, where gozo's own are not set."""
    made = operator()
    server = servers.start(made.config)
    (tmp_path / "ada.creds").write_text(made.credentials)
    creds = str(tmp_path / "ada.creds")
    daemon = contexts.start(NATS_URL=server.url, NATS_CREDS=creds)
    await delivers(daemon, server, clients, credentials=creds)
    assert await daemon.terminate() == 0


async def test_tls_first(servers: Servers, contexts: Contexts, tmp_path: Path) -> None:
    """A server that says nothing before it is spoken to in TLS is reached, with `tls_first`."""
    made = certificates(tmp_path)
    first = made.config.replace("verify: true", "verify: true, handshake_first: true")
    server = servers.enter_context(NatsServer(config=first, silent=True))
    files = {"ca": made.ca, "cert": made.client_cert, "key": made.client_key}
    fields = {name: str(path) for name, path in files.items()}
    contexts.save("prod", server, tls_first=True, **fields)
    contexts.save("late", server, **fields)
    late = contexts.start("--context", "late", "--connect-timeout", "1")
    assert await late.wait() == 5
    daemon = contexts.start("--context", "prod")
    await daemon.ready()
    assert await daemon.terminate() == 0


@pytest.mark.parametrize("content", [None, "{", "[]", '{"url": 5}'])
async def test_a_context_that_cannot_be_used(
    contexts: Contexts, tmp_path: Path, content: str | None
) -> None:
    """Exit code 2 and one line that names it."""
    contexts.save("prod", "nats://localhost")
    path = tmp_path / "config" / "nats" / "context" / "prod.json"
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    daemon = contexts.start("--context", "prod")
    assert await daemon.wait() == 2
    [line] = daemon.stderr.splitlines()
    assert line.startswith("gozo: ")
    assert str(path) in line


async def test_inbox_prefix(servers: Servers, clients: Clients, contexts: Contexts) -> None:
    """A user who may listen to answers below a prefix of its own only is served."""
    server = servers.start(
        "authorization { users: [ { user: ada, password: p, permissions: "
        '{ subscribe: { deny: "_INBOX.>" } } }, { user: bob, password: p } ] }'
    )
    contexts.save("prod", server, user="ada", password="p", inbox_prefix="ada.answers")  # noqa: S106
    daemon = contexts.start("--context", "prod")
    await delivers(daemon, server, clients, user="bob", password="p")  # noqa: S106
    assert await daemon.terminate() == 0


async def test_a_prefix_of_the_api_is_not_lent(
    servers: Servers, clients: Clients, contexts: Contexts
) -> None:
    """Where JetStream has a prefix without `$`, nobody has gozo delete a stream there either."""
    api = ("STREAM.>", "CONSUMER.>", "DIRECT.>", "INFO")
    mapped = {f"acme.js.{part}": f"$JS.API.{part}" for part in api} | {"acme.js.$KV.>": "$KV.>"}
    server = servers.start(f"mappings = {json.dumps(mapped)}")
    contexts.save("acme", server, jetstream_api_prefix="acme.js")
    daemon = contexts.start("--context", "acme")
    await delivers(daemon, server, clients)
    client = await clients.connect(server)
    receipts = await client.arrivals()
    headers = {"Gozo-When": "+0", "Gozo-Id": "bad", "Gozo-Receipt": receipts.subject}
    await client.send(headers, reply="acme.js.STREAM.DELETE.KV_gozo")
    await receipts.wait()
    told = json.loads(receipts.payloads[0])
    assert (told["status"], told.get("error")) == ("refused", "forbidden_subject")
    assert "JetStream" in told["message"]
    await client.schedule("+9999", reply="acme.jsx", id="good")
    assert await daemon.terminate() == 0
    assert await client.stored() > 0


async def test_a_domain(
    servers: Servers, clients: Clients, contexts: Contexts, tmp_path: Path
) -> None:
    """With `jetstream_domain`, everything of JetStream is asked of the domain's server.

    The daemons are connected to a server without JetStream; the bucket is at a leaf node of it.
    One takes over from the other, so the lease works there as well.
    """
    port = free_port()
    hub = servers.start(f'leafnodes {{ listen: "127.0.0.1:{port}" }}', jetstream=False)
    servers.start(
        f'leafnodes {{ remotes: [ {{ url: "nats-leaf://127.0.0.1:{port}" }} ] }}\n'
        f'jetstream {{ store_dir: "{tmp_path}", domain: spoke }}',
        jetstream=False,
    )
    await until(lambda: "Leafnode connection created" in hub.log, "the leaf node's connection")
    contexts.save("spoke", hub, jetstream_domain="spoke")
    contexts.save("none", hub)
    without = contexts.start("--context", "none")
    assert await without.wait() == 1
    assert "JetStream" in without.stderr.splitlines()[-1]
    first = contexts.start("--context", "spoke", "--name", "one")
    assert (await first.ready()).fields["role"] == "leader"
    second = contexts.start("--context", "spoke", "--name", "two")
    assert (await second.ready()).fields["role"] == "standby"
    client = await clients.connect(hub)
    arrivals = await client.arrivals()
    for number in range(3):
        await client.schedule("+0.2", reply=arrivals, id=f"n{number}", payload=b"%d" % number)
    await client.schedule("+5", reply=arrivals, id="later", payload=b"later")
    await arrivals.wait(3)
    assert await first.terminate() == 0
    await second.event("daemon.leading")
    await client.schedule("+0.1", reply=arrivals, id="more", payload=b"more")
    await arrivals.wait(5)
    assert sorted(arrivals.payloads) == [b"0", b"1", b"2", b"later", b"more"]
    assert await second.terminate() == 0
