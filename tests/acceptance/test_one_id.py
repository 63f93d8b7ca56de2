"""Thousands of requests for one id keep nobody else waiting."""

from __future__ import annotations

import json

from tests.support.client import Client
from tests.support.raw import RawClient, header_block, request
from tests.support.running import Running

MANY = 12_000  # more than the daemon works on at a time


async def test_cancels_of_what_no_stream_acknowledges_do_not_delay_others(
    running: Running, client: Client, new_id: str
) -> None:
    """They wait until it is known whether a stream has it, and nobody else does."""
    silent = await client.arrivals()
    receipts = await client.arrivals()
    confirmed = {"Gozo-When": "+0", "Gozo-Id": new_id, "Gozo-Confirm": "stream"}
    await client.send(confirmed, reply=silent.subject)
    await silent.wait()

    first = header_block(Gozo_Del_Id=new_id, Gozo_Receipt=receipts.subject)
    more = request(b"gozo", headers=header_block(Gozo_Del_Id=new_id)) * MANY
    other = {"Gozo-When": "+1000", "Gozo-Id": f"{new_id}-other", "Gozo-Receipt": receipts.subject}
    with RawClient(running.server.url) as flooding:
        flooding.send(request(b"gozo", headers=first) + more)
        flooding.confirm()
    await client.send(other, reply="one.id")

    told = [json.loads(receipt.data) for receipt in await receipts.wait(2)]
    assert [one["id"] for one in told] == [f"{new_id}-other", new_id]
    assert told[0]["status"] == "stored"
