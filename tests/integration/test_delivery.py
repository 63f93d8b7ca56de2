"""Delivering what is in a bucket, against a real server."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping

import pytest

from gozo.daemon.components import Traffic, build_traffic
from gozo.delivery import dispatcher as delivery
from gozo.delivery import stream_acks as confirmations
from gozo.delivery.dispatcher import Delivery
from gozo.protocol.headers import fields
from gozo.protocol.requests import parse_request
from gozo.runtime.clock import steady, wall_us
from gozo.schedule.model import ScheduleRequest
from gozo.store.changes import Result
from gozo.transport.connection import Connection
from tests.support.heard import heard
from tests.support.patience import allow, until
from tests.support.proxy import Mode, Proxy
from tests.support.raw import RawClient
from tests.support.server import NatsServer
from tests.support.store import Parts, entry, parts

LASTS = 3600.0  # seconds for which the lease is valid


def traffic(one: Parts) -> Traffic:
    """Make the parts that deliver from the bucket of these parts, and start them."""
    one.basis.tenure.gained(steady() + LASTS)
    made = build_traffic(one.basis, one.storage)
    made.delivery.start()
    return made


def deliver(one: Parts) -> Delivery:
    """Make what delivers from the bucket of these parts, and start it."""
    return traffic(one).delivery


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let only so many be unacknowledged at once, and wait for them for ever."""
    monkeypatch.setattr(confirmations, "ACK_TIME", 3600.0)

    def set_window(window: int) -> None:
        monkeypatch.setattr(confirmations, "WINDOW", window)

    return set_window


def confirmed(server: NatsServer, whens: Mapping[str, str]) -> None:
    """Write schedules to the bucket that a stream is to acknowledge: when they are due, by key."""
    with RawClient(server.url) as client:
        for key, when in whens.items():
            client.send(entry(key, Gozo_When=when, Gozo_Subject="to", Gozo_Confirm="stream"))
        client.confirm()


