"""Answers that are wrong, late, repeated, forged or huge are counted, and have no other effect."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from gozo.protocol.answers import Verdict
from tests.support.client import Client
from tests.support.metrics import scrape
from tests.support.raw import RawClient, request
from tests.support.receipts import ask, entry_of
from tests.support.receiver import Delivered, Receiver, ask_until
from tests.support.run_events import RunEvents
from tests.support.running import Running
from tests.support.server import NatsServer

HUGE = 1024 * 1024 - 100
WORDS = [b"+ACK", b"-NAK", b"+TERM", b"+WPI", b"+CLAIM", b"+OK", b"+GO", b"{", b"\x00", b" "]
IGNORED = [
    b"NATS/1.0 404 No Messages\r\n\r\n",
    b"NATS/1.0 100 Idle Heartbeat\r\n\r\n",
    b"NATS/1.0 408\r\n\r\n",
]
"""Headers with which a message is no answer: a server's word, and not that nobody subscribes."""


@pytest.fixture(scope="module")
def options() -> tuple[str, ...]:
    """Publish events, which show what happens to runs, and metrics, which count answers."""
    return ("--events", "--metrics", "127.0.0.1:0")


async def counted(running: Running) -> Counter[str]:
    """Return how many answers of each kind were counted."""
    port = int((await running.daemon.event("metrics.ready")).fields["port"])
    figures = await scrape(port)
    return Counter(
        {verdict: int(figures[f"gozo_answers_total{{answer={verdict}}}"]) for verdict in Verdict}
    )


@pytest.fixture
async def events(client: Client, new_id: str) -> RunEvents:
    """Record the events of the test's id."""
    return await RunEvents.listen(client, new_id)


@pytest.fixture
async def receiver(client: Client, new_id: str, events: RunEvents) -> Receiver:
    """Receive one delivery of the test's id, without an automatic answer."""
    receiver = await Receiver.start(client.nats, *[None] * 100)
    asked = {"Gozo-When": "+0", "Gozo-Id": new_id, "Gozo-Confirm": "reply"}
    await ask(client, asked, reply=receiver.subject)
    await receiver.wait()
    await events.find("started")
    return receiver


def publish(server: NatsServer, *messages: bytes) -> None:
    """Publish messages as they are on the wire; the server may close the connection."""
    with RawClient(server.url) as raw:
        for message in messages:
            raw.send(message)
        raw.confirm()


async def goes_on(job: Delivered, receiver: Receiver, events: RunEvents) -> None:
    """Check that a run is unchanged, and that its answer still counts."""
    assert await receiver.ask(job, b"+WPI") == b"+OK"
    assert await events.states() == ["running"]
    assert len(receiver.all) == 1
    assert await receiver.ask(job, b"+ACK") == b"+OK"
    await events.find("succeeded")
    assert events.kinds == ["accepted", "started", "succeeded"]


async def test_what_is_no_answer(running: Running, receiver: Receiver, events: RunEvents) -> None:
    """A server's status is none, nor is a stream's acknowledgement."""
    job = receiver.all[0]
    subject = job.reply.encode()
    messages = [request(subject, headers=block) for block in IGNORED]
    messages += [
        request(subject, headers=b"NATS/1.0 503\r\n\r\n", payload=b"not the server's"),
        request(subject, payload=b'{"stream": "S", "seq": 1}'),
        request(subject, payload=b'{"error": {"code": 503}, "stream": "S", "seq": 0}'),
        request(subject, payload=b"+CLAIM"),
        request(subject, payload=b"+CLAIM " + b"n" * HUGE),
        request(subject, payload=b"+WPI " + b"x" * HUGE),
    ]
    before = await counted(running)
    publish(running.server, *messages)
    await goes_on(job, receiver, events)
    expected = {"invalid": 6, "stream": 2, "alive": 2, "done": 1}
    assert await counted(running) - before == Counter(expected)


async def test_forged_tokens(running: Running, receiver: Receiver, events: RunEvents) -> None:
    """A client that does not know the token has no influence on a run."""
    job = receiver.all[0]
    token = job.reply.removeprefix("gozo.ack.")
    others = [token[:-1], f"{token}A", token.swapcase(), token[::-1], "\u00e9", "A" * 200]
    (key,) = await events.runs()
    others += [key, key.rpartition(".")[2], f"{token}.more"]
    messages = [
        request(f"gozo.ack.{other}".encode(), payload=word)
        for other in others
        for word in WORDS
        if other != token
    ]
    random.shuffle(messages)
    publish(running.server, *messages)
    await goes_on(job, receiver, events)


