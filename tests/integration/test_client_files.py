"""Files of schedules, exported and applied again: nothing changes, whatever was applied."""

from __future__ import annotations

import asyncio
import base64
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
import tomli_w
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from gozo.client import Client, Schedule
from gozo.client.manifest import Manifest, parse, write
from gozo.settings.model import ConnectionSettings
from gozo.settings.parsers import read_addresses
from tests.support.crons import CRONS, ZONES
from tests.support.server import NatsServer

LATER = "2999-01-01T00:00:00"
SPANS = st.sampled_from(["1s", "1m30s", "90", "0.25", "1h", "36h"])
WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
SETS = st.sampled_from(["nightly", "web1.root", "a b", "\N{SNOWMAN} \"q\" 'r' \\"])
IDS = st.sampled_from(
    ["a", "a.b", "web1.root.backup", "\N{SNOWMAN} =", 'q"\\', "*.>"]
) | WORDS.filter(lambda text: text == text.strip())
SUBJECTS = st.sampled_from(["jobs", "cron.web1.root.backup", "a.b-c"])
PAYLOADS: st.SearchStrategy[dict[str, str]] = st.one_of(
    st.fixed_dictionaries({}),
    st.fixed_dictionaries({"payload": st.text(st.characters(exclude_categories=["Cs"]))}),
    st.fixed_dictionaries(
        {"payload-base64": st.binary().map(lambda data: base64.b64encode(data).decode())}
    ),
)
HEADERS = st.lists(
    st.sampled_from(["A: b", "a: c", "Content-Type: text/plain", "X-Empty:", "Nats-Msg-Id: 1"]),
    unique_by=lambda line: line.partition(":")[0],
)
OPTIONAL = {
    "headers": HEADERS,
    "protect": st.booleans(),
    "set": SETS,
}
ONCE = st.sampled_from(["+1000h", f"{LATER}Z", f"@at {LATER}+02:00", "32503680000", "+36000000.5"])
RECURRING = st.sampled_from(["@every 36h", "@every 90s", "@daily", "@yearly"]) | CRONS
OF_RECURRING = {
    "start": st.just(f"{LATER}Z"),
    "until": st.just("3000-01-01T00:00:00+01:00"),
    "count": st.integers(1, 99),
    "jitter": SPANS,
    "misfire": st.sampled_from(["once", "all", "skip"]),
    "misfire-grace": SPANS,
}
CONFIRMED = {
    "attempts": st.integers(1, 9),
    "max-age": SPANS,
    "dead-letter": st.just("jobs.failed"),
}
ANSWERED = {
    "ack-wait": st.sampled_from(["1s", "90", "1h30m"]),
    "backoff": st.sampled_from(["1s,10s", ["0.5s", "1m"], "3"]),
    "expect": st.sampled_from(["1s", "90", "1h30m"]),
    "keep-output": st.booleans(),
}
COMMANDS = {
    "host": st.just("web1"),
    "user": st.just("www-data"),
    "timeout": SPANS,
    "environment": st.just({"PATH": "/bin"}),
    "mailto": st.just("ops@example.org"),
}


@st.composite
def tables(draw: st.DrawFn) -> dict[str, Any]:
    """Make a table that gozo takes."""
    table: dict[str, Any] = draw(st.fixed_dictionaries({"subject": SUBJECTS}, optional=OPTIONAL))
    recurs = draw(st.booleans())
    table["when"] = draw(RECURRING if recurs else ONCE)
    if recurs:
        table |= draw(st.fixed_dictionaries({}, optional=OF_RECURRING))
        if "@" not in table["when"]:
            table |= draw(st.fixed_dictionaries({}, optional={"time-zone": st.sampled_from(ZONES)}))
    if draw(st.booleans()):
        table |= {"paused": True}
        table |= draw(st.fixed_dictionaries({}, optional={"note": st.just("till \N{SNOWMAN}")}))
    overlap = {"overlap": st.sampled_from(["allow", "skip", "queue"])} if recurs else {}
    match draw(st.sampled_from([None, True, "stream", "reply", "claim", "command"])):
        case None:
            return table | draw(PAYLOADS)
        case "command":
            table["command"] = draw(st.sampled_from(["a b", ["a", "b c"]]))
            optional = COMMANDS | CONFIRMED | ANSWERED | overlap
            return table | draw(st.fixed_dictionaries({}, optional=optional))
        case True | "stream" as by:
            optional = CONFIRMED | {"ttl": st.sampled_from(["5s", "1h"])}
        case by:
            optional = CONFIRMED | ANSWERED | overlap
    table |= draw(st.fixed_dictionaries({"confirm": st.just(by)}, optional=optional))
    if by in (True, "stream") and not recurs and not {"attempts", "max-age"} & set(table):
        table.pop("dead-letter", None)  # there never would be one
    return table | draw(PAYLOADS)


