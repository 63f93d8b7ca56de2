"""Delivering what is in a bucket, against a real server."""

from __future__ import annotations

import pytest

from gozo import confirmations, delivery
from gozo.connection import Connection
from gozo.delivery import Delivery
from gozo.occurrences import Occurrences
from gozo.stats import Stats
from gozo.volatile import Volatile
from tests.integration.test_store import Parts, entry, parts
from tests.support.patience import until
from tests.support.raw import RawClient
from tests.support.server import NatsServer


def deliver(one: Parts) -> Delivery:
    """Make what delivers from the bucket of these parts, and start it."""
    made = Delivery(
        one.connection,
        one.timetable,
        Volatile(),
        one.payloads,
        one.ledger,
        Occurrences(one.ledger, one.timetable, one.payloads),
        one.mirror,
        Stats(),
        may_deliver=lambda: True,
    )
    made.start()
    return made


async def test_what_waits_for_room_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages that a stream is to acknowledge stay in the bucket while others are not."""
    monkeypatch.setattr(confirmations, "WINDOW", 5)
    monkeypatch.setattr(confirmations, "ACK_TIME", 3600.0)
    monkeypatch.setattr(delivery, "BATCH", 5)
    with NatsServer() as server:
        async with parts(server) as one:
            hear_nothing(one.connection)
            with RawClient(server.url) as client:
                for number in range(20):
                    headers = {"Gozo_When": "1", "Gozo_Subject": "to", "Gozo_Confirm": "stream"}
                    client.send(entry(f"k{number}", **headers))
                client.confirm()
            await until(lambda: len(one.timetable) == 20, "all are known")
            made = deliver(one)
            await until(lambda: len(made._parked) == 15, "all but five wait")
            # Of a batch that had room at first, all may be read.
            assert len(one.payloads._kept) + len(one.payloads._fetching) < 10
            made.close()


def hear_nothing(connection: Connection) -> None:
    """Listen where messages go, and never answer: the server would say that nobody listens."""
    connection.listen("to", lambda *message: None)
