"""Ways to log in, against servers that insist on them; secrets stay secret."""

from __future__ import annotations

import re
import signal
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Arrivals, Client
from tests.support.credentials import CLIENT, LOOPBACK, certificates, key_pair, operator
from tests.support.daemon import Daemon
from tests.support.gozoctl import Gozoctl
from tests.support.patience import allow, until
from tests.support.processes import Clients, Daemons, Servers

PAYLOAD = b"nobody's business"
USAGE, NOT_ALLOWED = 2, 4


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
    assert await daemon.wait() == NOT_ALLOWED
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
    assert await daemon.wait() == NOT_ALLOWED
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


async def test_private_authority(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """A server's certificate from an authority of one's own, and a password over TLS."""
    made = certificates(tmp_path)
    users = "authorization { users: [ { user: ada, password: p } ] }"
    server = servers.start(f"{made.config_for_all}\n{users}")
    daemon = await daemons.serve(server, "--ca", str(made.ca), "-u", "ada", "-p", "p")
    context = ssl.create_default_context(cafile=made.ca)
    client = await clients.connect(server, tls=context, user="ada", password="p")  # noqa: S106
    arrivals = await client.arrivals()
    await client.schedule("+0", reply=arrivals, id="tea")
    await arrivals.wait()
    assert await daemon.terminate() == 0


async def test_secure_on_a_plain_server(servers: Servers, daemons: Daemons) -> None:
    """`--secure` does not settle for a server without TLS, and sends it no secret."""
    server = servers.start()
    for address in (server.url, server.url.replace("nats:", "tls:")):
        daemon = daemons.start("-a", address, "--secure", variables={"NATS_TOKEN": "hush-hush"})
        assert await daemon.wait() == NOT_ALLOWED
        assert "does not offer TLS" in daemon.stderr.splitlines()[-1]
        check_discretion(daemon, ["hush-hush"])


WRONG_CERTIFICATES = {
    "other authority": "its certificate is not accepted (",
    "no authority": "its certificate is not accepted (",
    "server expired": "its certificate is not accepted (certificate has expired)",
    "no client certificate": "requires a client certificate: give --cert",
    "client of another authority": "check --ca, --cert and --key|check --cert and --key",
    "client expired": "check --ca, --cert and --key|check --cert and --key",
}
"""What is said of each; of TLS 1.3 either the alert comes through or the end of the connection."""


@pytest.mark.parametrize("wrong", WRONG_CERTIFICATES)
async def test_wrong_certificates(
    servers: Servers, daemons: Daemons, tmp_path: Path, wrong: str
) -> None:
    """Certificates that do not fit end the start with 4, and a sentence."""
    (tmp_path / "other").mkdir()
    expired = {"server expired": LOOPBACK, "client expired": CLIENT}.get(wrong, "")
    made, other = certificates(tmp_path, expired=expired), certificates(tmp_path / "other")
    server = servers.start(made.config)
    options = {"ca": made.ca, "cert": made.client_cert, "key": made.client_key}
    match wrong:
        case "other authority":
            options["ca"] = other.ca
        case "no authority":
            del options["ca"]
        case "no client certificate":
            del options["cert"], options["key"]
        case "client of another authority":
            options |= {"cert": other.client_cert, "key": other.client_key}
    flags = as_flags({name: str(path) for name, path in options.items()})
    daemon = daemons.start("-a", server.url, *flags)
    assert await daemon.wait() == NOT_ALLOWED
    said = daemon.stderr.splitlines()[-1]
    assert server.url in said
    assert any(words in said for words in WRONG_CERTIFICATES[wrong].split("|")), said


async def test_expired_credentials(servers: Servers, daemons: Daemons, tmp_path: Path) -> None:
    """Credentials that are good no more are refused, and that is told."""
    login = operator()
    server = servers.start(login.config)
    path = tmp_path / "user.creds"
    path.write_text(login.credentials_until(int(time.time()) - 60))
    daemon = daemons.start("-a", server.url, "--jwt", str(path))
    assert await daemon.wait() == NOT_ALLOWED
    assert "refused the credentials" in daemon.stderr.splitlines()[-1]
    check_discretion(daemon, [login.user.seed])


async def test_unusable_credentials(servers: Servers, daemons: Daemons, tmp_path: Path) -> None:
    """A file that holds no credentials is told with what it lacks; nothing of it is shown."""
    login = operator()
    server = servers.start(login.config)
    jwt, seed = login.credentials.split("\n\n")
    unusable = {
        "": "'BEGIN NATS USER JWT'",
        "hello\n": "'BEGIN NATS USER JWT'",
        seed: "'BEGIN NATS USER JWT'",
        jwt: "'BEGIN USER NKEY SEED'",
        login.credentials.replace("SU", "SA"): "seed",
        login.credentials.replace(".", ""): "JWT",
    }
    for number, (text, words) in enumerate(unusable.items()):
        path = tmp_path / f"{number}.creds"
        path.write_text(text)
        daemon = daemons.start("-a", server.url, "--jwt", str(path))
        assert await daemon.wait() == USAGE
        said = daemon.stderr.splitlines()[-1]
        assert words in said
        assert str(path) in said
        check_discretion(daemon, [login.user.seed, login.user.seed.replace("SU", "SA")])


async def test_lines_of_windows(servers: Servers, daemons: Daemons, tmp_path: Path) -> None:
    """A credentials file may have been saved where lines end differently."""
    login = operator()
    server = servers.start(login.config)
    path = tmp_path / "user.creds"
    path.write_bytes(login.credentials.replace("\n", "\r\n").encode())
    await daemons.serve(server, "--jwt", str(path))


async def test_credentials_are_changed(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """When its credentials expire, a daemon goes on with those that are in the file by then.

    A file that cannot be used meanwhile is told, and tried again.
    """
    login = operator()
    server = servers.start(login.config)
    path = tmp_path / "user.creds"
    path.write_text(login.credentials_until(int(time.time()) + 5))
    daemon = await daemons.serve(server, "--jwt", str(path))
    path.write_text("half written")
    other = tmp_path / "other.creds"
    other.write_text(login.credentials)
    client = await clients.connect(server, credentials=str(other))
    arrivals = await client.arrivals()
    await client.schedule("+0.5", reply=arrivals, id="before")
    await arrivals.wait()
    since = daemon.mark()
    failed = await daemon.event("connection.failed", since=since)
    assert str(path) in failed.fields["reason"]
    told = daemon.mark()
    path.unlink()
    await daemon.event("connection.failed", since=told)
    path.write_text(login.credentials)
    await daemon.event("connection.made", since=since)
    await asked_until_it_comes(client, arrivals)
    assert await daemon.terminate() == 0
    check_discretion(daemon, [login.user.seed])


async def test_nkey_is_changed(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """A daemon whose nkey the server does not know any more goes on with the one in the file."""
    old, new = key_pair(), key_pair()
    server = servers.start(f"authorization {{ users: [ {{ nkey: {old.public} }} ] }}")
    path = tmp_path / "user.nk"
    path.write_text(old.seed)
    daemon = await daemons.serve(server, "--nkey", str(path))
    path.write_text(new.seed)
    since = daemon.mark()
    config = server.folder / "nats.conf"
    config.write_text(config.read_text().replace(old.public, new.public))
    server._running().send_signal(signal.SIGHUP)
    await daemon.event("connection.made", since=since)
    client = await clients.connect(server, seed=new.seed)
    await asked_until_it_comes(client, await client.arrivals())
    assert await daemon.terminate() == 0
    check_discretion(daemon, [old.seed, new.seed])


async def test_certificates_are_changed(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """With another authority everywhere, a daemon is back once its files are all there."""
    (tmp_path / "new").mkdir()
    old, new = certificates(tmp_path), certificates(tmp_path / "new")
    server = servers.start(old.config)
    options = {"ca": old.ca, "cert": old.client_cert, "key": old.client_key}
    flags = as_flags({name: str(path) for name, path in options.items()})
    daemon = await daemons.serve(server, *flags)
    since = daemon.mark()
    for before, after in ((old.server_cert, new.server_cert), (old.server_key, new.server_key)):
        after.replace(before)
    server._config = server._config.replace(str(old.ca), str(new.ca))
    server.restart()
    refused = re.escape("its certificate is not accepted")
    await _fails(daemon, since, refused)
    new.client_key.replace(old.client_key)
    await _fails(daemon, since, "cannot use the certificates in .*values mismatch")
    new.client_cert.replace(old.client_cert)
    old.ca.write_bytes(new.ca.read_bytes())
    await daemon.event("connection.made", since=since)
    context = ssl.create_default_context(cafile=new.ca)
    context.load_cert_chain(old.client_cert, old.client_key)
    client = await clients.connect(server, tls=context)
    await asked_until_it_comes(client, await client.arrivals())
    assert await daemon.terminate() == 0
    assert daemon.events("asyncio") == []


async def _fails(daemon: Daemon, since: int, reason: str) -> None:
    """Wait until a daemon fails to connect, and says so."""

    def failed() -> bool:
        said = daemon.events("connection.failed", since=since)
        return any(re.search(reason, event.fields["reason"]) for event in said)

    await until(failed, f"it fails because {reason}")


async def asked_until_it_comes(client: Client, arrivals: Arrivals) -> None:
    """Request something until it is delivered: a daemon may be just coming back."""
    before = len(arrivals.all)

    async def came() -> bool:
        await client.schedule("+0", reply=arrivals, id="after")
        await client.confirm()
        return len(arrivals.all) > before

    await until(came, "a request is served")


@pytest.mark.parametrize("way", WAYS)
def test_gozoctl(servers: Servers, tmp_path: Path, way: Callable[[Path], Login]) -> None:
    """Gozoctl logs in the same ways, and ends with 4 where it is refused."""
    login = way(tmp_path)
    server = servers.start(login.config)
    ctl = Gozoctl(tmp_path, server.url)
    ctl.ok(*as_flags(login.options), "list")
    refused = ctl.run(*as_flags(login.wrong), "list")
    assert refused.code == NOT_ALLOWED
    assert "refused the credentials" in refused.err
    for secret in (*login.secrets, *login.wrong.values()):
        assert secret not in refused.err or secret in ("ada", login.wrong.get("jwt"))
