"""A bucket that was there before is used as it is, and what is different about it is reported."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.support.processes import Clients, Daemons, Servers
from tests.support.storage import call

PLAIN = {"max_msgs_per_subject": -1, "discard": "old", "allow_msg_ttl": False}
"""What the server makes of a stream about which nothing is said."""

ODD = {
    "storage": "memory",
    "discard": "old",
    "max_age": 3_600_000_000_000,
    "max_bytes": 1_000_000,
    "max_msgs": 1_000,
    "max_msg_size": 10_000,
    "max_msgs_per_subject": 5,
    "allow_rollup_hdrs": True,
}


def shown(value: object) -> str:
    """Return a value as a log has it."""
    return "yes" if value is True else "no" if value is False else str(value)


@pytest.mark.parametrize("chosen", [{"deny_purge": True}, ODD], ids=["plain", "odd"])
async def test_reported_and_left(
    servers: Servers, daemons: Daemons, clients: Clients, chosen: dict[str, Any]
) -> None:
    """One line for each setting, with gozo's own and what the other means; nothing is changed."""
    server = servers.start()
    client = await clients.connect(server)
    made = {"name": "KV_gozo", "subjects": ["$KV.gozo.>"], **chosen}
    before = (await call(client, "STREAM.CREATE.KV_gozo", made))["config"]
    daemon = await daemons.serve(server, "--replicas", "1")
    told = [event.fields for event in daemon.events("bucket.setting_differs")]
    wanted = {name: shown(value) for name, value in (PLAIN | chosen).items()}
    if server.version.startswith("2.10."):
        del wanted["allow_msg_ttl"]  # nothing has a time to live there
    assert {one["setting"]: one["value"] for one in told} == wanted
    assert all(one["effect"] and one["bucket"] == "gozo" for one in told)
    arrivals = await client.arrivals()
    await client.schedule("+0.1", reply=arrivals, id="a", payload=b"x")
    await arrivals.wait()
    assert await daemon.terminate() == 0
    after = (await call(client, "STREAM.INFO.KV_gozo"))["config"]
    assert after == before


async def test_own_bucket(servers: Servers, daemons: Daemons) -> None:
    """A bucket that gozo made has nothing to report."""
    server = servers.start()
    assert await (await daemons.serve(server)).terminate() == 0
    daemon = await daemons.serve(server)
    assert daemon.events("bucket.setting_differs") == []
    assert await daemon.terminate() == 0


async def test_earlier_versions(servers: Servers, daemons: Daemons, clients: Clients) -> None:
    """Where a bucket keeps earlier versions of a key, a schedule does not come back to life.

    A delete marker that the server removes would leave the entry before it as the latest one.
    """
    server = servers.start()
    client = await clients.connect(server)
    made = {"name": "KV_gozo", "subjects": ["$KV.gozo.>"], "allow_msg_ttl": True}
    await call(client, "STREAM.CREATE.KV_gozo", made | {"max_msgs_per_subject": 5})
    daemon = await daemons.serve(server, "--replicas", "1")
    arrivals = await client.arrivals()
    await client.schedule("+0.1", reply=arrivals, id="a", payload=b"x")
    await arrivals.wait()
    assert await daemon.terminate() == 0
    latest = await call(client, "STREAM.MSG.GET.KV_gozo", {"last_by_subj": "$KV.gozo.a"})
    headers = base64.b64decode(latest["message"]["hdrs"])
    assert b"KV-Operation: DEL" in headers
    assert b"Nats-TTL" not in headers
