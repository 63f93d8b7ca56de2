"""Which server a connection is made with, and that it is always made anew."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from functools import partial
from pathlib import Path

import pytest

from gozo.client import Client
from gozo.errors import NotAllowedError
from gozo.runtime.tasks import end, persist
from gozo.settings.model import ConnectionSettings
from gozo.transport.connection import Connection
from gozo.transport.dialer import RECONNECT_WAIT
from gozo.transport.jetstream import JetStream
from tests.support.credentials import certificates
from tests.support.false_server import FalseServer
from tests.support.patience import until
from tests.support.rights import grant, withdraw, withholding
from tests.support.server import HOST, NatsServer, free_port

LOGIN = "authorization { user: u, password: p }"
OTHER = "authorization { user: u, password: other }"


async def opened(*addresses: str, ca: Path | None = None) -> Connection:
    """Return an open connection."""
    connection = Connection(ConnectionSettings(addresses=addresses, ca=ca), "test")
    await connection.open(5)
    return connection


async def test_who_sees_answers_cannot_forge_the_next() -> None:
    """Knowing below what answers come, nobody finds out where one is expected."""
    with NatsServer() as server:
        connection, other = await opened(server.url), await opened(server.url)
        asked: list[bytes] = []
        other.listen("question", lambda _, reply, __, ___: asked.append(reply))
        await other.echo()
        answers = [
            asyncio.create_task(connection.request("question", timeout=60)) for _ in range(3)
        ]
        await until(lambda: len(asked) == 3, "all are asked")
        base = asked[0].rpartition(b".")[0]
        for guess in range(100):
            other.publish(f"{base.decode()}.{guess:x}", b"forged")
        for reply in asked:
            other.publish(reply.decode(), b"right")
        assert {(await answer).payload for answer in answers} == {b"right"}
        await connection.close()
        await other.close()


def with_login(server: NatsServer) -> str:
    """Return the address of a server, with user and password."""
    return f"nats://u:p@{HOST}:{server.port}"


def clustered(config: str) -> list[str]:
    """Return the configurations of two servers that know each other."""
    ports = [free_port(), free_port()]
    return [
        f"{config}\n"
        f"cluster {{ name: c, listen: '{HOST}:{own}', routes: ['nats://{HOST}:{other}'] }}"
        for own, other in (ports, ports[::-1])
    ]


async def test_a_server_that_refuses_does_not_hide_the_next() -> None:
    """Where one refuses, the others are tried; when it is first connected to, and later."""
    with NatsServer(config=OTHER) as refusing, NatsServer(config=LOGIN) as serving:
        connection = await opened(with_login(refusing), with_login(serving))
        keeping = asyncio.create_task(connection.keep())
        for _ in range(2):
            assert connection.info["server_name"] == serving.name
            epoch = connection.epoch
            connection.drop("test")
            await until(lambda before=epoch: connection.epoch > before, "it is back")
        await end(keeping)
        await connection.close()
        with pytest.raises(NotAllowedError, match="refused the credentials"):
            await opened(with_login(refusing))


async def test_a_refusal_is_told_where_nobody_serves() -> None:
    """Credentials that are refused are the cause, even if another server does not answer."""
    nobody = f"nats://u:p@{HOST}:{free_port()}"
    with NatsServer(config=OTHER) as refusing:
        settings = ConnectionSettings(addresses=(nobody, with_login(refusing)))
        with pytest.raises(NotAllowedError, match=r"connection refused.*refused the credentials"):
            await Connection(settings, "test").open(1)


async def test_a_server_that_ends_a_connection_may_not_have_refused(tmp_path: Path) -> None:
    """Where clients show certificates, that is told of them only after it was tried again."""
    found = certificates(tmp_path)
    begun = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal begun
        begun += 1
        writer.write(b'INFO {"tls_required": true, "tls_verify": true}\r\n')
        writer.close()

    async with await asyncio.start_server(answer, HOST, 0) as ending:
        settings = ConnectionSettings(
            addresses=(f"tls://{HOST}:{ending.sockets[0].getsockname()[1]}",),
            ca=found.ca,
            cert=found.client_cert,
            key=found.client_key,
        )
        with pytest.raises(NotAllowedError, match="check --cert and --key"):
            await Connection(settings, "test").open(1)
        assert begun > 1


@pytest.mark.parametrize("kind", ["login", "login of the second", "certificate"])
async def test_a_server_that_the_cluster_told_of_is_used(kind: str, tmp_path: Path) -> None:
    """It is told of by number alone: login and name for TLS are those of the address in use.

    It comes later, as nats-server before 2.12 tells of servers inside of TLS only then.
    """
    found = certificates(tmp_path, server=["localhost"])
    secure = kind == "certificate"
    configs = clustered(found.config_for_all if secure else LOGIN)
    with NatsServer(config=configs[0]) as first:
        addresses = [f"tls://localhost:{first.port}" if secure else with_login(first)]
        if kind == "login of the second":
            addresses.insert(0, f"nats://another:secret@{HOST}:{free_port()}")
        connection = await opened(*addresses, ca=found.ca if secure else None)
        with NatsServer(config=configs[1]) as second:
            await until(
                lambda: len(connection.info.get("connect_urls") or ()) == 2, "the other is told of"
            )
            keeping = asyncio.create_task(connection.keep())
            first.kill()
            await until(lambda: connection.info["server_name"] == second.name, "the other is used")
            await connection.echo()
            await end(keeping)
            await connection.close()


async def test_who_may_not_hear_an_echo_is_connected_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that may publish to gozo alone lives on after the look at its link."""
    monkeypatch.setattr("gozo.transport.liveness.CHECK", 0.1)
    config = """
    authorization { users: [ { user: u, password: p,
      permissions: { publish: ["gozo"], subscribe: ["_INBOX.>"] } } ] }
    """
    with NatsServer(config=config) as server:
        async with await Client.connect(with_login(server)) as client:
            connection = client._connection
            refused: list[str] = []
            connection.on_denied.append(lambda kind, subject: refused.append(subject))
            await until(lambda: bool(refused), "an echo is refused")
            server.restart()
            await until(lambda: connection.epoch == 2 and connection.connected, "it is back")
            assert len(refused) == 1


