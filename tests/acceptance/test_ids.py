"""A schedule with an id can be replaced and cancelled."""

from __future__ import annotations

import time

from tests.support.client import Client

SOON = 0.6  # seconds: long enough for a few requests to be taken before
LATER = 1.2  # seconds


async def test_put_off(client: Client, new_id: str) -> None:
    """A second request with the same id replaces the first: a later moment."""
    arrivals = await client.arrivals()
    due = round(time.time() + LATER, 6)
    await client.schedule(f"+{SOON}", reply=arrivals, id=new_id, payload=b"old")
    await client.schedule(due, reply=arrivals, id=new_id, payload=b"new")
    (arrival,) = await arrivals.wait()
    assert arrival.data == b"new"
    assert arrival.at >= due


async def test_brought_forward(client: Client, new_id: str) -> None:
    """An earlier moment replaces a later one, which is not delivered besides."""
    arrivals = await client.arrivals()
    await client.schedule(f"+{LATER}", reply=arrivals, id=new_id, payload=b"old")
    await client.schedule("+0.2", reply=arrivals, id=new_id, payload=b"new")
    await client.schedule(f"+{LATER + 0.3}", reply=arrivals, payload=b"last")
    await arrivals.wait(2)
    assert arrivals.payloads == [b"new", b"last"]


async def test_another_subject(client: Client, new_id: str) -> None:
    """The replacement decides the reply subject too."""
    before, after = await client.arrivals(), await client.arrivals()
    await client.schedule(f"+{SOON}", reply=before, id=new_id, payload=b"old")
    await client.schedule(f"+{SOON}", reply=after, id=new_id, payload=b"new")
    await client.schedule(f"+{SOON}", reply=before, payload=b"last")
    await after.wait()
    await before.wait()
    assert (before.payloads, after.payloads) == ([b"last"], [b"new"])


async def test_the_last_of_many(client: Client, new_id: str) -> None:
    """Of a quick series with one id the last one counts."""
    arrivals = await client.arrivals()
    for number in range(500):
        await client.schedule(f"+{LATER}", reply=arrivals, id=new_id, payload=b"%d" % number)
    await client.schedule(f"+{LATER + 0.3}", reply=arrivals, payload=b"last")
    await arrivals.wait(2)
    assert arrivals.payloads == [b"499", b"last"]


async def test_cancel(client: Client, new_id: str) -> None:
    """`Gozo-Del-Id` cancels, without a reply subject."""
    arrivals = await client.arrivals()
    await client.schedule(f"+{SOON}", reply=arrivals, id=new_id, payload=b"cancelled")
    await client.cancel(new_id)
    await client.schedule(f"+{SOON + 0.3}", reply=arrivals, payload=b"last")
    await arrivals.wait()
    assert arrivals.payloads == [b"last"]


async def test_cancel_what_was_never_there(client: Client, new_id: str) -> None:
    """Cancelling an unknown id, or one already delivered, harms nobody."""
    arrivals = await client.arrivals()
    await client.cancel(f"{new_id}-unknown")
    await client.schedule("+0", reply=arrivals, id=new_id, payload=b"delivered")
    await arrivals.wait()
    await client.cancel(new_id)
    await client.cancel(new_id)
    await client.schedule("+0", reply=arrivals, payload=b"last")
    await arrivals.wait(2)
    assert arrivals.payloads == [b"delivered", b"last"]


async def test_an_id_can_be_used_again(client: Client, new_id: str) -> None:
    """An id is free again after its delivery, and after a cancel."""
    arrivals = await client.arrivals()
    for number in range(3):
        await client.schedule("+0", reply=arrivals, id=new_id, payload=b"%d" % number)
        await arrivals.wait(number + 1)
    await client.schedule("+3600", reply=arrivals, id=new_id)
    await client.cancel(new_id)
    await client.schedule("+0", reply=arrivals, id=new_id, payload=b"3")
    await arrivals.wait(4)
    assert arrivals.payloads == [b"0", b"1", b"2", b"3"]


async def test_requests_for_one_id_keep_their_order(client: Client, new_id: str) -> None:
    """Scheduled and cancelled at full speed, 2,000 ids stay cancelled; reversed, they stay."""
    arrivals = await client.arrivals()
    due = time.time() + 5
    for number in range(2000):
        await client.schedule(due, reply=arrivals, id=f"{new_id}-{number}", payload=b"dead")
        await client.cancel(f"{new_id}-{number}")
    for number in range(200):
        await client.cancel(f"{new_id}-again-{number}")
        await client.schedule(due, reply=arrivals, id=f"{new_id}-again-{number}", payload=b"alive")
    await client.schedule(due + 0.5, reply=arrivals, payload=b"last")
    await arrivals.wait(201)
    assert arrivals.payloads == [b"alive"] * 200 + [b"last"]
