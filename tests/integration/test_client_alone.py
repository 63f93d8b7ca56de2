"""`gozo.client` where something is missing: a bucket, a server, JetStream, a right."""

from __future__ import annotations

import asyncio

import pytest

from gozo.client import Client, NotFoundError
from gozo.errors import (
    DisconnectedError,
    GozoError,
    JetStreamError,
    NoServerError,
    NotAllowedError,
    RequestError,
    SettingsError,
)
from gozo.settings.model import ConnectionSettings
from tests.support.client import Client as RawClient
from tests.support.patience import allow, until
from tests.support.places import LATER, listed
from tests.support.processes import Daemons, Servers
from tests.support.server import free_port
from tests.support.storage import BYTES, Limit


async def test_no_bucket(servers: Servers) -> None:
    """To look, to cancel and to put off creates nothing: there are no schedules."""
    server = servers.start()
    async with await Client.connect(server.url) as client:
        assert await client.get("a") is None
        assert await client.last_outcome("a") is None
        assert await listed(client) == {}
        assert [done.status for done in await client.cancel("a")] == ["not_found"]
        with pytest.raises(NotFoundError):
            await client.reschedule("a", LATER)
        assert await client.bucket() is None
        await client.schedule("to", b"x", when=LATER, id="a")
        info = await client.bucket()
        assert info is not None
        assert (info.name, info.keys, info.replicas, info.storage) == ("gozo", 1, 1, "file")
        assert info.settings["max_msgs_per_subject"] == 1


async def test_other_names(servers: Servers, daemons: Daemons) -> None:
    """The bucket and the request subject of the settings are used, and no others."""
    server = servers.start()
    names = ("--bucket", "mine", "--request-subject", "my.gozo")
    await daemons.serve(server, *names)
    settings = ConnectionSettings((server.url,), request_subject="my.gozo", bucket="mine")
    async with await Client.connect(settings) as client, await Client.connect(server.url) as other:
        await client.schedule("to", when=LATER, id="a")
        assert (set(await listed(client)), await listed(other)) == ({"a"}, {})
        assert [replica.role for replica in await client.replicas()] == ["leader"]
        assert await other.replicas() == []
        assert [done.status for done in await client.cancel("a")] == ["cancelled"]


async def test_no_server() -> None:
    """Without a server there is no client; the error names the address."""
    port = free_port()
    with pytest.raises(NoServerError, match=str(port)):
        await Client.connect(f"nats://127.0.0.1:{port}", timeout=0.5)
    with pytest.raises(SettingsError, match="scheme"):
        await Client.connect("http://127.0.0.1")


async def test_a_lost_server(servers: Servers) -> None:
    """While there is no connection each call says so; once it is back, all goes on."""
    server = servers.start()
    async with await Client.connect(server.url) as client:
        assert client.server.address == server.url
        assert (client.server.name, client.server.max_payload) == (server.name, 1024 * 1024)
        await client.schedule("to", when=LATER, id="a")
        server.stop()
        for attempt in (
            client.get("a"),
            client.cancel("a"),
            client.schedule("to", when=LATER, id="b"),
            client.replicas(),
            listed(client),
        ):
            with pytest.raises(DisconnectedError):
                await attempt
        server.start()
        await until(lambda: client._connection.connected, "the link is back")
        assert set(await listed(client)) == {"a"}


async def test_closed(servers: Servers) -> None:
    """Whoever iterates over a client that is closed is told so, and does not wait for ever."""
    server = servers.start()
    client = await Client.connect(server.url)
    messages, changes = client.listen("a"), client.watch()
    assert (await anext(changes)).kind == "current"
    waiting = [asyncio.ensure_future(anext(one)) for one in (messages, changes)]
    await client._connection.echo()
    await client.close()
    async with asyncio.timeout(allow(5)):
        results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [DisconnectedError] * 2


async def test_no_jetstream(servers: Servers) -> None:
    """Without JetStream the error says how to turn it on."""
    server = servers.start(jetstream=False)
    async with await Client.connect(server.url) as client:
        for attempt in (
            client.get("a"),
            listed(client),
            client.cancel("a"),
            client.bucket(),
            client.schedule("to", when=LATER, id="a"),
            anext(client.watch()),
        ):
            with pytest.raises(JetStreamError, match="JetStream"):
                await attempt


@pytest.mark.parametrize("denied", ["gozo.>", "$JS.API.>", "$KV.gozo.>", "$SRV.>"])
async def test_missing_permission(servers: Servers, denied: str) -> None:
    """A right that is missing is named, at once, by whatever needs it."""
    users = f'{{ user: u, password: p, permissions: {{ publish: {{ deny: ["{denied}"] }} }} }}'
    server = servers.start(f"authorization {{ users: [ {users} ] }}")
    settings = ConnectionSettings((server.url,), user="u", password="p")  # noqa: S106
    async with await Client.connect(settings) as client:
        match denied:
            case "$SRV.>":
                attempt: asyncio.Future[object] = asyncio.ensure_future(client.replicas())
            case "$JS.API.>":
                attempt = asyncio.ensure_future(listed(client))
            case _:
                attempt = asyncio.ensure_future(client.schedule("to", when=LATER, id="a"))
        with pytest.raises(NotAllowedError, match="grant that permission"):
            await attempt


async def test_missing_permission_to_listen(servers: Servers) -> None:
    """To listen where one may not is an error, not silence."""
    users = '{ user: u, password: p, permissions: { subscribe: { deny: ["secret"] } } }'
    server = servers.start(f"authorization {{ users: [ {users} ] }}")
    settings = ConnectionSettings((server.url,), user="u", password="p")  # noqa: S106
    async with await Client.connect(settings) as client:
        with pytest.raises(NotAllowedError, match="subscribe to secret"):
            async with client.listen("secret"):
                pass
        with pytest.raises(GozoError, match="subscribe to secret"):
            await anext(client.listen("secret"))


async def test_cancel_without_room(servers: Servers) -> None:
    """Where not even a delete marker can be stored, a cancel is done all the same."""
    server = servers.start(storage=f"max_file: {BYTES}")
    async with (
        await Client.connect(server.url) as client,
        await RawClient.connect(server.url) as other,
    ):
        await client.schedule("to", b"x", when=LATER, id="a")
        async with Limit("server", other):
            done = await client.cancel("a", "a b")
            assert [one.status for one in done] == ["cancelled", "not_found"]
            assert await client.get("a") is None
            with pytest.raises(RequestError, match="insufficient resources") as refused:
                await client.schedule("to", b"x" * 2_000, when=LATER, id="a")
            assert refused.value.code == "unavailable"
