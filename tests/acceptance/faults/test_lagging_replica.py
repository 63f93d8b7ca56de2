"""A daemon reads the bucket anew from a replica of its stream that is behind the others."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from nats import errors as nats_errors

from gozo.client import Client as Lister
from gozo.client import loading
from gozo.errors import NoServerError
from tests.support.client import Client
from tests.support.patience import allow, until
from tests.support.places import listed
from tests.support.processes import Clients, Daemons, Servers
from tests.support.proxy import Proxy

COUNT = 20
HISTORY = {"name": "KV_gozo", "subjects": ["$KV.gozo.>"], "max_msgs_per_subject": 2}


class Behind(Proxy):
    """A way on which the next consumer for a load finds what a replica has that is behind."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self._policy = self._batch = b""

    def next_load(self, policy: bytes, batch: bytes = b"2000") -> None:
        """Have the next consumer begin by this policy, and hand on only so many messages."""
        self._policy, self._batch = b'"%b"' % policy, b'"batch":%b' % batch

    def _asked(self, data: bytes) -> bytes:
        usual = b'"last_per_subject"'
        if self._policy and usual in data:
            data = data.replace(usual, self._policy.ljust(len(usual)))
            self._policy = b""
        elif self._batch and not self._policy and (found := re.search(rb'"batch":\d+', data)):
            data = data.replace(found[0], self._batch.ljust(len(found[0])))
            self._batch = b""
        return data


async def told(client: Client) -> dict[str, Any]:
    """Return what the leader says of the keys, once it has read the bucket."""
    found: list[dict[str, Any]] = []

    async def is_answered() -> bool:
        try:
            reply = await client.nats.request("gozo.admin.keys", b'{"limit": 100}', timeout=1)
        except nats_errors.Error:
            return False
        found.append(json.loads(reply.data))
        return "keys" in found[-1]

    await until(is_answered, "the leader has read the bucket", allow(10))
    return found[-1]


async def holds(client: Client, schedules: int) -> bool:
    """Tell whether the leader knows so many schedules."""
    return len((await told(client))["keys"]) == schedules


async def test_what_it_does_not_have_is_not_given_up(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """It has none of the schedules: the stream's leader does, so they are kept."""
    server = servers.start()
    client = await clients.connect(server)
    async with Behind(server.port) as way:
        daemon = await daemons.serve(way.url)
        for number in range(COUNT):
            await client.schedule("+3600", reply="to", id=f"kept{number}")
        await client.confirm()
        await until(lambda: holds(client, COUNT), "all are stored")
        way.next_load(b"new")
        mark = daemon.mark()
        way.cut()
        await daemon.event("follower.reset", since=mark)
        assert len((await told(client))["keys"]) == COUNT
        assert daemon.events("follower.dropped", since=mark) == []


async def test_what_it_still_has_is_not_taken_in(
    servers: Servers, daemons: Daemons, clients: Clients
) -> None:
    """It has a schedule as it was before it was replaced: that is not delivered."""
    server = servers.start()
    client = await clients.connect(server)
    asked = json.dumps(HISTORY).encode()
    await client.nats.request("$JS.API.STREAM.CREATE.KV_gozo", asked, timeout=allow(5))
    arrivals = await client.arrivals()
    async with Behind(server.port) as way:
        daemon = await daemons.serve(way.url)
        await client.schedule("+1", reply=arrivals.subject, id="order")
        await client.schedule("+3600", reply=arrivals.subject, id="order")
        await client.confirm()
        await client.schedule("+1", reply=arrivals.subject, id="first")
        await arrivals.wait(1)  # by now what was replaced would be due
        await until(lambda: holds(client, 1), "it is settled")
        way.next_load(b"all", b"2")  # the mark of its term, and the first version
        mark = daemon.mark()
        way.cut()
        await daemon.event("follower.reset", since=mark)
        answer = await told(client)
        assert len(answer["keys"]) == 1
        assert len(arrivals.all) == 1


async def test_a_list_is_complete_or_fails(
    servers: Servers, daemons: Daemons, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who lists the schedules learns that the replica has none of them, instead of nothing."""
    monkeypatch.setattr(loading, "LAG", 0.2)
    server = servers.start()
    client = await clients.connect(server)
    await daemons.serve(server)
    await client.schedule("+3600", reply="to", id="kept")
    await client.confirm()
    await until(lambda: holds(client, 1), "it is stored")
    async with Behind(server.port) as way, await Lister.connect(way.url) as lister:
        way.next_load(b"new")
        with pytest.raises(NoServerError, match="a replica of the stream lags behind"):
            await listed(lister)
        assert list(await listed(lister)) == ["kept"]