async def test_a_link_that_ends_at_once_is_not_made_at_once() -> None:
    """A server that takes a connection and ends it is left in peace for a moment."""
    with NatsServer(config="max_subscriptions: 1") as server:
        connection = await opened(server.url)
        connection.listen("a", lambda s, r, h, p: None)
        connection.listen("b", lambda s, r, h, p: None)
        began = time.monotonic()
        keeping = asyncio.create_task(connection.keep())
        await until(lambda: connection.epoch >= 5, "it is made a few times")
        assert time.monotonic() - began > 4 * RECONNECT_WAIT * 0.8
        await end(keeping)
        await connection.close()


async def test_one_that_fails_keeps_no_link_from_being_made() -> None:
    """Of those who are told of a lost link, each is, and the link is made anew."""
    with NatsServer() as server:
        connection = await opened(server.url)
        told: list[str] = []

        def fail(*arguments: object) -> None:
            told.append("failed")
            raise RuntimeError

        connection.on_lost += [fail, lambda: told.append("lost")]
        connection.on_connected += [fail, lambda: told.append("connected")]
        connection.call(b"a", b"", fail)
        keeping = asyncio.create_task(connection.keep())
        connection.drop("test")
        await until(lambda: connection.epoch == 2, "the link is made anew")
        await connection.echo()
        assert told == ["failed", "failed", "lost", "failed", "connected"]
        await end(keeping)
        await connection.close()


