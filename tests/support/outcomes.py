"""What the streams of outcomes and outputs have, read without gozo's code."""

from __future__ import annotations

import json
from typing import Any

from nats.aio.msg import Msg
from nats.js.errors import NotFoundError

from tests.support.client import Client
from tests.support.patience import until

OUTCOMES, OUTPUT = "gozo_outcomes", "gozo_output"


async def stored(client: Client, stream: str = OUTCOMES) -> list[Msg]:
    """Return the messages of a stream; none if it does not exist."""
    jetstream = client.nats.jetstream()
    try:
        messages = (await jetstream.stream_info(stream)).state.messages
    except NotFoundError:
        return []
    if not messages:
        return []
    consumer = await jetstream.subscribe(f"gozo.{stream.removeprefix('gozo_').rstrip('s')}.>")
    try:
        return [await consumer.next_msg(timeout=5) for _ in range(messages)]
    finally:
        await consumer.unsubscribe()


async def outcomes(client: Client, id_: str) -> list[dict[str, Any]]:
    """Return the outcomes of an id, the oldest first."""
    all_ = [json.loads(message.data) for message in await stored(client)]
    return [one for one in all_ if one["id"] == id_]


async def outcome(client: Client, id_: str, number: int = 1) -> dict[str, Any]:
    """Wait until an id has a number of outcomes, and return the last of them."""

    async def are_there() -> bool:
        return len(await outcomes(client, id_)) >= number

    await until(are_there, f"{number} outcomes of {id_}")
    found = await outcomes(client, id_)
    assert len(found) == number, found
    return found[-1]
