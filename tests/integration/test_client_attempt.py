"""`Client.attempt_of`: claims what gozo offers, and answers until gozo has stored the outcome."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import pytest

from gozo.client import Client, Message, Report
from gozo.errors import DisconnectedError, NoServerError, NotAllowedError
from gozo.settings.model import ConnectionSettings
from gozo.settings.parsers import read_addresses
from tests.support.patience import allow
from tests.support.processes import Daemons, Servers
from tests.support.running import Running
from tests.support.server import NatsServer

REPORT = Report(exit_status=3, host="web1\r\n", started=datetime(2026, 1, 2, tzinfo=UTC))


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    """Run a daemon, which a test may restart."""
    with NatsServer() as server, Daemons() as daemons:
        daemon = daemons.start("serve", "--address", server.url)
        daemon.find_event("daemon.ready", {"role": "leader"}, since=0, timeout=allow(10))
        yield Running(server, daemon)


@pytest.fixture
async def client(running: Running) -> AsyncIterator[Client]:
    """Connect gozo's client."""
    async with await Client.connect(running.server.url) as client:
        yield client


async def offered(client: Client, id_: str, **options: object) -> Message:
    """Schedule what is due now, and return its first message."""
    async with client.listen(f"jobs.{id_}") as messages:
        await client.schedule(f"jobs.{id_}", when="+0", id=id_, **options)  # type: ignore[arg-type]
        return await anext(messages)


async def states(client: Client, id_: str) -> list[str]:
    """Return the states of the runs of a schedule."""
    return [one.state async for one in client.list(prefix=id_) if one.is_run]


async def test_from_the_claim_to_the_end(client: Client) -> None:
    """One of two may start, shows signs of life for longer than the ack wait, and ends."""
    message = await offered(client, "whole", confirm="claim", ack_wait="1s", attempts=1)
    attempts = [client.attempt_of(message) for _ in range(2)]
    claims = [await one.claim(allow(5)) for one in attempts if one is not None]
    assert claims == [True, False]
    attempt = attempts[0]
    assert attempt is not None
    assert await attempt.claim(allow(5))  # as after a lost answer
    assert attempt.ack_wait == 1
    async with attempt.kept():
        await asyncio.sleep(1.6)
        assert await states(client, "whole") == ["running"]
    await attempt.ack(REPORT)
    assert await states(client, "whole") == []
    await attempt.nak("too late")  # is confirmed all the same: nobody may wait for ever


@pytest.mark.parametrize("confirm", ["reply", "claim"])
async def test_ends(client: Client, confirm: str) -> None:
    """Each is stored once its answer returns; `reply` may be claimed as well."""
    for word, state in (("nak", "retrying"), ("term", "failed")):
        id_ = f"{confirm}-{word}"
        message = await offered(client, id_, confirm=confirm, backoff="1h")
        attempt = client.attempt_of(message)
        assert attempt is not None
        assert await attempt.claim(allow(5))
        await getattr(attempt, word)("exit code 3", REPORT)
        (run,) = [one async for one in client.list(prefix=id_) if one.is_run]
        assert (run.state, run.reason, run.tried) == (state, "exit code 3", 1)


async def test_what_is_given_back(client: Client) -> None:
    """It is offered again and is not an attempt."""
    async with client.listen("jobs.back") as messages:
        await client.schedule("jobs.back", when="+0", id="back", confirm="claim", attempts=1)
        for _ in range(2):
            attempt = client.attempt_of(await anext(messages))
            assert attempt is not None
            await attempt.give_back()
    (run,) = [one async for one in client.list(prefix="back") if one.is_run]
    assert (run.tried, run.reason) == (0, "the receiver is busy")


async def test_a_delay(client: Client) -> None:
    """The next attempt is made when the receiver asks for it."""
    async with client.listen("jobs.late") as messages:
        await client.schedule("jobs.late", when="+0", id="late", confirm="claim", backoff="1h")
        attempt = client.attempt_of(await anext(messages))
        assert attempt is not None
        await attempt.nak("no disk", delay=0.01)
        assert ("Gozo-Attempt", "2") in (await anext(messages)).headers


async def test_an_end_is_told_until_it_is_heard(servers: Servers, daemons: Daemons) -> None:
    """While no daemon runs, the answer waits for one; a claim is given up after a while."""
    server = servers.start()
    daemon = await daemons.serve(server)
    async with await Client.connect(server.url) as client:
        message = await offered(client, "told", confirm="claim", ack_wait="1m")
        attempt, other = client.attempt_of(message), client.attempt_of(message)
        assert attempt is not None
        assert other is not None
        assert await attempt.claim(allow(5))
        await daemon.kill()
        answering = asyncio.create_task(attempt.ack(REPORT))
        with pytest.raises(NoServerError, match="no daemon answered the claim"):
            await other.claim(0.3)
        assert not answering.done()
        await daemons.serve(server)
        await asyncio.wait_for(answering, allow(20))
        assert await states(client, "told") == []