class Stream:
    """Stands for a stream that takes messages, and acknowledges them when it is told to."""

    def __init__(self, connection: Connection) -> None:
        self.ids: list[str] = []
        self._connection = connection
        self._unanswered: deque[bytes] = deque()
        connection.listen("to", self._take)

    def _take(self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        self.ids.append(dict(fields(headers))[b"gozo-id"].decode())
        self._unanswered.append(reply)

    def acknowledge(self) -> None:
        """Acknowledge the first message that is not."""
        reply = self._unanswered.popleft().decode()
        self._connection.publish(reply, b'{"stream":"to","seq":1}')


async def in_turn(server: NatsServer, one: Parts, ids: list[str]) -> tuple[Stream, Delivery]:
    """Deliver what is due already, in this order, to a stream."""
    stream = Stream(one.connection)
    confirmed(server, {id_: str(number + 1) for number, id_ in enumerate(ids)})
    await until(lambda: len(one.timetable) == len(ids), "all are known")
    return stream, deliver(one)


async def test_what_waits_for_room_is_not_read(
    silence: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Messages that a stream is to acknowledge stay in the bucket while others are not."""
    silence(5)
    monkeypatch.setattr(delivery, "BATCH", 5)
    with NatsServer() as server:
        async with parts(server) as one:
            _, made = await in_turn(server, one, [f"k{number}" for number in range(20)])
            await until(lambda: made._stream.parked == 15, "all but five wait")
            # Of a batch that had room at first, all may be read.
            assert len(one.cache._kept) + len(one.cache._fetching) < 10
            made.close()


async def test_what_is_due_and_not_sent_can_be_cancelled(silence: Callable[[int], None]) -> None:
    """Whether its message is being read, or it waits for others to be acknowledged."""
    silence(2)
    with NatsServer() as server:
        async with parts(server) as one:
            stream = Stream(one.connection)
            whens = {"a": "1", "b": "2", "c": "3", "again": "@every 1s"}
            confirmed(server, whens)
            await until(lambda: one.timetable.count_due(wall_us()) == len(whens), "all are due")
            made = deliver(one)
            await asyncio.sleep(0)
            assert len(made._queue) == 4  # their messages are being read
            async with asyncio.timeout(allow(5)):
                became = [await one.cancel(id_) for id_ in ("again", "c")]
            assert became == [Result.CANCELLED] * 2
            await until(lambda: sorted(stream.ids) == ["a", "b"], "the others are sent")
            await one.knows("a", "b")
            made.close()


async def test_what_is_looked_at_keeps_its_place(silence: Callable[[int], None]) -> None:
    """Who looks at what waits for others, again and again, does not keep it from its turn."""
    silence(1)
    ids = [f"k{number}" for number in range(9)]
    with NatsServer() as server:
        async with parts(server) as one:
            stream, made = await in_turn(server, one, ids)
            await until(lambda: stream.ids == ["k0"], "the first is sent")
            while "k3" not in stream.ids:
                sent = len(stream.ids)
                assert await one.look("k3") is Result.UNCHANGED
                stream.acknowledge()
                await until(lambda sent=sent: len(stream.ids) > sent, "one more is sent")
            assert stream.ids == ids[:4]
            made.close()


async def test_what_cannot_be_read_holds_up_nobody(
    silence: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its turn comes and its message is not there, the next one has its turn."""
    silence(1)
    monkeypatch.setattr(delivery, "BATCH", 1)  # what waits is not read before
    ids = [f"k{number}" for number in range(4)]
    with NatsServer() as server:
        async with parts(server) as one:
            stream, made = await in_turn(server, one, ids)
            await until(lambda: made._stream.parked == 3, "all others wait")
            await one.call("STREAM.PURGE.KV_gozo", {"filter": "$KV.gozo.k1"})
            for following in ("k0", "k2", "k3"):
                await until(lambda id_=following: id_ in stream.ids, f"{following} is sent")
                stream.acknowledge()
            assert "k1" not in stream.ids
            made.close()


async def test_nothing_is_sent_on_a_link_that_brings_no_message() -> None:
    """Where a message does not come from the bucket since the link is dead, others wait for it."""
    with NatsServer() as server, RawClient(server.url) as receiver:
        receiver.subscribe("to")
        async with Proxy(server.port) as way, parts(way) as one:
            with RawClient(server.url) as client:
                client.send(entry("a", Gozo_When="1", Gozo_Subject="to"))
                client.confirm()
            await one.knows("a")
            way.be(Mode.DEAF)
            request = parse_request(b"to", b"NATS/1.0\r\nGozo-When: 2\r\n\r\n", b"", wall_us())
            assert isinstance(request, ScheduleRequest)
            it = traffic(one)
            it.in_memory.add(request, heard(b"p"))
            made = it.delivery
            await until(lambda: made._in_flight.is_slow, "it is noticed")
            receiver.confirm()
            assert receiver._waiting == []
            made.close()


async def test_no_more_is_sent_on_a_dead_link_while_a_stream_is_to_acknowledge() -> None:
    """Acknowledgements may take their time, so it is asked whether the link is alive."""
    with NatsServer() as server, RawClient(server.url) as receiver:
        receiver.subscribe("to")
        async with Proxy(server.port) as way, parts(way) as one:
            way.be(Mode.DEAF)
            headers = b"NATS/1.0\r\nGozo-When: 2\r\nGozo-Confirm: stream\r\n\r\n"
            request = parse_request(b"to", headers, b"", wall_us())
            assert isinstance(request, ScheduleRequest)
            it = traffic(one)
            it.in_memory.add(request, heard(b"p"))
            made = it.delivery
            await until(lambda: made._in_flight.is_slow, "it is noticed")
            receiver.confirm()
            assert len(receiver._waiting) == 1
            it.in_memory.add(request, heard(b"p"))
            made.wake()
            receiver.confirm()
            assert len(receiver._waiting) == 1
            made.close()
