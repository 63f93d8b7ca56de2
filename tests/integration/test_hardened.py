"""Each cure of the client, against a real server: what kills nats-py's does not kill ours."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator

import pytest
import uvloop

from gozo.errors import DisconnectedError, NoServerError, NotAllowedError
from gozo.settings.model import ConnectionSettings
from gozo.transport.commands import publication
from gozo.transport.connection import Connection
from tests.support.patience import until
from tests.support.proxy import Mode, Proxy
from tests.support.raw import RawClient, request
from tests.support.server import HOST, NatsServer

POISON = [
    request(b"in.\x0bvertical", payload=b"1"),
    request(b"in.\x0cfeed", payload=b"2"),
    request(b"in.\xff\xfe", payload=b"3"),
    request(b"in.\xc2\x85", payload=b"4"),
    request(b"in.a", headers=b"NATS/1.0", payload=b"5"),
    request(b"in.b", headers=b"NATS/1.0\r\n", payload=b"6"),
    request(b"in.c", headers=b"NATS/1.0\r\n\r\n", payload=b"7"),
    request(b"in.d", headers=b"NATS/1.0\r\n\xff: \xfe\r\n:\r\nno colon\r\n\r\n", payload=b"8"),
    request(b"in.e", reply=b"re\x0bply", payload=b"9"),
]


async def connected(
    server: NatsServer | str, *, user: str | None = None, password: str | None = None
) -> Connection:
    """Return an open connection."""
    url = server if isinstance(server, str) else server.url
    settings = ConnectionSettings(addresses=(url,), user=user, password=password)
    connection = Connection(settings, "test")
    await connection.open(5)
    return connection


async def test_no_message_ends_the_connection() -> None:
    """Subjects and headers that end nats-py's reader arrive like any other, as bytes."""
    with NatsServer() as server:
        connection = await connected(server)
        payloads: list[bytes] = []
        connection.listen("in.>", lambda s, r, h, payload: payloads.append(payload))
        await connection.echo()
        with RawClient(server.url) as client:
            for message in POISON:
                client.send(message)
            client.confirm()
        await connection.echo()
        assert payloads == [b"%d" % number for number in range(1, 10)]
        assert connection.epoch == 1
        await connection.close()