async def test_a_stored_hash_is_no_token(
    client: Client, receiver: Receiver, events: RunEvents
) -> None:
    """The hash in the bucket is not accepted as a token."""
    (key,) = await events.runs()
    hashed = (await entry_of(client, key))["Gozo-Token"].partition(".")[2]
    assert (await client.nats.request(f"gozo.ack.{hashed}", b"+TERM", timeout=5)).data == b"+OK"
    await goes_on(receiver.all[0], receiver, events)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"+TERM " + b"x" * HUGE, "x" * 200),
        (b"+TERM" + b"\r\n" * (HUGE // 2), "the receiver gave up"),
        (b"+TERM " + b"\xff\x00\r\nGozo-State: pending\r\n" * 1000, None),
    ],
)
async def test_huge_reasons(
    running: Running, receiver: Receiver, events: RunEvents, payload: bytes, reason: str | None
) -> None:
    """A reason is shortened, and cannot forge a header of the entry."""
    publish(running.server, request(receiver.all[0].reply.encode(), payload=payload))
    failed = await events.find("failed")
    assert len(failed["reason"]) <= 200
    if reason is not None:
        assert failed["reason"] == reason
    assert await events.states() == ["failed"]


@pytest.mark.parametrize(
    "block",
    [
        b"NATS/1.0\r\n\r\n",
        b"NATS/1.0\r\nno colon\r\n\r\n",
        b"NATS/1.0\r\n: no name\r\n\r\n",
        b"NATS/1.0\r\nA: \xff\xfe\r\nNats-Service-Error: alone\r\n\r\n",
        b"NATS/1.0\r\n" + b"A: b\r\n" * 5_000 + b"\r\n",
        b"NATS/1.0\r\n" + b"A: " + b"b" * 500_000 + b"\r\n\r\n",
        b"NATS/1.0 \r\n\r\n",
    ],
)
async def test_odd_headers(
    running: Running, receiver: Receiver, events: RunEvents, block: bytes
) -> None:
    """Headers that gozo does not know do not change the meaning of an answer."""
    subject = receiver.all[0].reply.encode()
    publish(running.server, request(subject, headers=block, payload=b"done"))
    await events.find("succeeded")


async def test_broken_headers(running: Running, receiver: Receiver, events: RunEvents) -> None:
    """A malformed block breaks at most the connection of its sender."""
    subject = receiver.all[0].reply.encode()
    for block in (b"NATS/1.0", b"NATS/1.0 5", b"HTTP/1.1\r\n\r\n", b"\r\n\r\n", b"\xff" * 50):
        try:
            publish(running.server, request(b"gozo.ack.other", headers=block, payload=b"+TERM"))
            publish(running.server, request(subject, headers=block, payload=b"+WPI"))
        except ConnectionError:
            continue
    await goes_on(receiver.all[0], receiver, events)
    assert not running.daemon.events("connection.lost")


async def test_doubled_and_replayed(
    running: Running, client: Client, receiver: Receiver, events: RunEvents, new_id: str
) -> None:
    """Replaying all messages again and again changes nothing."""
    job = receiver.all[0]
    said = [b"+WPI", b"+CLAIM n", b"-NAK", b"+ACK", b"+WPI", b"+ACK", b"-NAK"]
    log = [request(job.reply.encode(), payload=word) for word in said]
    asked = {"Gozo-When": "@every 1h", "Gozo-Start": "+0", "Gozo-Id": f"{new_id}-2"}
    publish(running.server, *log[:2], log[3])
    await events.find("succeeded")
    others = await RunEvents.listen(client, f"{new_id}-2")
    await ask(client, asked | {"Gozo-Confirm": "reply"}, reply=receiver.subject)
    await receiver.wait(2)
    publish(running.server, *(log * 500))
    assert await receiver.ask(job, b"-NAK") == b"+OK"
    assert await others.states() == ["running"]
    assert await receiver.ask(receiver.all[1], b"+ACK") == b"+OK"
    assert events.kinds == ["accepted", "started", "succeeded"]
    assert len(receiver.all) == 2


async def test_reply_subjects_of_gozo(
    running: Running, client: Client, receiver: Receiver, events: RunEvents
) -> None:
    """No answer can make gozo send `+OK` to itself, the server or the bucket."""
    job = receiver.all[0]
    targets = ["gozo", "gozo.ack.x", job.reply, "$KV.gozo.a", "$JS.API.INFO", "$SYS.REQ.X"]
    heard = [await client.arrivals(target) for target in targets]
    odd = [b"a.*", b">", b"a\xff\xfe", b"a..b", b"a" * 3_000]
    publish(
        running.server,
        *(
            request(b"gozo.ack.y", reply=target, payload=b"+ACK")
            for target in [*odd, *map(str.encode, targets)]
        ),
    )
    await goes_on(job, receiver, events)
    words = [arrival.data for one in heard for arrival in one.all]
    assert words.count(b"+OK") == 0
    assert running.daemon.events("connection.lost") == []


async def test_a_flood(
    running: Running, client: Client, receiver: Receiver, events: RunEvents
) -> None:
    """Twenty thousand answers of all kinds go to a run in progress, and to no run."""
    job = receiver.all[0]
    known = [request(job.reply.encode(), payload=word) for word in (b"+WPI", b"+CLAIM x")]
    unknown = [request(b"gozo.ack.n%d" % number, payload=b"+ACK") for number in range(100)]
    publish(running.server, b"".join(known * 5_000 + unknown * 100))
    assert await ask_until(client.nats, job.reply, b"+WPI") == b"+OK"
    await goes_on(job, receiver, events)
    assert running.daemon.events("connection.lost") == []
