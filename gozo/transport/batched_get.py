"""Reads the latest messages of many subjects with one request (ADR-31, nats-server 2.11).

That is several times faster than a request for each. But any replica of the stream may answer, and
it may lag behind the stream's leader: see `Batch.position`.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Sequence
from typing import NamedTuple

from gozo.errors import DisconnectedError, NoServerError
from gozo.transport.commands import Reply, status_of
from gozo.transport.jetstream import JetStream, StoredMessage, parse_time

MOST_SUBJECTS = 1_000  # the server accepts 1,024

_END_OF_BATCH = 204
_POSITION = re.compile(rb"\r\nNats-UpTo-Sequence: ([0-9]+)\r\n")
_ADDED = re.compile(
    rb"Nats-Stream: [^\r]*\r\nNats-Subject: ([^\r]*)\r\nNats-Sequence: ([0-9]+)\r\n"
    rb"Nats-Time-Stamp: ([0-9TZ:.+-]+)\r\n(?:Nats-[^\r]*\r\n)*\r\n\Z"
)
"""The headers that the server appends to each message."""


class Batch(NamedTuple):
    """The messages of those subjects that have one."""

    messages: list[StoredMessage]
    position: int
    """The last sequence of the stream at the replica that answered."""


async def latest_messages(
    js: JetStream, stream: str, subjects: Sequence[str], timeout: float
) -> Batch | None:
    """Read the latest messages of at most `MOST_SUBJECTS` subjects.

    None if there are none, or if the server cannot do that.

    Raises:
        NoServerError, NotAllowedError: as for `JetStream.call`.
    """
    subject = f"{js.prefix}.DIRECT.GET.{stream}"
    body = json.dumps({"multi_last": subjects}).encode()
    connection = js.connection
    if len(body) > connection.max_payload:
        return None
    messages: list[StoredMessage] = []
    end: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    def on_reply(headers: bytes | None, payload: bytes | None) -> None:
        if end.done():
            return
        if payload is None:
            end.set_exception(DisconnectedError("the connection to NATS was lost"))
            return
        message = None if status_of(headers) else _stored(headers or b"", payload)
        if message is None:
            end.set_result(Reply(headers, payload))
            return
        messages.append(message)
        connection.expect_more(token, on_reply)

    token = connection.call(subject.encode(), body, on_reply)
    try:
        with connection.failing_if_denied(subject, end):
            async with asyncio.timeout(timeout):
                reply = await end
    except TimeoutError as error:
        words = f"JetStream does not answer DIRECT.GET.{stream} within {timeout:g} s"
        raise NoServerError(words) from error
    finally:
        connection.hang_up(token)
    position = _POSITION.search(reply.headers or b"")
    if reply.status != _END_OF_BATCH or position is None:
        return None
    return Batch(messages, int(position[1]))


def _stored(headers: bytes, payload: bytes) -> StoredMessage | None:
    """Separate a message from what the server added to it; None if it added nothing."""
    end = headers.rfind(b"Nats-Stream: ")
    added = _ADDED.match(headers, end) if end > 0 else None
    if added is None:
        return None
    subject, sequence, time = added.groups()
    return StoredMessage(
        subject.decode("utf-8", "replace"),
        int(sequence),
        parse_time(time.decode()),
        headers[:end] + b"\r\n",
        payload,
    )
