"""What others wrote never acts on the terminal of whoever looks at it."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.client import Client
from tests.support.gozoctl import Gozoctl
from tests.support.processes import Clients, Servers
from tests.support.raw import RawClient, header_block, request
from tests.support.server import NatsServer
from tests.support.terminal import Terminal

EVIL = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\u2028end"
"""Clears the screen, names the window, in one byte and in two, turns what is written around."""

ACTING = ("\x1b", "\x9b", "\x07", "\u202e", "\u2028")
SHOWN = re.compile(r"\\(u001b|x1b)\[2J", re.IGNORECASE)
ID, LATER = f"id {EVIL}", "9999999999"


@pytest.fixture
def ctl(servers: Servers, tmp_path: Path) -> Gozoctl:
    """Run gozoctl on a server where somebody has stored what is to harm it; no daemon runs."""
    server = servers.start()
    ctl = Gozoctl(tmp_path, server.url)
    ctl.ok("create", "harmless", "kitchen", "x", "--in", "9999")
    ctl.ok("create", ID, "kitchen", EVIL, "--in", "9999", "-H", f"X: {EVIL}")
    store(server, b"key\x1b[2J", Gozo_When=LATER, Gozo_Subject="to")
    store(server, b"subject", Gozo_When=LATER, Gozo_Subject="to\x1b[2J\x9b\x07")
    store(server, b"header", Gozo_When=LATER, Gozo_Subject="to", **{f"Gozo_{EVIL}": EVIL})
    store(server, b"when", Gozo_When=f"in a {EVIL}", Gozo_Subject="to")
    store(
        server,
        b"reason",
        Gozo_When=LATER,
        Gozo_Due=LATER,
        Gozo_Subject="to",
        Gozo_Created="1",
        Gozo_State="retrying",
        Gozo_Tried="1",
        Gozo_Next=LATER,
        Gozo_Reason=EVIL,
        Gozo_Set=EVIL,
    )
    return ctl


def store(server: NatsServer, key: bytes, **headers: str) -> None:
    """Write an entry as no client of gozo does."""
    with RawClient(server.url) as raw:
        raw.send(request(b"$KV.gozo." + key, headers=header_block(**headers)))
        raw.confirm()


def check(terminal: Terminal) -> None:
    """Hold that nothing came through, and that there was something to come."""
    for character in ACTING:
        assert character not in terminal.raw
    assert SHOWN.search(terminal.raw)


def look(ctl: Gozoctl, *command: str, press: str = "", until: str = "") -> None:
    """Run a command in a terminal that shows no colours, so that every escape is another's."""
    with ctl.terminal(*command, variables={"NO_COLOR": "1"}) as terminal:
        if until:
            terminal.shows(until)
        if press:
            terminal.press(press)
        terminal.ends()
        check(terminal)


@pytest.mark.parametrize("output", ["table", "json", "jsonl", "tsv", "id"])
def test_lists(ctl: Gozoctl, output: str) -> None:
    """Keys, ids, subjects, reasons, headers and payloads are shown escaped, in every format."""
    look(ctl, "list", "-o", output)
    look(ctl, "inspect", ID, "subject", "header", "when", "reason", "-o", output)


def test_commands(ctl: Gozoctl) -> None:
    """So are they by the commands that change something, and in questions and errors."""
    look(ctl, "inspect", ID, "--payload")
    look(ctl, "inspect", f"missing {EVIL}")
    look(ctl, "list", "--subject", f"a..{EVIL}")
    look(ctl, "export")
    # A set with such a name would be refused, and not shown.
    lines = ctl.ok("export").out.splitlines()
    (ctl.home / "all.toml").write_text(
        "\n".join(one for one in lines if not one.startswith("set ="))
    )
    ctl.ok("reschedule", ID, "--in", "7777")
    look(ctl, "diff", "all.toml")
    look(ctl, "apply", "all.toml", "--dry-run")
    look(ctl, "reschedule", ID, "--in", "8888")
    look(ctl, "cancel", "--subject", "kitchen", "--dry-run")
    look(ctl, "cancel", ID, "reason")
    look(ctl, "create", ID, "kitchen", "x", "--at", f"tomorrow {EVIL}")
    look(ctl, "create", ID, f"kitchen{EVIL}", "x", "--in", "9")
    ctl.ok("create", "lines", "kitchen", "a\nb", "--in", "9999")
    assert ctl.ok("inspect", "lines", "--payload").out == "a\nb"


