"""What a daemon tells of itself as a NATS service."""

from __future__ import annotations

import json
from typing import Any

from tests.support.client import Client
from tests.support.patience import until


async def figures(client: Client) -> dict[str, Any]:
    """Return what the daemon tells of itself as a NATS service."""
    answer = json.loads((await client.nats.request("$SRV.STATS.gozo", timeout=5)).data)
    data: dict[str, Any] = answer["endpoints"][0]["data"]
    return data


async def known_to_have_arrived(client: Client) -> None:
    """Wait until the daemon knows that the one schedule that was due has arrived."""

    async def is_known() -> bool:
        return bool((await figures(client))["delivered"] == 1)

    await until(is_known, "the daemon knows that it has arrived")
