"""`gozo check`: what a daemon needs, tried without lasting effect."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gozo.client import Client as Schedules
from gozo.daemon.check import (
    TOKEN,
    Permission,
    examine,
    required_permissions,
    useful_permissions,
)
from gozo.settings.model import ConnectionSettings, ServeSettings
from gozo.store.bucket import TTL_SINCE, is_before
from gozo.store.event_history import DESCRIPTION
from gozo.store.probe import KEY
from gozo.transport.connection import Connection
from gozo.transport.jetstream import JetStream
from tests.support.daemon import Daemon
from tests.support.documented import documented, login
from tests.support.processes import Clients, Daemons, Servers
from tests.support.readme import ROOT
from tests.support.rights import LOGIN, MISSING, withholding
from tests.support.server import free_port
from tests.support.terminal import Terminal

NO_ANSWER = ("answers", "echoes")
"""Rights of `MISSING` without which none of the others can be tried."""


async def check(daemons: Daemons, url: str, *options: str) -> tuple[int, Daemon]:
    """Run `gozo check`, and return its exit code."""
    done = daemons.start("check", "--address", url, *options)
    return await done.wait(), done


def topics(done: Daemon) -> dict[str, list[str]]:
    """Return what was printed, by topic."""
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        topic, _, words = line.strip().partition("  ")
        found.setdefault(topic, []).append(words)
    return found


def test_in_a_terminal(servers: Servers, tmp_path: Path) -> None:
    """A person on 80 columns reads whole words, below the words of the line before."""
    command = [sys.executable, "-m", "gozo", "check", "--address", servers.start().url]
    with Terminal(command, {"HOME": str(tmp_path)}, ROOT, columns=80) as terminal:
        assert terminal.ends() == 0
        lines = terminal.text.splitlines()
    (first,) = [number for number, line in enumerate(lines) if line.startswith("     advice  ")]
    assert lines[first + 1].startswith(" " * 13)
    advice = " ".join(line.strip() for line in lines[first:])
    assert "set sync_interval: always in its jetstream block" in advice


async def test_all_is_well(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """It says what is there, and changes nothing, with a daemon there or without one."""
    server = servers.start()
    client = await clients.connect(server)
    code, done = await check(daemons, server.url)
    found = topics(done)
    assert (code, done.stderr) == (0, "")
    assert server.version in found["server"][0]
    granted, _, needed, _ = found["permissions"][0].split()
    assert granted == needed
    assert "does not exist yet" in found["bucket"][0]
    assert "sync_interval" in found["advice"][0]
    says_ttl = any("Gozo-TTL" in note for note in found["note"])
    assert says_ttl == is_before(server.version, TTL_SINCE)
    assert await client.nats.jetstream().streams_info() == []

    daemon = await daemons.serve(server, "--name", "one")
    async with await Schedules.connect(server.url) as schedules:
        await schedules.schedule("kitchen", when="+1000", id="tea")
    log = daemon.mark()
    before = await _state(clients, server.url)
    code, done = await check(daemons, server.url, "--history", "1d")
    assert (code, done.stderr) == (0, "")
    found = topics(done)
    assert found["daemon"] == ["one: leader"]
    assert "1 replica, file" in found["bucket"][0]
    assert found["clock"]
    after = await _state(clients, server.url)
    assert after == before
    assert not daemon.events("lease.lost", since=log)
    assert not daemon.events("request.refused", since=log)


@pytest.mark.parametrize(
    ("kept", "given", "topic", "words"),
    [
        (2_592_000, "2h", "advice", "for 30d, and --history 2h does not shorten that: to remove"),
        (0, "30d", "advice", "edit gozo_history --max-age 30d'"),
        (
            90,
            "2h",
            "note",
            "gozo serve --history 2h lets the stream gozo_history keep events for l",
        ),
        (7_200, "120m", "history", "gozo_history: keeps gozo.event.> for 2h"),
    ],
)
async def test_history_of_another_age(
    servers: Servers,
    daemons: Daemons,
    clients: Clients,
    *,
    kept: int,
    given: str,
    topic: str,
    words: str,
) -> None:
    """Where a daemon would keep events for another time than now, that is told beforehand."""
    server = servers.start()
    js = (await clients.connect(server)).nats.jetstream()
    await js.add_stream(
        name="gozo_history", subjects=["gozo.event.>"], description=DESCRIPTION, max_age=kept
    )
    code, done = await check(daemons, server.url, "--history", given)
    assert (code, done.stderr) == (0, "")
    told = [(topic, one) for topic, said in topics(done).items() for one in said]
    aged = [(topic, one) for topic, one in told if "--history" in one]
    assert [one for one, _ in aged] == ([] if topic == "history" else [topic])
    assert any(one == topic and words in said for one, said in told)
    assert (await js.stream_info("gozo_history")).config.max_age == kept


async def _state(clients: Clients, url: str) -> dict[str, Any]:
    """Return what the streams hold, but for the lease, which is renewed all the time."""
    client = await clients.connect(url)
    found = await client.nats.jetstream().streams_info()
    return {
        one.config.name: (one.config, one.state.last_seq)
        for one in found
        if one.config.name and not one.config.name.endswith("_lease")
    }


@pytest.mark.parametrize(
    ("rules", "cure"),
    [
        (("--allow-answers", "jobs.>"), "give --allow-answers '_INBOX.>' as well"),
        (("--deny", "_INBOX.>"), "omit --deny _INBOX.>"),
        (("--allow", "jobs.>"), None),
    ],
)
async def test_rules_that_shut_receipts_out(
    servers: Servers, daemons: Daemons, rules: tuple[str, ...], cure: str | None
) -> None:
    """Where clients would ask for receipts in vain, it says so, and what helps."""
    code, done = await check(daemons, servers.start().url, *rules)
    told = [words for words in topics(done)["advice"] if "receipts" in words]
    assert code == 0
    assert [words.partition("; ")[2] for words in told] == ([cure] if cure else [])


@pytest.mark.parametrize("missing", [name for name in MISSING if name not in NO_ANSWER])
async def test_missing_right(servers: Servers, daemons: Daemons, missing: str) -> None:
    """Each is named with what it is for, and the exit code is the daemon's."""
    kind, subjects, shown = MISSING[missing]
    server = servers.start(withholding(kind, *subjects))
    code, done = await check(daemons, server.url, *LOGIN)
    assert code == 4
    assert any(
        line.startswith(f"{kind} to {shown}") and ": to " in line
        for line in topics(done)["missing"]
    )
    assert done.stderr == ""