async def test_tls_reads_no_more_than_is_handled(tmp_path: Path) -> None:
    """What is not handled yet waits at the server, under TLS as well."""
    found = certificates(tmp_path)
    size, count = 1_000, 20_000
    with NatsServer(config=found.config_for_all) as server:
        connection = await opened(f"tls://localhost:{server.port}", ca=found.ca)
        heard, most = 0, 0

        def handle(subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
            nonlocal heard, most
            heard += 1
            assert connection._link.client is not None
            reader = connection._link.client._transport._io_reader  # type: ignore[union-attr]
            most = max(most, len(reader._buffer))
            time.sleep(0.00002)

        connection.listen("in", handle)
        await connection.echo()
        for _ in range(count):
            connection.publish("in", b"x" * size)
        await until(lambda: heard == count, "all are heard")
        assert most < size * count / 10
        await connection.close()


async def test_a_cluster_that_elects_is_waited_for() -> None:
    """JetStream's word that it cannot answer now is no refusal, and is tried again."""
    with NatsServer(jetstream=False) as server:
        connection = await opened(server.url)
        answers = iter(
            [
                b'{"error": {"code": 503, "err_code": 10008, "description": "not now"}}',
                b'{"error": {"code": 503, "err_code": 10009, "description": "not now"}}',
                b'{"config": {}}',
            ]
        )

        def answer(subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
            connection.publish(reply.decode(), next(answers))

        connection.listen("$JS.API.STREAM.INFO.s", answer)
        js = JetStream(connection)
        assert await persist(partial(js.call, "STREAM.INFO.s"), 60) == {"config": {}}
        await connection.close()


class Between:
    """Sits between client and server: writes the first line anew, and passes on the rest."""

    def __init__(self, port: int, **forged: object) -> None:
        self._port = port
        self._forged = forged
        self._links: list[asyncio.StreamWriter] = []

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        from_server, to_server = await asyncio.open_connection(HOST, self._port)
        self._links += [writer, to_server]
        info = json.loads((await from_server.readline())[5:])
        writer.write(b"INFO " + json.dumps(info | self._forged).encode() + b"\r\n")
        await asyncio.gather(_pass_on(reader, to_server), _pass_on(from_server, writer))

    def cut(self) -> None:
        """End what there is."""
        for link in self._links:
            link.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
    writer.close()


async def test_servers_that_were_told_of_before_tls_are_not_believed(tmp_path: Path) -> None:
    """Whoever is in between can write that: nobody is sent to a server of theirs."""
    found = certificates(tmp_path)
    with NatsServer(config=found.config_for_all) as server, FalseServer() as false:
        between = Between(server.port, connect_urls=[f"{HOST}:{false.port}"])
        async with await asyncio.start_server(between.answer, HOST, 0) as listening:
            port = listening.sockets[0].getsockname()[1]
            connection = await opened(f"nats://{HOST}:{port}", ca=found.ca)
            await connection.echo()
            assert connection.info.get("connect_urls") is None
            keeping = asyncio.create_task(connection.keep())
            listening.close()
            between.cut()
            await until(lambda: str(port) in connection.failure, "all servers were tried")
        assert false.connections == 0
        await end(keeping)
        await connection.close()


async def test_a_refused_subscription_is_made_again() -> None:
    """One that a reload takes away, or that was refused at first, is heard as soon as permitted.

    Each message once, and with back-off: the server is not asked all the time.
    """
    heard: list[tuple[str, bytes]] = []
    with NatsServer(config=withholding("subscribe", "granted.jobs", "closed")) as server:
        settings = ConnectionSettings((server.url,), user="gozo", password="p")  # noqa: S106
        connection = Connection(settings, "test")
        await connection.open(5)
        for subject in ("jobs", "closed", "open"):
            connection.listen(
                subject, lambda name, _, __, data: heard.append((name.decode(), data))
            )
        await until(lambda: connection.refused == {"closed"}, "one is refused")
        withdraw(server, "jobs")
        await until(lambda: connection.refused == {"closed", "jobs"}, "both are refused")
        await asyncio.sleep(1.2)  # how often it is tried meanwhile is what is tested
        assert 1 <= server.log.count("Subscription Violation") < 12
        grant(server, "jobs")
        await until(lambda: connection.refused == {"closed"}, "one is permitted again")
        grant(server, "closed")
        await until(lambda: not connection.refused, "both are permitted")
        for subject in ("jobs", "closed", "open"):
            connection.publish(subject, b"x")
        await connection.echo()
        assert heard == [("jobs", b"x"), ("closed", b"x"), ("open", b"x")]
        await connection.close()


async def test_answers_are_heard_again() -> None:
    """Where the inbox was refused, which no echo can tell, answers come once it is permitted."""
    with NatsServer(config=withholding("subscribe", "granted._INBOX.>")) as server:
        settings = ConnectionSettings((server.url,), user="gozo", password="p")  # noqa: S106
        connection = Connection(settings, "test")
        await connection.open(5)
        await connection.echo()
        withdraw(server, "_INBOX.>")
        await until(lambda: bool(connection.refused), "the inbox is refused")
        grant(server, "_INBOX.>")
        await until(lambda: not connection.refused, "it is permitted again")
        await connection.echo()
        await connection.close()
