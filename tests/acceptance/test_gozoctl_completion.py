"""TAB offers the ids and subjects that there are, in real shells."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.gozoctl import Gozoctl
from tests.support.processes import Clients, Servers
from tests.support.shells import SETTINGS, start_shell


@pytest.mark.parametrize("shell", SETTINGS)
def test_ids(shell: str, servers: Servers, tmp_path: Path) -> None:
    """The rest of an id with a colon in it, behind an address with one; then it is shown."""
    server = servers.start()
    ctl = Gozoctl(tmp_path, server.url)
    ctl.ok("create", "backup:nightly", "jobs.backup", "--in", "1h")
    ctl.ok("create", "tea", "kitchen", "--in", "1h")
    with start_shell(shell, tmp_path) as terminal:
        terminal.press(f"gozoctl -a {server.url} inspect backup:\t")
        terminal.shows("backup:nightly")
        terminal.press(" -o id\n")
        terminal.shows(lambda text: "backup:nightly" in text.splitlines())


@pytest.mark.parametrize("shell", SETTINGS)
def test_subjects(shell: str, servers: Servers, tmp_path: Path) -> None:
    """The subjects of what there is, after --subject."""
    server = servers.start()
    Gozoctl(tmp_path, server.url).ok("create", "tea", "kitchen.tea", "--in", "1h")
    with start_shell(shell, tmp_path) as terminal:
        terminal.press(f"gozoctl list -a {server.url} --subject kit\t")
        terminal.shows("kitchen.tea")


async def test_streams(servers: Servers, clients: Clients, tmp_path: Path) -> None:
    """The streams that there are, but for buckets."""
    server = servers.start()
    js = (await clients.connect(server)).nats.jetstream()
    for name in ("JOBS", "JOBS-2", "KV_JOBS", "OTHER"):
        await js.add_stream(name=name, subjects=[f"{name}.>"])
    line = f"gozoctl exec jobs -a {server.url} --stream JO"
    done = Gozoctl(tmp_path, server.url).run(
        variables={"_GOZOCTL_COMPLETE": "complete_fish", "_TYPER_COMPLETE_ARGS": line}
    )
    assert done.out.split() == ["values", "JOBS", "JOBS-2"]


def test_no_server(tmp_path: Path) -> None:
    """Without a server nothing is offered, and nothing is said."""
    done = Gozoctl(tmp_path, "nats://127.0.0.1:1").run(
        variables={"_GOZOCTL_COMPLETE": "complete_fish", "_TYPER_COMPLETE_ARGS": "gozoctl inspect "}
    )
    assert (done.code, done.out, done.err) == (0, "values\n", "")


def test_time_zones(tmp_path: Path) -> None:
    """The names of time zones, without a server, also for the alias of the option."""
    ctl = Gozoctl(tmp_path, "nats://127.0.0.1:1")
    for option in ("--time-zone ", "--tz="):
        line = f"gozoctl create a b --cron @daily {option}Europe/Mal"
        done = ctl.run(
            variables={"_GOZOCTL_COMPLETE": "complete_fish", "_TYPER_COMPLETE_ARGS": line}
        )
        begun = option if option.endswith("=") else ""
        assert done.out == f"values\n{begun}Europe/Malta\n"