async def test_each_right(servers: Servers) -> None:
    """Of all rights that are tried, the one that is missing is named, and no other."""
    tried = list(required_permissions(_nowhere(), _keeping_history()))
    users = [
        {"user": f"u{number}", "password": "p", "permissions": {right.verb: {"deny": [granted]}}}
        for number, right in enumerate(tried)
        for granted in [_as_granted(right)]
    ]
    server = servers.start(f"authorization: {json.dumps({'users': users})}")

    async def missing(number: int) -> list[str]:
        login = ConnectionSettings(
            addresses=(server.url,),
            user=f"u{number}",
            password="p",  # noqa: S106
        )
        said: list[str] = []

        def say(topic: str, words: str) -> None:
            if topic == "missing":
                said.append(words)

        assert await examine(replace(_keeping_history(), connection=login), say) == (1, 0, 0)
        return said

    found = await asyncio.gather(*(missing(number) for number in range(len(tried))))
    assert found == [[f"{one.verb} to {one.subject}: {one.purpose}"] for one in tried]


def _keeping_history() -> ServeSettings:
    """Return the settings of a daemon that needs every right."""
    return ServeSettings(ConnectionSettings(), events=True, history_us=3_600_000_000)


def _nowhere() -> JetStream:
    return JetStream(Connection(ConnectionSettings(), "unused"))


def _as_granted(right: Permission) -> str:
    """Return the subject under which a right is granted or withheld."""
    subject = right.subject.replace(TOKEN, "*").replace(KEY, ">")
    return subject.replace("event.check", "event.>")


@pytest.mark.parametrize("missing", NO_ANSWER)
async def test_no_answers(servers: Servers, daemons: Daemons, missing: str) -> None:
    """Where nothing can be heard, that is what is missing."""
    kind, subjects, _ = MISSING[missing]
    code, done = await check(daemons, servers.start(withholding(kind, *subjects)).url, *LOGIN)
    assert code == 4
    assert f"{kind} to _GOZO_INBOX.>" in done.stderr


