"""The protocol that existing clients rely on: times, payloads, headers, ids."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import pytest

from tests.support.client import Client
from tests.support.ids import ODD_IDS
from tests.support.raw import RawClient, header_block, request
from tests.support.running import Running

MAX_PAYLOAD = 1024 * 1024  # bytes: the server's default
LARGEST = MAX_PAYLOAD - 4096  # bytes: what a schedule may carry


@pytest.mark.parametrize("when", ["+0", "+1", "+0.25", "+0.000001", "+1.5"])
async def test_relative_time(client: Client, when: str) -> None:
    """`+n` is delivered, and not before n seconds after it was sent."""
    arrivals = await client.arrivals()
    sent = time.time()
    await client.schedule(when, reply=arrivals, payload=b"tea")
    (arrival,) = await arrivals.wait()
    assert arrival.at >= sent + float(when)
    assert arrival.data == b"tea"


@pytest.mark.parametrize("decimals", [0, 1, 3, 6])
async def test_absolute_time(client: Client, new_id: str, decimals: int) -> None:
    """A moment in epoch seconds, whole or with decimals, is kept and never anticipated."""
    arrivals = await client.arrivals()
    when = f"{time.time() + 1.2:.{decimals}f}"
    await client.schedule(when, reply=arrivals, id=new_id, payload=b"tea")
    (arrival,) = await arrivals.wait()
    assert arrival.at >= float(when)


async def test_decimals_decide_the_order(client: Client) -> None:
    """Half a second is not rounded to a whole one."""
    arrivals = await client.arrivals()
    await client.schedule("+1", reply=arrivals, payload=b"later")
    await client.schedule("+0.5", reply=arrivals, payload=b"sooner")
    await arrivals.wait(2)
    assert arrivals.payloads == [b"sooner", b"later"]


@pytest.mark.parametrize("with_ids", [True, False])
async def test_many_moments(client: Client, new_id: str, with_ids: bool) -> None:
    """Of a thousand schedules each arrives once, none early, in the order of their moments."""
    arrivals = await client.arrivals()
    start = time.time() + 1.5
    moments = [round(start + random.random(), 6) for _ in range(1000)]
    for number, moment in enumerate(moments):
        payload = f"{moment:.6f}".encode()
        id_ = f"{new_id}-{number}" if with_ids else None
        await client.schedule(moment, reply=arrivals, id=id_, payload=payload)
    await arrivals.wait(len(moments))
    due = [float(payload) for payload in arrivals.payloads]
    assert due == sorted(moments)
    assert [arrival.data for arrival in arrivals.all if arrival.at < float(arrival.data)] == []


@pytest.mark.parametrize("with_ids", [True, False])
async def test_same_instant(client: Client, new_id: str, with_ids: bool) -> None:
    """Schedules that are due at the same instant are sent in the order of their requests."""
    arrivals = await client.arrivals()
    due = time.time() + 1.5
    for number in range(1000):
        id_ = f"{new_id}-{number}" if with_ids else None
        await client.schedule(due, reply=arrivals, id=id_, payload=b"%d" % number)
    await arrivals.wait(1000)
    assert arrivals.payloads == [b"%d" % number for number in range(1000)]


@pytest.mark.parametrize("when", ["0", "1", "1000", "1000.5"])
async def test_past_means_now(client: Client, new_id: str, when: str) -> None:
    """A moment in the past is delivered at once, with an id and without."""
    arrivals = await client.arrivals()
    await client.schedule(when, reply=arrivals, payload=b"without")
    await client.schedule(when, reply=arrivals, id=new_id, payload=b"with")
    await arrivals.wait(2)
    assert sorted(arrivals.payloads) == [b"with", b"without"]


async def test_the_year_9999(client: Client, new_id: str) -> None:
    """The last second of the year 9999 is a time like any other: taken, and kept until then."""
    arrivals = await client.arrivals()
    await client.schedule("253402300799", reply=arrivals, id=new_id, payload=b"far")
    await client.schedule("253402300799.999999", reply=arrivals, payload=b"far, without id")
    await client.schedule("+0.3", reply=arrivals, payload=b"near")
    await arrivals.wait()
    assert arrivals.payloads == [b"near"]


@pytest.mark.parametrize("with_id", [True, False])
@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b"", id="empty"),
        pytest.param(bytes(range(256)), id="every byte"),
        pytest.param(b"\r\nPUB gozo 0\r\n\r\nNATS/1.0\r\n", id="protocol"),
        pytest.param(os.urandom(LARGEST), id="largest"),
    ],
)
async def test_payload(client: Client, new_id: str, payload: bytes, with_id: bool) -> None:
    """A payload comes back byte for byte, from none to the largest."""
    arrivals = await client.arrivals()
    await client.schedule("+0.1", reply=arrivals, id=new_id if with_id else None, payload=payload)
    (arrival,) = await arrivals.wait()
    assert arrival.data == payload


def test_header_block_without_id(running: Running) -> None:
    """Without an id the delivered header block is `Gozo-Reply: Yes`, to the byte."""
    with RawClient(running.server.url) as raw:
        raw.subscribe("raw.without")
        raw.send(request(b"gozo", reply=b"raw.without", headers=header_block(Gozo_When="+0")))
        (message,) = raw.receive()
    assert message.headers == b"NATS/1.0\r\nGozo-Reply: Yes\r\n\r\n"


def test_header_block_with_id(running: Running, new_id: str) -> None:
    """With an id there is `Gozo-Id` besides, and nothing more."""
    headers = header_block(Gozo_When="+0", Gozo_Id=new_id)
    with RawClient(running.server.url) as raw:
        raw.subscribe("raw.with")
        raw.send(request(b"gozo", reply=b"raw.with", headers=headers))
        (message,) = raw.receive()
    first, *lines = message.headers.removesuffix(b"\r\n\r\n").split(b"\r\n")
    assert first == b"NATS/1.0"
    assert sorted(lines) == [b"Gozo-Id: " + new_id.encode(), b"Gozo-Reply: Yes"]


@pytest.mark.parametrize("style", [str.lower, str.upper, str.swapcase])
async def test_header_names_in_any_case(
    client: Client, new_id: str, style: Callable[[str], str]
) -> None:
    """Header names match whatever their case; the delivered ones are always the same."""
    arrivals = await client.arrivals()
    await client.send(
        {style("Gozo-When"): "+0.5", style("Gozo-Id"): new_id}, reply=arrivals.subject
    )
    await client.schedule("+0.2", reply=arrivals, payload=b"first")
    await arrivals.wait(2)
    assert arrivals.all[1].headers == {"Gozo-Reply": "Yes", "Gozo-Id": new_id}

    await client.schedule("+0.5", reply=arrivals, id=new_id, payload=b"cancelled")
    await client.send({style("Gozo-Del-Id"): new_id})
    await client.schedule("+0.7", reply=arrivals, payload=b"last")
    await arrivals.wait(3)
    assert arrivals.payloads == [b"first", b"", b"last"]


async def test_odd_ids(client: Client) -> None:
    """Any text can be an id: each comes back as it was given, and no two are taken for one."""
    arrivals = await client.arrivals()
    for number, id_ in enumerate(ODD_IDS):
        await client.schedule("+0.5", reply=arrivals, id=id_, payload=b"%d" % number)
    await arrivals.wait(len(ODD_IDS))
    assert [arrival.headers["Gozo-Id"] for arrival in arrivals.all] == ODD_IDS


async def test_odd_ids_are_cancelled(client: Client) -> None:
    """Each of them can be overwritten and cancelled."""
    arrivals = await client.arrivals()
    for id_ in ODD_IDS:
        await client.schedule("+3600", reply=arrivals, id=id_, payload=b"replaced")
        await client.schedule("+0.5", reply=arrivals, id=id_, payload=b"cancelled")
        await client.cancel(id_)
    await client.schedule("+0.8", reply=arrivals, payload=b"last")
    await arrivals.wait()
    assert arrivals.payloads == [b"last"]