async def test_a_handler_that_fails_fails_alone() -> None:
    """An exception in a handler costs one message, not the connection."""
    with NatsServer() as server:
        connection = await connected(server)
        seen: list[bytes] = []

        def handle(subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
            seen.append(payload)
            if payload == b"bad":
                raise ValueError("no")

        connection.listen("in", handle)
        for payload in (b"bad", b"good"):
            connection.publish("in", payload)
        await connection.echo()
        assert seen == [b"bad", b"good"]
        await connection.close()


async def test_messages_of_any_size_in_any_pieces() -> None:
    """Payloads from nothing to a megabyte come byte for byte, in order."""
    sizes = [0, 1, 5, 65_530, 65_536, 200_000, 1_048_576, 3, 0]
    with NatsServer() as server:
        connection = await connected(server)
        payloads: list[bytes] = []
        connection.listen("in", lambda s, r, h, payload: payloads.append(payload))
        for number, size in enumerate(sizes):
            connection.publish("in", bytes([number]) * size)
        await connection.echo()
        assert payloads == [bytes([number]) * size for number, size in enumerate(sizes)]
        await connection.close()


async def test_what_was_written_dies_with_its_link() -> None:
    """After a lost connection nothing of before is sent; who waited for an answer is told."""
    with NatsServer() as server:
        connection = await connected(server)
        keeping = asyncio.create_task(connection.keep())
        seen: list[bytes] = []
        connection.listen("in", lambda s, r, h, payload: seen.append(payload))
        answers: list[bytes | None] = []
        await connection.echo()
        server.freeze()
        connection.publish("in", b"before")
        connection.call(b"nobody", b"", lambda headers, payload: answers.append(payload))
        connection.drop("test")
        assert answers == [None]
        with pytest.raises(DisconnectedError):
            connection.publish("in", b"meanwhile")
        server.thaw()
        await until(lambda: connection.connected, "the link is back")
        assert connection.epoch == 2
        connection.publish("in", b"after")
        await connection.echo()
        assert seen[-1] == b"after"
        assert b"meanwhile" not in seen
        keeping.cancel()
        await connection.close()


async def test_a_frozen_server_is_noticed() -> None:
    """A server that does not answer is given up, and connected to again once it does."""
    with NatsServer() as server:
        connection = await connected(server)
        keeping = asyncio.create_task(connection.keep())
        server.freeze()
        await until(lambda: not connection.connected, "the link is given up")
        server.thaw()
        await until(lambda: connection.connected, "the link is back")
        await connection.echo()
        keeping.cancel()
        await connection.close()


async def test_a_server_that_does_not_read_blocks_nobody() -> None:
    """Writing to a server that has stopped reading returns at once, and is counted."""
    with NatsServer() as server:
        connection = await connected(server)
        server.freeze()
        data = publication(b"in", b"x" * 500_000)
        for _ in range(40):
            connection.write(data)
        assert connection.buffered > 1_000_000
        server.thaw()
        await connection.echo(timeout=10)
        assert connection.epoch == 1
        await connection.close()


async def test_refused_publications_are_told_with_their_subject() -> None:
    """A missing permission is heard before the echo of what was sent after it."""
    config = """
    authorization { users: [ { user: u, password: p,
      permissions: { publish: { deny: ["no.>"] }, subscribe: { deny: ["secret"] } } } ] }
    """
    with NatsServer(config=config) as server:
        connection = await connected(server, user="u", password="p")  # noqa: S106  # made up
        denied: list[tuple[str, str]] = []
        connection.on_denied.append(lambda kind, subject: denied.append((kind, subject)))
        connection.publish("no.Upper", b"")
        connection.publish('no."quoted"\\', b"")
        connection.publish("no.\u00fcmlaut", b"")
        connection.listen("secret", lambda s, r, h, p: None)
        await connection.echo()
        assert denied == [
            ("publish", "no.Upper"),
            ("publish", 'no."quoted"\\'),
            ("publish", "no.\u00fcmlaut"),
            ("subscription", "secret"),
        ]
        with pytest.raises(NotAllowedError, match=r"no\.request"):
            await connection.request("no.request")
        await connection.close()


async def test_no_server_within_the_time() -> None:
    """The first connection has a bound, and the error names what was tried."""
    settings = ConnectionSettings(addresses=("nats://127.0.0.1:1", "nats://127.0.0.1:2"))
    with pytest.raises(NoServerError, match=r"127\.0\.0\.1:1.*127\.0\.0\.1:2"):
        await Connection(settings, "test").open(0.5)


INFO = b'INFO {"server_name": "another"}\r\n'


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (INFO, b""),
        (INFO, b"INFO {}\r\n"),
        (INFO, b"-ERR \xff\r\n"),
        (INFO, b"-ERR\r\n"),
        (INFO, b"x" * 100_000),
        (b"x" * 100_000, b""),
        (b"INFO []\r\n", b""),
        (b"INFO{}\r\n", b""),
    ],
)
async def test_what_is_no_living_server_is_passed_over(first: bytes, last: bytes) -> None:
    """What answers otherwise than a server, or not the first PING, was never connected to."""
    answering: set[asyncio.StreamWriter] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.add(writer)
        writer.write(first)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"PING\r\n")
            writer.write(last)
        writer.close()
        answering.remove(writer)

    async with await asyncio.start_server(answer, HOST, 0) as ending:
        url = f"nats://{HOST}:{ending.sockets[0].getsockname()[1]}"
        with NatsServer() as server:
            connection = Connection(ConnectionSettings(addresses=(url, server.url)), "test")
            await connection.open(5)
            await connection.echo()
            assert connection.info["server_name"] == server.name
            await connection.close()
        alone = Connection(ConnectionSettings(addresses=(url,)), "test")
        with pytest.raises(NoServerError, match=f"{url} does not answer"):
            await alone.open(0.5)
        await until(lambda: not answering, "all connections have ended")


@contextlib.asynccontextmanager
async def posing(first: bytes, then: bytes = b"") -> AsyncIterator[str]:
    """Run what poses as a server and answers each PING, with something else besides."""
    answering: set[asyncio.StreamWriter] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.add(writer)
        writer.write(first)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"PING\r\n")
                writer.write(b"PONG\r\n" + then)
        writer.close()
        answering.remove(writer)

    async with await asyncio.start_server(answer, HOST, 0) as server:
        yield f"nats://{HOST}:{server.sockets[0].getsockname()[1]}"
        await until(lambda: not answering, "all connections have ended")


@pytest.mark.parametrize("limit", ['"x"', "null", "[1]", "-5", "0", "true", "1e999", "1" * 30])
async def test_a_server_without_a_sensible_limit_is_passed_over(limit: str) -> None:
    """A limit that is no number ended the daemon at a reconnect."""
    said = f'INFO {{"server_name": "f", "headers": true, "max_payload": {limit}}}\r\n'
    async with posing(said.encode()) as url:
        with NatsServer() as server:
            connection = Connection(ConnectionSettings(addresses=(url, server.url)), "test")
            await connection.open(5)
            assert connection.info["server_name"] == server.name
            await connection.close()
        alone = Connection(ConnectionSettings(addresses=(url,)), "test")
        with pytest.raises(NoServerError, match=r"says that its max_payload is"):
            await alone.open(0.5)