async def test_documented_permissions(servers: Servers, daemons: Daemons) -> None:
    """Those in the manual are enough; with those for the temporary bucket, it is tried."""
    server = servers.start(documented())
    code, done = await check(daemons, server.url, *login("daemon"))
    assert code == 0, done.stdout
    assert any("not tried in a temporary bucket" in words for words in topics(done)["note"])
    daemon, rest = documented().split("reader =", 1)
    bucket = re.findall(r'"(\$KV\.gozo\.>|\$JS\.[^"]*\.KV_gozo(?:\.>)?)"', daemon)
    more = [one.replace("V.gozo", "V.gozo_check").replace("_gozo", "_gozo_check") for one in bucket]
    more.append("$JS.API.STREAM.DELETE.KV_gozo_check")
    granted = daemon.replace("publish = [", f"publish = [ {json.dumps(more)[1:-1]}, ")
    server = servers.start(f"{granted}reader ={rest}")
    code, done = await check(daemons, server.url, *login("daemon"))
    assert code == 0, done.stdout
    assert "trial" in topics(done), done.stdout


async def test_what_is_tried_is_what_is_needed(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """With the rights that are tried, and no others, a daemon does all that it does."""
    granted = {"publish": ["kitchen", "_GOZO_INBOX.>"], "subscribe": ["_GOZO_INBOX.>"]}
    tried = required_permissions(_nowhere(), _keeping_history())
    for right in (*tried, *useful_permissions(_nowhere(), _keeping_history())):
        granted[right.verb].append(_as_granted(right))
    permissions = {verb: {"allow": subjects} for verb, subjects in granted.items()}
    users = [
        {"user": "admin", "password": "p"},
        {"user": "gozo", "password": "p", "permissions": permissions},
    ]
    server = servers.start(f"authorization: {json.dumps({'users': users})}")
    first = await daemons.serve(server, *LOGIN, "--history", "1d")
    second = await daemons.serve(server, *LOGIN, "--history", "2d")
    client = await clients.connect(server, user="admin", password="p")  # noqa: S106
    arrivals = await client.arrivals("kitchen")
    await client.schedule("+0", reply="kitchen", id="tea")
    await arrivals.wait(1)
    assert await first.terminate() == 0
    await second.event("daemon.leading")
    await client.schedule("+0", reply="kitchen", id="coffee")
    await arrivals.wait(2)
    assert await second.terminate() == 0
    for daemon in (first, second):
        assert daemon.events("permission.denied") == []
    assert (await check(daemons, server.url, *LOGIN, "--history", "1d"))[0] == 0


async def test_odd_bucket(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """What is different about a bucket is named, with what it means."""
    server = servers.start()
    js = (await clients.connect(server)).nats.jetstream()
    await js.add_stream(
        name="KV_gozo", subjects=["$KV.gozo.>"], storage="memory", discard="new", max_bytes=1000000
    )
    code, done = await check(daemons, server.url)
    assert code == 1
    advice = "\n".join(topics(done)["advice"])
    assert "storage" not in advice
    assert any("storage memory" in words for words in topics(done)["problem"])
    assert "max_bytes 1000000, gozo's own is -1: requests beyond that are refused" in advice
    await js.add_stream(name="KV_other", subjects=["elsewhere"])
    code, done = await check(daemons, server.url, "--bucket", "other")
    assert code == 1
    assert "is not the key/value bucket other (it stores elsewhere): give another" in done.stderr
    await js.add_stream(name="KV_more", subjects=["$KV.more.>", "extra"])
    code, done = await check(daemons, server.url, "--bucket", "more")
    assert (code, "remove the stream" in done.stderr) == (1, False)  # with all its schedules
    assert "KV_more of the bucket more stores extra as well: remove that from its" in done.stderr


async def test_what_a_daemon_would_end_with(servers: Servers, daemons: Daemons) -> None:
    """No server, no JetStream, a wrong option: the same codes and words."""
    url = f"nats://127.0.0.1:{free_port()}"
    code, done = await check(daemons, url, "--connect-timeout", "0.2")
    assert (code, "does not answer" in done.stderr) == (5, True)
    code, done = await check(daemons, servers.start(jetstream=False).url)
    assert (code, "JetStream" in done.stderr) == (1, True)
    code, done = await check(daemons, url, "--replicas", "9")
    assert (code, "--replicas" in done.stderr) == (2, True)
