"""What the bucket can never hold is refused at once, blocks nobody, and can be removed."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.acceptance.conftest import Running
from tests.acceptance.test_receipts import ask, entry_of
from tests.support.client import Client
from tests.support.gozoctl import Gozoctl
from tests.support.patience import until
from tests.support.places import write
from tests.support.processes import Clients, Daemons, Servers
from tests.support.storage import call

PERCENT = "%" * 22_000  # bytes of a header that become three times as many in the bucket
FAR = {"Gozo-When": "+9999"}


async def test_many_at_once(running: Running, client: Client) -> None:
    """Three hundred that would not fit are refused with the sizes; their ids are free."""
    receipts = await client.arrivals()
    asked = {"Gozo-When": "@every 1h", "Gozo-Receipt": receipts.subject, "X": PERCENT}
    before = (await client.stream())["last_seq"]
    for number in range(300):
        await client.send(asked | {"Gozo-Id": f"n{number}"}, reply="to")
    await receipts.wait(300)
    told = [json.loads(payload) for payload in receipts.payloads]
    assert {one["error"] for one in told} == {"too_large"}
    assert re.search(r"\b6[67]\d\d\d bytes .* the maximum is 65535\b", told[0]["message"])
    assert (await client.stream())["last_seq"] == before
    assert (await ask(client, {"Gozo-Del-Id": "n0"}))["status"] == "not_found"
    assert (await ask(client, FAR | {"Gozo-Id": "n1"}, reply="to"))["status"] == "stored"
    long = {"Gozo-When": f"{'1,' * 35_000}0-59 * * * * *", "Gozo-Id": "n2"}
    assert (await ask(client, long, reply="to"))["status"] == "refused"
    assert (await ask(client, {"Gozo-Del-Id": "n2"}))["status"] == "not_found"
    assert running.daemon.events("store.waiting") == []


async def test_many_headers(running: Running, client: Client, new_id: str) -> None:
    """Five hundred lines are passed on; of more, and of more bytes, the sentence names the most."""
    arrivals = await client.arrivals()

    def asked(lines: int, value: str) -> dict[str, str]:
        own = {"Gozo-When": "+0", "Gozo-Id": new_id}
        return own | {f"X-{number}": value for number in range(lines)}

    # A receipt is a line as well, and so are the first of the block and the one that ends it.
    most = asked(500 - 5, "x")
    assert (await ask(client, most, reply=arrivals.subject))["status"] == "stored"
    (arrived,) = await arrivals.wait()
    assert sum(name.startswith("X-") for name in arrived.headers or {}) == 495
    for headers, sentence in (
        (asked(501, "x"), "lines; the maximum is 500"),
        (asked(200, "x" * 1_000), "bytes; the maximum is 65535"),
    ):
        receipt = await ask(client, headers, reply="to")
        assert (receipt["error"], receipt["id"]) == ("too_large", new_id)
        assert sentence in receipt["message"]


async def test_the_largest_that_is_taken_is_kept_up(
    running: Running, client: Client, new_id: str, tmp_path: Path
) -> None:
    """What is taken can be rewritten after each occurrence, paused with a note and cancelled."""
    arrivals = await client.arrivals()

    def asked(size: int) -> dict[str, str]:
        spec = {"Gozo-Id": new_id, "Gozo-When": "@every 200ms", "Gozo-Misfire": "all"}
        return spec | {"Accept": "x" * size}

    low, high = 60_000, 66_000
    while high - low > 2:
        size = (low + high) // 2
        receipt = await ask(client, asked(size), reply=arrivals.subject)
        low, high = (size, high) if receipt["status"] == "stored" else (low, size)
    await ask(client, asked(low), reply=arrivals.subject)
    count = len(arrivals.all)
    await arrivals.wait(count + 3)

    async def is_written() -> bool:
        return int((await entry_of(client, new_id)).get("Gozo-Occurred", 0)) > 1

    await until(is_written, "the bucket knows that it occurred")
    ctl = Gozoctl(tmp_path, running.server.url)
    ctl.ok("pause", new_id, "--note", "\U0001f600" * 200)
    assert (await entry_of(client, new_id))["Gozo-State"] == "paused"
    ctl.ok("cancel", new_id, "--yes")


async def test_entries_of_clients(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """One that recurs and could not be rewritten is not begun; one that need not be is sent."""
    server = servers.start()
    daemon = await daemons.serve(server)
    client = await clients.connect(server)
    arrivals, once = await client.arrivals(), await client.arrivals()
    recurring = {"Gozo_When": "@every 50ms", "Gozo_Subject": arrivals.subject, "X": PERCENT}
    for number in range(3):
        write(server, f"n{number}", **recurring)
    write(server, "once", Gozo_When="+0", Gozo_Subject=once.subject, X=PERCENT)
    await once.wait()
    event = await daemon.event("entry.invalid", key="n0")
    assert "65535" in event.fields["reason"]
    ctl = Gozoctl(tmp_path, server.url)
    listed = {one["id"]: one["state"] for one in ctl.ok("list", "-o", "json").json}
    assert listed == dict.fromkeys(("n0", "n1", "n2"), "invalid")
    ctl.ok("cancel", "n0", "--yes")
    assert await daemon.terminate() == 0
    ctl.ok("cancel", "n1", "--yes")

    daemon = await daemons.serve(server)
    await daemon.event("entry.invalid", key="n2")
    await client.schedule("+0.1", reply=once)
    await once.wait(2)
    assert (await ask(client, {"Gozo-Del-Id": "n2"}))["status"] == "cancelled"
    assert ctl.ok("list", "-o", "id").out == ""
    assert arrivals.all == []
    assert await daemon.terminate() == 0


async def test_a_limit_that_came_later(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """Where the bucket takes less than before, what recurs is not sent unnoted, again and again.

    It is reported, listed by the daemon as invalid, and can be cancelled.
    """
    server = servers.start()
    daemon = await daemons.serve(server)
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    asked = {"Gozo-When": "@every 100ms", "Gozo-Id": "tick", "X": "x" * 3_000}
    assert (await ask(client, asked, reply=arrivals.subject))["status"] == "stored"
    await arrivals.wait(2)
    config = (await call(client, "STREAM.INFO.KV_gozo"))["config"]
    await call(client, "STREAM.UPDATE.KV_gozo", config | {"max_msg_size": 2_000})
    event = await daemon.event("entry.invalid", key="tick")
    assert "exceeds maximum" in event.fields["reason"]
    await client.confirm()
    count = len(arrivals.all)
    assert await daemon.terminate() == 0
    daemon = await daemons.serve(server)
    event = await daemon.event("entry.invalid", key="tick")
    assert "2000, its max_msg_size" in event.fields["reason"]
    refused = await ask(client, FAR | {"Gozo-Id": "new"}, reply="to", payload=bytes(1_500))
    assert (refused["error"], "max_msg_size" in refused["message"]) == ("too_large", True)
    other = await client.arrivals()
    await client.schedule("+0.3", reply=other, id="other")
    await other.wait()
    assert len(arrivals.all) == count
    Gozoctl(tmp_path, server.url).ok("cancel", "tick", "--yes")
    assert await daemon.terminate() == 0


async def test_a_full_bucket_lets_what_recurs_be_cancelled(
    servers: Servers, daemons: Daemons, clients: Clients, tmp_path: Path
) -> None:
    """A cancel need not wait until what was sent is noted."""
    server = servers.start()
    daemon = await daemons.serve(server)
    client = await clients.connect(server)
    arrivals = await client.arrivals()
    asked = {"Gozo-When": "@every 100ms", "Gozo-Id": "tick", "Gozo-Misfire": "all"}
    assert (await ask(client, asked, reply=arrivals.subject))["status"] == "stored"
    await arrivals.wait(2)
    config = (await call(client, "STREAM.INFO.KV_gozo"))["config"]
    await call(client, "STREAM.UPDATE.KV_gozo", config | {"max_bytes": 1})
    await daemon.event("store.full")
    await arrivals.wait(len(arrivals.all) + 2)
    Gozoctl(tmp_path, server.url).ok("cancel", "tick", "--yes")
    await client.confirm()
    count = len(arrivals.all)
    other = await client.arrivals()
    await client.schedule("+0.3", reply=other)
    await other.wait()
    assert len(arrivals.all) == count
    assert await daemon.terminate() == 0


def test_without_a_daemon(servers: Servers, tmp_path: Path) -> None:
    """Gozoctl writes to the bucket itself, and nothing that no daemon could keep up."""
    ctl = Gozoctl(tmp_path, servers.start().url)
    (tmp_path / "set.toml").write_text(
        f'[schedules.a]\nsubject = "to"\nwhen = "@every 1s"\nheaders = ["X: {PERCENT}"]\n'
    )
    for arguments in (
        ("create", "a", "to", "x", "--every", "1h", "--header", f"X: {PERCENT}"),
        ("apply", "set.toml"),
    ):
        refused = ctl.run(*arguments)
        assert refused.code in (1, 2), refused.err
        assert "65535" in refused.err
    assert ctl.ok("list", "-o", "id").out == ""
