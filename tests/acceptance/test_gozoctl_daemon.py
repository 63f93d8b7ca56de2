"""`gozoctl send`, `listen`, `status`, `config`, and what goes wrong on the way to a server."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.support.gozoctl import Gozoctl
from tests.support.processes import Daemons, Servers
from tests.support.server import free_port

USERS = """
    authorization {
        users: [
            { user: admin, password: right }
            { user: blind, password: right, permissions: { publish: ["nothing"] } }
        ]
    }
"""


async def test_send_and_wait(servers: Servers, daemons: Daemons, tmp_path: Path) -> None:
    """A request goes through the daemon; its receipt, its delivery and how late are printed."""
    server = servers.start()
    ctl = Gozoctl(tmp_path, server.url)
    nobody = ctl.run("send", "kitchen", "ready", "--in", "0.2")
    assert nobody.code == 5
    assert "gozo serve" in nobody.err
    await daemons.serve(server)
    assert ctl.ok("send", "kitchen", "--in", "60", "--id", "tea").out == "tea\n"
    receipt, delivery = ctl.ok(
        "send", "kitchen", "ready", "--in", "0.2", "--wait", "--id", "now", "-o", "json"
    ).out.splitlines()
    assert '"id": "now"' in receipt
    assert '"payload": "ready"' in delivery
    head, row = ctl.ok("send", "kitchen", "x", "--in", "0.1", "--wait").rows
    assert head == ["TIME", "LATE_MS", "SUBJECT", "PAYLOAD"]
    assert float(row[1]) >= 0
    assert row[2:] == ["kitchen", "x"]
    late = ctl.run("send", "kitchen", "--at", "2099-01-01T00:00:00Z", "-y", "--timeout", "0")
    assert late.code == 0


async def test_listen(servers: Servers, daemons: Daemons, tmp_path: Path) -> None:
    """What arrives is printed as it comes; a time-out without messages exits 5."""
    server = servers.start()
    ctl = Gozoctl(tmp_path, server.url)
    await daemons.serve(server)
    assert ctl.run("listen", "kitchen", "--timeout", "0.1").code == 5
    script = (
        "gozoctl listen 'kitchen.*' --count 1 2>heard & "
        "until grep -q listening heard 2>/dev/null; do :; done; "
        "gozoctl send kitchen.tea ready --in 0.1 --quiet >/dev/null; wait $!"
    )
    done = ctl.shell(script)
    assert done.code == 0
    assert done.rows[1][2:] == ["kitchen.tea", "ready"]
    first = "gozoctl listen 'kitchen.*' --no-header | head -1 & "
    again = "until gozoctl send kitchen.a b --in 0 -q >/dev/null && ! kill -0 $!; do :; done"
    assert ctl.shell(first + again + " 2>/dev/null").rows[0][2:] == ["kitchen.a", "b"]


async def test_status(servers: Servers, daemons: Daemons, tmp_path: Path) -> None:
    """Exit 5 where nobody delivers, 0 where a daemon does; it is named, with what it did."""
    server = servers.start()
    ctl = Gozoctl(tmp_path, server.url)
    nobody = ctl.run("status", "-o", "json")
    assert nobody.code == 5
    assert nobody.json["bucket"] is None
    assert nobody.json["delivers"] is False
    await daemons.serve(server, "--name", "first")
    ctl.ok("create", "tea", "kitchen", "--at", "2099-01-01T00:00:00Z", "-y")
    said = ctl.ok("status", "-o", "json").json
    assert said["delivers"] is True
    assert [one["name"] for one in said["daemons"]] == ["first"]
    assert said["daemons"][0]["role"] == "leader"
    assert (said["schedules"], said["overdue"]) == (1, 0)
    assert said["next_due"] == "2099-01-01T00:00:00.000Z"
    ctl.ok("create", "at rest", "kitchen", "--in", "1h")
    ctl.ok("pause", "at rest")
    said = ctl.ok("status", "-o", "json").json
    assert (said["schedules"], said["paused"], said["failed"]) == (2, 1, 0)
    assert said["next_due"] == "2099-01-01T00:00:00.000Z"
    (daemon,) = said["daemons"]
    assert (daemon["pending"], daemon["paused"], daemon["failed"]) == (1, 1, 0)
    rows = ctl.ok("status").rows
    assert ["paused", "1"] in rows
    head, row = rows[-2:]
    assert head[:4] == ["DAEMON", "NAME", "VERSION", "ROLE"]
    assert (len(row), row[:2], row[3]) == (len(head), ["daemon", "first"], "leader")
    assert ctl.ok("status", "--no-header").rows[-2][0] == "next_due"
    (look,) = ctl.ok("status", "--watch", "--count", "1", "-o", "jsonl").json["daemons"]
    assert (look["paused"], look["failed"]) == (1, 0)
    with ctl.terminal("status") as terminal:
        terminal.shows("leader")


async def test_nobody_delivers(servers: Servers, daemons: Daemons, tmp_path: Path) -> None:
    """What is stored without a daemon is said to wait for one; data and exit code stay."""
    server = servers.start()
    ctl = Gozoctl(tmp_path, server.url)
    (tmp_path / "a.toml").write_text('[schedules.b]\nsubject = "to"\nwhen = "+2h"\n')
    says = "no daemon is delivering: start one with `gozo serve`"
    changes = (
        ("create", "a", "to", "--in", "1h"),
        ("reschedule", "a", "--in", "2h"),
        ("resume", "a"),
        ("apply", "a.toml"),
    )
    for change in changes:
        if change[0] == "resume":
            assert says not in ctl.ok("pause", "a").err
        assert says in ctl.ok(*change).err, change
    assert says not in ctl.ok("apply", "a.toml").err  # it changed nothing
    assert ctl.ok("create", "a", "to", "--in", "1h", "--quiet").err == ""
    await daemons.serve(server)
    for change in changes:
        assert says not in ctl.ok(*change).err, change


async def test_what_is_due_next(servers: Servers, daemons: Daemons, tmp_path: Path) -> None:
    """The live view names no time of a schedule that was moved, paused or cancelled."""
    server = servers.start()
    ctl = Gozoctl(tmp_path, server.url)
    await daemons.serve(server)

    def due() -> str | None:
        (one,) = ctl.ok("status", "--watch", "--count", "1", "-o", "jsonl").json["daemons"]
        return None if one["next_due"] is None else one["next_due"][:4]

    for id_ in ("moved", "cancelled", "paused"):
        ctl.ok("create", id_, "kitchen", "--at", "2090-01-01T00:00:00Z", "--yes")
    assert due() == "2090"
    ctl.ok("reschedule", "moved", "--at", "2095-01-01T00:00:00Z", "--yes")
    ctl.ok("cancel", "cancelled")
    ctl.ok("pause", "paused")
    assert due() == "2095"
    ctl.ok("cancel", "moved")
    assert due() is None


@pytest.mark.parametrize("command", [("list",), ("status",), ("cancel", "x"), ("send", "s")])
def test_no_server(tmp_path: Path, command: tuple[str, ...]) -> None:
    """No server exits 5, names the address, and writes nothing to stdout."""
    port = free_port()
    when = ["--in", "1"] if command[0] == "send" else []
    done = Gozoctl(tmp_path, f"nats://127.0.0.1:{port}").run(*command, *when)
    assert done.code == 5
    assert str(port) in done.err
    assert done.out == ""


def test_wrong_password_and_missing_permission(servers: Servers, tmp_path: Path) -> None:
    """Both exit 4; the options may stand before the command or after it."""
    ctl = Gozoctl(tmp_path, servers.start(USERS).url)
    wrong = ctl.run("-u", "admin", "-p", "wrong", "list")
    assert wrong.code == 4
    assert "wrong" not in wrong.err
    assert ctl.run("list", "-u", "admin", "-p", "right").code == 0
    assert ctl.run("-u", "admin", "list", "-p", "right").code == 0
    for command in (("list",), ("create", "a", "b", "--in", "1"), ("inspect", "a")):
        denied = ctl.run(*command, "-u", "blind", "-p", "right")
        assert denied.code == 4, denied
        assert denied.out == ""


def test_config(servers: Servers, tmp_path: Path) -> None:
    """Defaults are set, shown, used, less than the command line, and removed; mode 0600."""
    ctl = Gozoctl(tmp_path, servers.start().url)
    path = Path(ctl.ok("config", "path").out.strip())
    assert path == tmp_path / ".config/gozo/config.toml"
    ctl.ok("config", "set", "bucket", "mine")
    ctl.ok("config", "set", "output", "json")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert ctl.ok("config").out == "bucket = mine\noutput = json\n"
    assert ctl.ok("config", "get", "bucket").out == "mine\n"
    done = ctl.ok("list")
    assert done.json == []
    assert "'mine'" in done.err
    assert ctl.ok("list", "-o", "id").out == ""
    ctl.ok("config", "unset", "bucket")
    assert ctl.run("config", "get", "bucket").code == 1
    assert ctl.run("config", "set", "nonsense", "1").code == 2
    assert ctl.run("config", "set", "output", "xml").code == 2


def test_quiet(servers: Servers, tmp_path: Path) -> None:
    """--quiet leaves out the talk, and never an error."""
    ctl = Gozoctl(tmp_path, servers.start().url)
    assert ctl.ok("list", "--quiet").err == ""
    assert ctl.run("-q", "inspect", "tea").err != ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(tmp_path: Path, shell: str) -> None:
    """`completion` prints the script that packages bring, without a server."""
    done = Gozoctl(tmp_path, "nats://127.0.0.1:1").ok("completion", shell)
    assert "gozoctl" in done.out


def test_version(tmp_path: Path) -> None:
    """Both ways to ask for the version give the same."""
    ctl = Gozoctl(tmp_path, "nats://127.0.0.1:1")
    assert ctl.ok("--version").out == ctl.ok("-q", "--version").out
