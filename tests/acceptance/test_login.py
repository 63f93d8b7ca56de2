"""Ways to log in, against servers that insist on them; secrets stay secret."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.credentials import certificates, key_pair, operator
from tests.support.daemon import Daemon
from tests.support.patience import allow
from tests.support.processes import Clients, Daemons, Servers

PAYLOAD = b"nobody's business"


@dataclass(frozen=True, slots=True)
class Login:
    """A server's configuration, the options that fit it, and what must never be shown."""

    config: str
    options: dict[str, str]
    client: dict[str, Any]
    secrets: list[str]
    wrong: dict[str, str] = field(default_factory=dict)
    """Options that the server must refuse."""


def token(_folder: Path) -> Login:
    """One token for everybody."""
    word = "s3cret-t0ken"
    config = f'authorization {{ token: "{word}" }}'
    return Login(config, {"token": word}, {"token": word}, [word], {"token": "wr0ng-t0ken"})


def user_and_password(_folder: Path) -> Login:
    """A user with a password."""
    word = "pa55 w0rd='\"$x"
    config = 'authorization { users: [ { user: ada, password: "pa55 w0rd=\'\\"$x" } ] }'
    client = {"user": "ada", "password": word}
    return Login(config, client, client, [word], {"user": "ada", "password": "wr0ng-pa55"})


def seed(_folder: Path) -> Login:
    """An nkey, its seed given as it is."""
    pair, other = key_pair(), key_pair()
    config = f"authorization {{ users: [ {{ nkey: {pair.public} }} ] }}"
    return Login(
        config, {"nkey": pair.seed}, {"seed": pair.seed}, [pair.seed], {"nkey": other.seed}
    )


def seed_file(folder: Path) -> Login:
    """An nkey, its seed in a file."""
    login = seed(folder)
    path = folder / "user.nk"
    path.write_text(login.options["nkey"] + "\n")
    return Login(login.config, {"nkey": str(path)}, login.client, login.secrets, login.wrong)


def credentials(folder: Path) -> Login:
    """A credentials file, and a server in operator mode."""
    right, other = operator(), operator()
    path, wrong = folder / "user.creds", folder / "other.creds"
    path.write_text(right.credentials)
    wrong.write_text(other.credentials)
    return Login(
        right.config,
        {"jwt": str(path)},
        {"credentials": str(path)},
        [right.user.seed],
        {"jwt": str(wrong)},
    )


WAYS: list[Callable[[Path], Login]] = [token, user_and_password, seed, seed_file, credentials]


def as_flags(options: dict[str, str]) -> list[str]:
    """Return options as a command line."""
    return [part for name, value in options.items() for part in (f"--{name}", value)]


def as_variables(options: dict[str, str]) -> dict[str, str]:
    """Return options as environment variables."""
    return {f"NATS_{name.upper()}": value for name, value in options.items()}


def check_discretion(daemon: Daemon, secrets: list[str]) -> None:
    """Hold that nothing secret was printed or logged."""
    for secret in [*secrets, PAYLOAD.decode()]:
        assert secret not in daemon.stderr + daemon.stdout


@pytest.mark.parametrize("how", ["flags", "variables", "file"])
@pytest.mark.parametrize("way", WAYS)
async def test_login(
    servers: Servers,
    daemons: Daemons,
    clients: Clients,
    tmp_path: Path,
    way: Callable[[Path], Login],
    how: str,
) -> None:
    """Each way works, however it is given, and even a debugging log shows no secret."""
    login = way(tmp_path)
    server = servers.start(login.config)
    common = ["--address", server.url, "--log-level", "debug"]
    variables = as_variables(login.options)
    if how == "flags":
        daemon = daemons.start("serve", *common, *as_flags(login.options))
    elif how == "variables":
        daemon = daemons.start("serve", *common, variables=variables)
    else:
        lines = [f"{name}='{_quoted(value)}'\n" for name, value in variables.items()]
        daemon = daemons.start("serve", *common, files={"gozo.env": "".join(lines)})
    await daemon.ready()
    client = await clients.connect(server, **login.client)
    arrivals = await client.arrivals()
    await client.schedule("+0.1", reply=arrivals, id="tea", payload=PAYLOAD)
    await arrivals.wait()
    assert await daemon.terminate() == 0
    check_discretion(daemon, login.secrets)


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")


