"""A bucket in which most messages are delete markers, as it is soon after many deliveries."""

from __future__ import annotations

import json
import time
from typing import Any

from gozo.protocol.headers import block
from gozo.schedule.model import MICROSECONDS, Entry, Reason
from gozo.store.entry_codec import entry_headers
from gozo.store.marker_codec import (
    MARKER_SECONDS,
    marker_headers,
)
from tests.support.client import Client
from tests.support.patience import allow, until
from tests.support.raw import RawClient, request
from tests.support.server import NatsServer

AT_ONCE = 1_000  # messages between two looks whether the server keeps up
END = block(marker_headers(Reason.DELIVERED, MARKER_SECONDS), 0)
LATER_US = 9_000 * MICROSECONDS


def age(server: NatsServer, markers: int, waiting: int, *, name: str = "wait") -> list[str]:
    """Write what is left of `markers` deliveries, in gozo's form, with schedules in between.

    The bucket has to be there. Returns the ids of the schedules, which are due in hours.
    """
    now_us = time.time_ns() // 1_000
    every = max(1, markers // max(1, waiting))
    messages: list[bytes] = []
    ids = [f"{name}-{number:04d}" for number in range(waiting)]
    left = iter(ids)
    for number in range(max(markers, waiting)):
        if number < markers:
            lines = marker_headers(Reason.DELIVERED, MARKER_SECONDS)
            messages.append(_write(f"{name}-over-{number}", block(lines, 0)))
        if number % every == 0 and (id_ := next(left, None)) is not None:
            entry = Entry(id_, f"to.{id_}", "+9000", now_us + LATER_US, now_us)
            lines = entry_headers(entry, b"feed-1")
            messages.append(_write(id_, block(lines, 0), b"payload"))
    with RawClient(server.url) as raw:
        for start in range(0, len(messages), AT_ONCE):
            raw.send(b"".join(messages[start : start + AT_ONCE]))
            raw.confirm()
        # Once the last message is acknowledged, all are stored.
        raw.subscribe("aged.stored")
        raw.send(request(b"$KV.gozo." + name.encode(), reply=b"aged.stored", headers=END))
        raw.receive()
    return ids


def _write(key: str, headers: bytes, payload: bytes = b"") -> bytes:
    return request(b"$KV.gozo." + key.encode(), headers=headers, payload=payload)


async def read_by_consumers(client: Client) -> int:
    """Return how many messages of the bucket were delivered to consumers, as far as they live."""
    subject = "$JS.API.CONSUMER.LIST.KV_gozo"
    total = offset = 0
    while True:
        asked = json.dumps({"offset": offset}).encode()
        answer = json.loads((await client.nats.request(subject, asked, timeout=allow(5))).data)
        some = answer["consumers"] or []
        total += sum(int(one["delivered"]["consumer_seq"]) for one in some)
        offset += len(some)
        if not some or offset >= answer["total"]:
            return total


async def followed(client: Client) -> None:
    """Wait until the leader knows everything that is in the bucket at this moment."""
    last = int((await client.stream())["last_seq"])

    async def has_seen_it() -> bool:
        position: int = (await keys(client, limit=0)).get("position", 0)
        return position >= last

    await until(has_seen_it, "the leader has seen what is in the bucket")


async def keys(client: Client, **asked: object) -> dict[str, Any]:
    """Ask the leader for keys."""
    body = json.dumps(asked).encode()
    reply = await client.nats.request("gozo.admin.keys", body, timeout=allow(5))
    answer: dict[str, Any] = json.loads(reply.data)
    return answer