@pytest.mark.parametrize(
    "then",
    [
        b"INFO []\r\n",
        b'INFO {"max_payload": null}\r\n',
        b"INFO " + b"[" * 100_000 + b"\r\n",
        b"MSG a 1 -16\r\n",
        b"HMSG a 1 9 5\r\n",
        b"MSG a 1 99999999999\r\n",  # it would be waited for until the memory is full
    ],
)
async def test_a_link_with_what_no_server_sends_is_left(then: bytes) -> None:
    """At once, and with the reason."""
    said = b'INFO {"server_name": "f", "headers": true, "max_payload": 1048576}\r\n'
    async with posing(said, then) as url:
        connection = await connected(url)
        lost: list[str] = []
        connection.on_lost.append(lambda: lost.append(connection.failure))
        await until(lambda: bool(lost), "the link is left")
        assert re.match("the server (sent|says)", lost[0])
        await connection.close()


async def test_what_is_on_its_way_is_heard_out() -> None:
    """A subscription that is ended takes what the server had sent before it knew of the end."""
    with NatsServer() as server:
        connection = await connected(server)
        heard: list[bytes] = []
        listener = connection.listen("in", lambda s, r, h, payload: heard.append(payload))
        await connection.echo()
        with RawClient(server.url) as client:
            for number in range(5_000):
                client.send(request(b"in", payload=b"%d" % number))
            client.confirm()  # blocks the loop: nothing was read yet
        listener.stop(hear_out=True)
        await connection.echo()
        assert heard == [b"%d" % number for number in range(5_000)]
        await connection.close()


def test_a_transport_that_closed_first_is_a_lost_link() -> None:
    """The transport may be closed before its reader is told: a write then ends the link."""

    async def write() -> None:
        with NatsServer() as server:
            connection = await connected(server)
            lost: list[bool] = []
            connection.on_lost.append(lambda: lost.append(True))
            assert connection._link.client is not None
            connection._link.client._stream.transport.close()
            connection.publish("a", b"x")
            assert connection.buffered == 0
            assert lost == [True]
            with pytest.raises(DisconnectedError):
                connection.publish("a", b"x")
            await connection.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(write())


async def test_a_burst_that_is_long_in_reading_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    """A link is not left because the echo is behind all that the server has to bring."""
    monkeypatch.setattr("gozo.transport.liveness.CHECK", 0.1)
    count = 2_000
    with NatsServer() as server:
        connection = await connected(server)
        heard: list[bytes] = []

        def handle(subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
            heard.append(payload)
            time.sleep(0.0005)  # the reading of all takes ten times as long as an echo may

        connection.listen("in", handle)
        await connection.echo()
        with RawClient(server.url) as client:
            for number in range(count):
                client.send(request(b"in", payload=b"%d" % number))
            client.confirm()  # blocks the loop: nothing was read yet
        keeping = asyncio.create_task(connection.keep())
        await until(lambda: len(heard) == count or connection.epoch > 1, "all are heard")
        assert len(heard) == count
        assert connection.epoch == 1
        keeping.cancel()
        await connection.close()


async def test_a_link_that_brings_and_takes_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Messages that come do not hide for ever that what is sent gets nowhere."""
    monkeypatch.setattr("gozo.transport.liveness.CHECK", 0.2)
    monkeypatch.setattr("gozo.transport.liveness.LAG", 1.0)
    with NatsServer() as server:
        async with Proxy(server.port) as proxy:
            connection = await connected(proxy.url)
            lost: list[bool] = []
            connection.on_lost.append(lambda: lost.append(True))
            keeping = asyncio.create_task(connection.keep())
            connection.listen("in", lambda s, r, h, payload: None)
            await connection.echo()
            proxy.be(Mode.SWALLOW)
            with RawClient(server.url) as client:

                def is_lost() -> bool:
                    client.send(request(b"in"))
                    client.confirm()
                    return bool(lost)

                await until(is_lost, "the link is left")
            keeping.cancel()
            await connection.close()


@pytest.mark.parametrize("turns", range(8))
async def test_an_attempt_to_connect_is_cancelled(turns: int) -> None:
    """The attempt ends even if the server closes the connection at the same moment."""
    links: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_name":"a","version":"2.11.0","headers":true}\r\n')
        await reader.readuntil(b"PING\r\n")
        links.append(writer)

    async with await asyncio.start_server(serve, HOST, 0) as server:
        settings = ConnectionSettings(
            addresses=(f"nats://{HOST}:{server.sockets[0].getsockname()[1]}",)
        )
        connecting = asyncio.create_task(Connection(settings, "test").open(30))
        await until(lambda: bool(links), "the server is asked")
        links[0].transport.abort()
        for _ in range(turns):
            await asyncio.sleep(0)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting


async def test_a_link_without_subscriptions_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its PINGs are answered, and no message ever comes: a new link is made."""
    monkeypatch.setattr("gozo.transport.liveness.CHECK", 0.2)
    with NatsServer() as server:
        connection = await connected(server)
        keeping = asyncio.create_task(connection.keep())
        await connection.echo()
        assert connection.epoch == 1
        for sid in range(1, 10):
            connection.write(b"UNSUB %d\r\n" % sid)
        await until(lambda: connection.epoch == 2, "the link is made anew")
        await connection.echo()
        keeping.cancel()
        await connection.close()
