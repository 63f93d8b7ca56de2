"""Requests sent at once, half of them the same byte for byte, and the account of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections import Counter

from tests.support.account import Account
from tests.support.client import Arrivals, Client
from tests.support.patience import allow, until

BATCH = 40  # requests
SWALLOWED = 0.2  # seconds in which a leader tells what it has handled


async def account(arrivals: Arrivals, sent: Counter[bytes], ahead: float) -> Account:
    """Wait until as many have arrived as were sent of each, and a moment longer, and account."""
    last = time.time() + ahead

    def complete() -> bool:
        return time.time() > last and len(arrivals.all) >= sent.total()

    with contextlib.suppress(AssertionError):  # what is missing, the account says
        await until(complete, "all have arrived", ahead + allow(2))
    await asyncio.sleep(0.5)  # in which what comes twice would come
    arrived = Counter(arrivals.payloads)
    return Account(
        created=sent.total(),
        delivered=(arrived & sent).total(),
        lost=(sent - arrived).total(),
        twice=(arrived - sent).total(),
        unexplained=(arrived - sent).total(),
        early=0,
        latest=0.0,
    )


async def schedule(
    client: Client, arrivals: Arrivals, ahead: int, receipts: str = ""
) -> Counter[bytes]:
    """Send requests, half of them the same byte for byte, and return their payloads.

    Those that ask for `receipts` are not kept in memory but stored.
    """
    payloads = [b"same" if number % 2 else uuid.uuid4().bytes for number in range(BATCH)]
    headers = {"Gozo-When": f"+{ahead}"} | ({"Gozo-Receipt": receipts} if receipts else {})
    for payload in payloads:
        await client.send(headers, reply=arrivals.subject, payload=payload)
    await client.confirm()
    return Counter(payloads)