@pytest.mark.parametrize("given", ["wrong", "none"])
@pytest.mark.parametrize("way", WAYS)
async def test_refused(
    servers: Servers,
    daemons: Daemons,
    tmp_path: Path,
    way: Callable[[Path], Login],
    given: str,
) -> None:
    """A server that refuses the login ends the start at once: exit code 4, and a sentence."""
    login = way(tmp_path)
    server = servers.start(login.config)
    options = login.wrong if given == "wrong" else {}
    began = time.monotonic()
    daemon = daemons.start(
        "serve", "--address", server.url, "--log-level", "debug", variables=as_variables(options)
    )
    assert await daemon.wait() == 4
    assert time.monotonic() - began < allow(2)
    assert server.url in daemon.stderr.splitlines()[-1]
    wrong = [value for name, value in options.items() if name not in ("jwt", "user")]
    check_discretion(daemon, login.secrets + wrong)


async def test_missing_permission(servers: Servers, daemons: Daemons) -> None:
    """A user who may not use JetStream is told so: exit code 4."""
    server = servers.start(
        "authorization { users: [ { user: ada, password: p, permissions: "
        '{ publish: { deny: "$JS.API.>" } } } ] }'
    )
    daemon = daemons.start("-a", server.url, "-u", "ada", "-p", "p")
    assert await daemon.wait() == 4
    assert "$JS.API" in daemon.stderr.splitlines()[-1]


async def test_user_in_the_address(servers: Servers, daemons: Daemons) -> None:
    """An address may hold user and password; they are not shown either."""
    server = servers.start('authorization { users: [ { user: ada, password: "hush-hush" } ] }')
    address = server.url.replace("//", "//ada:hush-hush@")
    daemon = daemons.start(variables={"NATS_ADDRESS": address, "GOZO_LOG_LEVEL": "debug"})
    await daemon.ready()
    assert await daemon.terminate() == 0
    check_discretion(daemon, ["hush-hush"])


@pytest.mark.parametrize("how", ["tls address", "secure", "files only"])
async def test_certificates(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path, how: str
) -> None:
    """A server that wants a client's certificate gets it, and its own is verified."""
    made = certificates(tmp_path)
    server = servers.start(made.config)
    address = server.url.replace("nats:", "tls:") if how == "tls address" else server.url
    options = {"ca": made.ca, "cert": made.client_cert, "key": made.client_key}
    flags = as_flags({name: str(path) for name, path in options.items()})
    daemon = daemons.start("-a", address, *flags, *(["--secure"] if how == "secure" else []))
    await daemon.ready()
    context = ssl.create_default_context(cafile=made.ca)
    context.load_cert_chain(made.client_cert, made.client_key)
    client = await clients.connect(server, tls=context)
    arrivals = await client.arrivals()
    await client.schedule("+0", reply=arrivals, id="tea")
    await arrivals.wait()
    assert await daemon.terminate() == 0


async def test_secure_on_a_plain_server(servers: Servers, daemons: Daemons) -> None:
    """`--secure` does not settle for a server without TLS, and sends it no secret."""
    server = servers.start()
    for address in (server.url, server.url.replace("nats:", "tls:")):
        daemon = daemons.start("-a", address, "--secure", variables={"NATS_TOKEN": "hush-hush"})
        assert await daemon.wait() in (1, 4)
        assert "TLS" in daemon.stderr.splitlines()[-1]
        check_discretion(daemon, ["hush-hush"])


@pytest.mark.parametrize("wrong", ["authority", "no client certificate"])
async def test_wrong_certificates(
    servers: Servers, daemons: Daemons, tmp_path: Path, wrong: str
) -> None:
    """Certificates that do not fit end the start, with a sentence and no traceback."""
    (tmp_path / "other").mkdir()
    made, other = certificates(tmp_path), certificates(tmp_path / "other")
    server = servers.start(made.config)
    options = {"ca": made.ca}
    if wrong == "authority":
        options = {"ca": other.ca, "cert": made.client_cert, "key": made.client_key}
    flags = as_flags({name: str(path) for name, path in options.items()})
    daemon = daemons.start("-a", server.url, *flags)
    assert await daemon.wait() in (1, 4, 5)
    assert server.url.removeprefix("nats://") in daemon.stderr.splitlines()[-1]