async def test_it_is_not_silent_while_it_answers(servers: Servers) -> None:
    """A leader that comes back hears within the ack wait that the work is not lost."""
    async with await Client.connect(servers.start().url) as client:
        headers = (("Gozo-Ack-Wait", "1s"),)
        message = Message("jobs", b"", headers, datetime.now(UTC), "gozo.ack.unheard")
        attempt = client.attempt_of(message)
        assert attempt is not None
        async with client.listen(message.reply) as answers:
            answering = asyncio.create_task(attempt.ack())
            heard = [(await anext(answers)).payload for _ in range(3)]
            answering.cancel()
        assert heard == [b"+ACK", b"+WPI", b"+WPI"]


async def test_without_the_right_to_answer(servers: Servers, daemons: Daemons) -> None:
    """Neither a claim nor an answer waits for ever for what the server denies."""
    users = "users: [{user: a, password: p}, {user: b, password: p, permissions: {%s}}]"
    server = servers.start("authorization {%s}" % (users % 'publish: {deny: "gozo.ack.>"}'))
    await daemons.serve(server, "--user", "a", "--password", "p")
    url = server.url.replace("://", "://b:p@")
    async with await Client.connect(url) as client:
        attempt = client.attempt_of(await offered(client, "denied", confirm="claim"))
        assert attempt is not None
        for call in (attempt.claim(allow(5)), attempt.ack()):
            with pytest.raises(NotAllowedError, match=r"publish to gozo\.ack\."):
                await call


async def test_a_stream_that_captures_answers(servers: Servers, daemons: Daemons) -> None:
    """Its acknowledgements are not taken for the leader's."""
    server = servers.start()
    await daemons.serve(server)
    async with await Client.connect(server.url) as client:
        message = await offered(client, "captured", confirm="claim")
        body = b'{"name": "ALL", "subjects": ["gozo.ack.>"]}'
        await client._connection.request("$JS.API.STREAM.CREATE.ALL", body)
        attempt = client.attempt_of(message)
        assert attempt is not None
        assert await attempt.claim(allow(5))
        await asyncio.wait_for(attempt.ack(), allow(5))


async def test_a_client_that_is_closed(running: Running) -> None:
    """An answer that was not confirmed says so."""
    client = await Client.connect(running.server.url)
    attempt = client.attempt_of(Message("jobs", b"", (), datetime.now(UTC), "gozo.ack.token"))
    assert attempt is not None
    assert attempt.ack_wait == 30
    await client.close()
    with pytest.raises(DisconnectedError, match="closed"):
        await attempt.ack()


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "jobs",
        "gozo.ack",
        "gozo.ack.",
        "gozo.ack.a.b",
        "gozo.ack.*",
        "xgozo.ack.a",
        "gozo.ack.é",
    ],
)
async def test_no_attempts(client: Client, reply: str) -> None:
    """A receiver must not be made to publish anywhere else."""
    message = Message("jobs", b"", (("Gozo-Ack-Wait", "1s"),), datetime.now(UTC), reply)
    assert client.attempt_of(message) is None


async def test_output(client: Client) -> None:
    """It is the payload, and the answer then stands in a header."""
    message = await offered(client, "output", confirm="claim")
    attempt = client.attempt_of(message)
    assert attempt is not None
    async with client.listen(message.reply) as answers:
        answering = asyncio.create_task(attempt.ack(Report(0, "h", None, 1.25, b"out\r\nput")))
        answer = await anext(answers)
        await asyncio.wait_for(answering, allow(5))
    assert answer.payload == b"out\r\nput"
    assert dict(answer.headers) == {
        "Gozo-Exit-Status": "0",
        "Gozo-Host": "h",
        "Gozo-Duration": "1.25s",
        "Gozo-Answer": "+ACK",
    }


async def test_a_grant_that_comes_late(running: Running) -> None:
    """It may be outdated, as after the process was frozen: the receiver asks again."""
    addresses = read_addresses(running.server.url)
    settings = ConnectionSettings(addresses=addresses, request_subject="other")
    async with (
        await Client.connect(settings) as client,
        client.listen("other.ack.*") as claims,
    ):
        headers = (("Gozo-Ack-Wait", "1s"),)
        attempt = client.attempt_of(
            Message("jobs", b"", headers, datetime.now(UTC), "other.ack.token")
        )
        assert attempt is not None
        claiming = asyncio.create_task(attempt.claim(allow(5)))
        claim = await anext(claims)
        await asyncio.sleep(0.4)  # more than a third of the ack wait
        client._connection.publish(claim.reply, b"+GO")
        again = await asyncio.wait_for(anext(claims), allow(5))
        assert again.payload == claim.payload
        assert not claiming.done()
        client._connection.publish(again.reply, b"+GO")
        assert await claiming
