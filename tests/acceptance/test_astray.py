"""Logins that must not go astray: a false server hears none of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.credentials import certificates, key_pair, operator
from tests.support.false_server import FalseServer
from tests.support.gozoctl import Done, Gozoctl
from tests.support.processes import Daemons, Servers

SECRET = "hush-hush"  # noqa: S105  # what must not be printed
USAGE, NOT_ALLOWED = 2, 4


@pytest.fixture
def false() -> Iterator[FalseServer]:
    """Start a false server."""
    with FalseServer() as server:
        yield server


class Home:
    """A user's home directory, and a working directory that says where to connect to."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder = folder
        self.ctl = Gozoctl(folder, "")
        (folder / "gozo.env").write_text(f"NATS_ADDRESS={address}\n")
        self.defaults('address = "nats://127.0.0.1:1"\n')

    def defaults(self, text: str) -> None:
        """Write the user's defaults."""
        path = self.folder / ".config" / "gozo" / "config.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def context(self, **fields: str) -> None:
        """Make a context the user's default."""
        path = self.folder / ".config" / "nats" / "context" / "prod.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(fields))
        self.defaults('context = "prod"\n')

    def run(self, *arguments: str, **variables: str) -> Done:
        """Run gozoctl there."""
        return self.ctl.run(*arguments, variables=variables)

    def press_tab(self, **variables: str) -> Done:
        """Complete an id."""
        return self.run(
            _GOZOCTL_COMPLETE="complete_fish",
            _TYPER_COMPLETE_ARGS="gozoctl inspect ",
            **variables,
        )


@pytest.fixture
def home(tmp_path: Path, false: FalseServer) -> Home:
    """Make a working directory whose `gozo.env` leads to the false server."""
    return Home(tmp_path, false.url)


def logins(folder: Path) -> dict[str, dict[str, str]]:
    """Return a login of each kind that is sent, by its variables."""
    (folder / "creds").write_text(operator().credentials)
    return {
        "token": {"NATS_TOKEN": SECRET},
        "user": {"NATS_USER": "ada", "NATS_PASSWORD": SECRET},
        "nkey": {"NATS_NKEY": key_pair().seed},
        "jwt": {"NATS_JWT": str(folder / "creds")},
    }


@pytest.mark.parametrize("kind", ["token", "user", "nkey", "jwt", "context"])
def test_gozoctl_in_a_directory_that_leads_elsewhere(
    kind: str, home: Home, false: FalseServer
) -> None:
    """`gozoctl list` says what is wrong, TAB says nothing; the false server hears nothing."""
    variables: dict[str, str] = {}
    if kind == "context":
        home.context(url="nats://127.0.0.1:1", user="ada", password=SECRET)
    else:
        variables = logins(home.folder)[kind]
    done = home.run("list", **variables)
    assert done.code == USAGE
    assert "./gozo.env" in done.err
    assert SECRET not in done.err
    assert home.press_tab(**variables).out == "values\n"
    assert (false.connections, false.logins) == (0, [])


def test_tab_reads_no_file_of_the_directory(home: Home, false: FalseServer) -> None:
    """Without a login nothing could be lost, and still nobody is connected to."""
    home.run("list")
    assert false.connections > 0  # as the user's own file may say
    before = false.connections
    assert home.press_tab().out == "values\n"
    assert false.connections == before


async def test_the_daemon(daemons: Daemons, false: FalseServer) -> None:
    """The same for `gozo serve` and `gozo check`: they do not start."""
    files = {"gozo.env": f"NATS_ADDRESS={false.url}\n"}
    for command in ("serve", "check"):
        daemon = daemons.start(command, files=files, variables={"NATS_TOKEN": SECRET})
        assert await daemon.wait() == USAGE
        assert "./gozo.env" in daemon.stderr.splitlines()[-1]
        assert SECRET not in daemon.stderr
    assert (false.connections, false.logins) == (0, [])


async def test_what_stands_together(servers: Servers, daemons: Daemons, tmp_path: Path) -> None:
    """Address and login of the user's own `./gozo.env` are for each other."""
    server = servers.start(f'authorization {{ token: "{SECRET}" }}')
    lines = f"NATS_ADDRESS={server.url}\nNATS_TOKEN={SECRET}\n"
    daemon = daemons.start(files={"gozo.env": lines})
    await daemon.ready()
    home = Home(tmp_path, server.url)
    with (tmp_path / "gozo.env").open("a") as file:
        file.write(f"NATS_TOKEN={SECRET}\n")
    assert home.run("list").code == 0


def test_a_file_that_others_may_write(home: Home, false: FalseServer) -> None:
    """It does not count, and standard error says so, once and with the cure."""
    (home.folder / "gozo.env").chmod(0o666)
    with FalseServer() as own:
        done = home.run("list", NATS_ADDRESS=own.url, NATS_TOKEN=SECRET)
    [said] = [line for line in done.err.splitlines() if "./gozo.env" in line]
    assert said.startswith("gozoctl: ignoring ./gozo.env: ")
    assert "chmod go-w" in said
    assert false.connections == 0
    assert "auth_token" in own.logins  # which is where the user sends it


@pytest.mark.parametrize("how", ["ca", "cert", "context"])
def test_no_plain_text_where_certificates_are_given(
    how: str, tmp_path: Path, false: FalseServer
) -> None:
    """A server that offers no TLS is told nothing, unless `--no-secure` says so."""
    made = certificates(tmp_path)
    ctl = Gozoctl(tmp_path, false.url)
    arguments: list[str] = []
    match how:
        case "ca":
            arguments = ["--ca", str(made.ca)]
        case "cert":
            arguments = ["--cert", str(made.client_cert), "--key", str(made.client_key)]
        case "context":
            path = tmp_path / ".config" / "nats" / "context" / "prod.json"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps({"url": false.url, "ca": str(made.ca)}))
            arguments = ["--context", "prod"]
    arguments += ["--token", SECRET]
    done = ctl.run(*arguments, "list")
    assert done.code == NOT_ALLOWED
    assert "does not offer TLS" in done.err
    assert "--no-secure" in done.err
    assert false.connections > 0
    assert false.heard == ""
    ctl.run(*arguments, "--no-secure", "list")
    assert "auth_token" in false.logins


async def test_a_daemon_with_a_ca(daemons: Daemons, tmp_path: Path, false: FalseServer) -> None:
    """It ends with 4 as well, and with `NATS_SECURE=no` tries as it did."""
    made = certificates(tmp_path)
    variables = {"NATS_ADDRESS": false.url, "NATS_CA": str(made.ca), "NATS_TOKEN": SECRET}
    daemon = daemons.start(variables=variables)
    assert await daemon.wait() == NOT_ALLOWED
    assert "does not offer TLS" in daemon.stderr.splitlines()[-1]
    assert false.heard == ""
    daemon = daemons.start(variables=variables | {"NATS_SECURE": "no"})
    await daemon.wait()
    assert "auth_token" in false.logins