@st.composite
def files(draw: st.DrawFn) -> list[tuple[str, str | None]]:
    """Make files whose ids differ, each with the set that is given on the command line."""
    ids = iter(draw(st.lists(IDS, unique=True, min_size=3, max_size=6)))
    made = []
    for some in draw(st.lists(st.lists(tables(), min_size=1, max_size=3), min_size=1, max_size=3)):
        content = draw(st.fixed_dictionaries({}, optional={"set": SETS}))
        named = dict(zip(ids, some, strict=False))
        made.append((tomli_w.dumps(content | {"schedules": named}), draw(st.none() | SETS)))
    return made


def read(text: str, name: str, set_: str | None = None) -> Manifest:
    """Read a file with this name."""
    return parse(text, f"{name}.toml", name, lambda path: b"", managed_by=set_)


async def stored(client: Client) -> list[Schedule]:
    """Read all schedules, as `gozoctl export` does."""
    ids = sorted([one.id async for one in client.list() if one.id is not None])
    found = [await client.get(id_) for id_ in ids]
    return [one for one in found if one is not None]


async def changes(client: Client, manifest: Manifest) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return what applying a file with --prune would change."""
    plan = await client.apply(manifest.wanted, prune=manifest.sets, dry_run=True)
    return [(one.id, one.action, one.keys) for one in plan if one.action != "leave"]


@pytest.fixture(scope="module")
def server() -> Iterator[NatsServer]:
    """Run a server; each example has buckets of its own."""
    with NatsServer() as server:
        yield server


async def connect(server: NatsServer) -> Client:
    """Connect to a bucket that does not exist yet."""
    addresses = read_addresses(server.url)
    return await Client.connect(ConnectionSettings(addresses, bucket=uuid.uuid4().hex))


async def go_round(server: NatsServer, given_files: list[tuple[str, str | None]]) -> None:
    """Apply files, export all, and apply that, there and elsewhere."""
    async with await connect(server) as client, await connect(server) as other:
        manifests = [read(text, f"file{n}", set_) for n, (text, set_) in enumerate(given_files)]
        for manifest in manifests:
            await client.apply(manifest.wanted)
        wanted = {one.id: one for manifest in manifests for one in manifest.wanted}
        found = await stored(client)
        assert {one.id: one.managed_by for one in found} == {
            id_: one.managed_by for id_, one in wanted.items()
        }
        exported = read(write(found), "exported")
        assert await changes(client, exported) == []
        await client.apply(exported.wanted)
        assert await stored(client) == found
        for manifest in manifests:
            plan = await client.apply(manifest.wanted, dry_run=True)
            assert {one.action for one in plan} <= {"leave"}
        await other.apply(exported.wanted)
        assert write(await stored(other)) == write(found)


def test_it_goes_round(server: NatsServer) -> None:
    """What is exported and applied is what was applied, each with its set."""

    @settings(phases=[Phase.generate], suppress_health_check=[HealthCheck.too_slow])
    @given(files())
    def check(given_files: list[tuple[str, str | None]]) -> None:
        asyncio.run(go_round(server, given_files))

    check()
