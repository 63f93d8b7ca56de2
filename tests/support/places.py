"""A server with a daemon or without one, and what the bucket there holds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from gozo.client import Client, Schedule
from tests.support.raw import RawClient, header_block, request
from tests.support.server import NatsServer

LATER = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Place:
    """A server, with a daemon on it or without."""

    server: NatsServer
    daemon: bool


async def listed(client: Client, subject: str | None = None) -> dict[str, Schedule]:
    """Return the schedules by their keys."""
    return {schedule.key: schedule async for schedule in client.list(subject=subject)}


def write(server: NatsServer, key: str, value: bytes = b"p", /, **headers: str) -> None:
    """Write an entry as another program would."""
    with RawClient(server.url) as raw:
        block = header_block(**headers) if headers else None
        raw.send(request(b"$KV.gozo." + key.encode(), headers=block, payload=value))
        raw.confirm()
