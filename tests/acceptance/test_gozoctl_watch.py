"""`gozoctl status --watch`: the daemons at work, as people and scripts see them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.gozoctl import Gozoctl
from tests.support.processes import Clients, Daemons, Servers
from tests.support.server import HOST

OFTEN = ("--watch", "--interval", "0.1")
READABLE = {"default", "green", "magenta", "red"}
"""Colours that can be read on a light terminal and on a dark one."""


@pytest.mark.parametrize("columns", [80, 200])
async def test_view(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path, columns: int
) -> None:
    """It shows who leads, how quick it is and what is next, and follows what changes."""
    server = servers.start()
    ctl = Gozoctl(tmp_path, server.url)
    first = await daemons.serve(server, "--name", "mail-gateway-01-4b5c6d")
    client = await clients.connect(server)
    await client.schedule("+100000", reply="kitchen", id="tea")
    await client.confirm()
    with ctl.terminal("status", *OFTEN, columns=columns) as terminal:
        screen = terminal.shows("0.0 ms")
        lines = screen.splitlines()
        assert lines[0] == f"  server  {server.name} {server.version}, nats://{HOST}:{server.port}"
        assert lines[1].startswith("  bucket  gozo, ")
        terminal.shows("next due")
        terminal.shows(lambda text: " in 1d " in text)
        (row,) = [line for line in terminal.text.splitlines() if "leader" in line]
        assert row.split()[:3] == ["mail-gateway-01-4b5c6d", "leader", "1"]
        await daemons.serve(server, "--name", "other")
        terminal.shows("standby")
        await first.kill()
        terminal.shows(
            lambda text: "leader" in text and "mail-" not in text and "problem" not in text
        )
        assert {back for _, back in terminal.colours} == {"default"}
        assert {front for front, _ in terminal.colours} <= READABLE
        assert all(len(line) <= columns for line in terminal.text.splitlines())
        assert terminal.text.count("server") == 1, "the view does not leave its earlier state"
        terminal.press("\x03")
        assert terminal.ends() == 130


async def test_resized(servers: Servers, daemons: Daemons, tmp_path: Path) -> None:
    """After a change of its width the view begins on an empty screen, and cuts no figure.

    A terminal wraps anew what it shows, so that the lines of before cannot be found again.
    """
    cleared, cursor = "\x1b[2J", "\x1b[?25h"
    server = servers.start()
    await daemons.serve(server, "--name", "mail-gateway-01-4b5c6d")
    ctl = Gozoctl(tmp_path, server.url)
    with ctl.terminal("status", *OFTEN, columns=130) as terminal:
        terminal.shows("leader")
        assert cleared not in terminal.raw
        terminal.resize(60)
        terminal.shows(lambda text: cleared in terminal.raw and "leader" in text)
        assert "ROLE    PENDING  IN/S  OUT/S  P50     P99     UP" in terminal.text
        terminal.press("\x03")
        assert terminal.ends() == 130
        assert terminal.raw.endswith(cursor)


async def test_nobody(servers: Servers, daemons: Daemons, tmp_path: Path) -> None:
    """Without a daemon, or without a server, it says so, and goes on looking."""
    server = servers.start()
    ctl = Gozoctl(tmp_path, server.url)
    with ctl.terminal("status", *OFTEN) as terminal:
        terminal.shows("no daemon delivers")
        assert "does not exist yet" in terminal.text
        daemon = await daemons.serve(server)
        terminal.shows("leader")
        assert await daemon.terminate() == 0
        terminal.shows("no daemon delivers")
        server.stop()
        terminal.shows("no connection")
        without = servers.start(jetstream=False, port=server.port)
        terminal.shows("start nats-server with JetStream")
        without.stop()
        server.start()
        terminal.shows("no daemon delivers")
    ended = ctl.run("status", *OFTEN, "--count", "1")
    assert ended.code == 5
    assert "gozo serve" in ended.err


async def test_in_a_pipe(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """A line for each look, without escapes; it ends when nobody reads."""
    server = servers.start()
    ctl = Gozoctl(tmp_path, server.url)
    await daemons.serve(server, "--name", "one")
    client = await clients.connect(server)
    await client.schedule("2099-01-01T00:00:00Z", reply="kitchen", id="tea")
    await client.confirm()
    head, first, second = ctl.ok("status", *OFTEN, "--count", "2").rows
    assert head[:4] == ["AT", "LEADER", "PENDING", "OVERDUE"]
    assert first[1:6] == ["one", "1", "0", "", ""]
    assert second[1:6] == ["one", "1", "0", "0.0", "0.0"]
    assert second[-1] == "2099-01-01T00:00:00.000Z"
    (line,) = ctl.ok("status", *OFTEN, "--count", "1", "-o", "jsonl").out.splitlines()
    look = json.loads(line)
    assert look["delivers"] is True
    assert look["daemons"][0]["accepted"] == 1
    assert ctl.shell("gozoctl status --watch --interval 0.1 | head -2").code == 0