def test_watch(ctl: Gozoctl) -> None:
    """A table that is kept up to date draws itself anew, with escapes of its own only."""
    with ctl.terminal("list", "--watch") as terminal:
        screen = terminal.shows("harmless")
        assert SHOWN.search(screen)
        terminal.press("\x03")
        terminal.ends()
    for character in ("\x9b", "\x07", "\u202e", "\u2028", "\x1b]0", "\x1b[2J"):
        assert character not in terminal.raw
    look(ctl, "list", "--watch", "-o", "jsonl", until='"change": "current"', press="\x03")


async def test_listen(ctl: Gozoctl, clients: Clients) -> None:
    """Messages of others, on whichever subject."""
    with RawClient(ctl.url) as raw:
        subject = b"heard.\x1b[2J\xc2\x9b"
        message = request(subject, headers=header_block(X=EVIL), payload=EVIL.encode())
        for output in ("table", "json"):
            command = ("listen", "heard.>", "--count", "1", "-o", output)
            with ctl.terminal(*command, variables={"NO_COLOR": "1"}) as terminal:
                terminal.shows("heard.>")
                raw.send(message)
                await asyncio.to_thread(terminal.ends)
                check(terminal)


TRUTH: dict[str, Any] = {
    "name": "n",
    "role": "standby",
    "version": "1",
    "started": "2026-01-01T00:00:00Z",
    "pending": 0,
    "overdue": 0,
    "invalid": 0,
    "delivered": 0,
    "refused": {},
    "lateness_p50_ms": 0.0,
    "lateness_p99_ms": 0.0,
}
LIES: list[dict[str, Any]] = [
    {"name": EVIL},
    {"role": EVIL},
    {"role": "leader", "pending": "many"},
    {"lateness_p50_ms": float("inf"), "name": EVIL},
    {"refused": [EVIL]},
    {"delivered": float("inf")},
    {"started": "2026-01-01T00:00:00", "name": EVIL},
    {"started": EVIL},
    {"version": EVIL},
    {"name": [EVIL]},
]
"""What somebody who says that it is a daemon tells of itself, besides what would be true."""


async def lie(client: Client) -> None:
    """Answer as daemons do, with lies."""

    async def answer(message: Any) -> None:
        for what in LIES:
            said = TRUTH | what
            metadata = {"bucket": "gozo", "request_subject": "gozo"} | said
            body = {"metadata": metadata, "endpoints": [{"data": said}]} | said
            await client.nats.publish(message.reply, json.dumps(body).encode())

    await client.nats.subscribe("$SRV.STATS.gozo", cb=answer)
    await client.confirm()


async def test_false_daemons(ctl: Gozoctl, clients: Clients) -> None:
    """Neither what a false daemon says of itself nor how it refuses acts on the terminal."""
    client = await clients.connect(ctl.url)
    await lie(client)
    for output in ("table", "json", "tsv"):
        await asyncio.to_thread(look, ctl, "status", "-o", output)

    async def refuse(message: Any) -> None:
        refusal = {"status": "refused", "error": EVIL, "message": EVIL, "id": EVIL}
        await client.nats.publish(message.reply, json.dumps(refusal).encode())

    await client.nats.subscribe("gozo.admin.*", cb=refuse)
    await client.confirm()
    await asyncio.to_thread(look, ctl, "reschedule", ID, "--in", "9")
    await asyncio.to_thread(look, ctl, "cancel", ID)
