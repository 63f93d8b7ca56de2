"""Requests that want a receipt, and the entries that they become."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nats.js.errors import NotFoundError

from tests.support.client import Client


async def ask(
    client: Client, headers: Mapping[str, str], *, reply: str = "", payload: bytes = b""
) -> dict[str, Any]:
    """Send a request that wants a receipt, and return it."""
    receipts = await client.arrivals()
    await client.send({**headers, "Gozo-Receipt": receipts.subject}, reply=reply, payload=payload)
    (receipt,) = await receipts.wait()
    assert "Gozo-Reply" not in receipt.headers
    answer: dict[str, Any] = json.loads(receipt.data)
    return answer


async def entry_of(client: Client, key: str) -> dict[str, str]:
    """Read the headers of an entry of the bucket."""
    try:
        found = await client.nats.jetstream().get_last_msg("KV_gozo", f"$KV.gozo.{key}")
    except NotFoundError:
        return {}
    return dict(found.headers or {})
