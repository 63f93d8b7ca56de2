"""Reads and writes the lease, a key in its own bucket; creates the bucket again if necessary."""

from __future__ import annotations

import json

from gozo.errors import JetStreamError
from gozo.protocol.headers import block
from gozo.store.bucket import Bucket, open_bucket
from gozo.transport.jetstream import (
    NO_RESOURCES,
    NO_RESPONDERS,
    STREAM_NOT_FOUND,
    JetStream,
    StoredMessage,
    read_ack,
)

ANSWER_TIME = 1.0  # seconds to wait for the answer to a write or a question
KEY = "leader"

_RELEASED = b"KV-Operation: DEL\r\n"


class LeaseRecord:
    """The record of one bucket's lease."""

    def __init__(self, js: JetStream, held: Bucket, replicas: int | None) -> None:
        """`held`: the lease's bucket, see `open_lease`; `replicas`: for a new bucket."""
        self._js = js
        self._bucket = held
        self._replicas = replicas
        self.subject = f"{held.prefix}{KEY}"
        self._entrance = js.entrance(self.subject)

    async def read(self) -> StoredMessage | None:
        """Return the lease; None if it was never written.

        Raises:
            JetStreamError, NoServerError, NotAllowedError: as for `Bucket.read`.
        """
        return await self._bucket.read(KEY)

    async def write(self, value: bytes, revision: int) -> int:
        """Write the lease if its revision is `revision`; return the new revision.

        Raises:
            JetStreamError: the server refused it; one of `CONFLICTS` if the revision differs.
            NoServerError, NotAllowedError: as for `Connection.request`.
        """
        return await self._put(b"", value, revision)

    async def release(self, revision: int) -> int:
        """Mark the lease as released; otherwise as `write`."""
        return await self._put(_RELEASED, b"", revision)

    async def _put(self, lines: bytes, value: bytes, revision: int) -> int:
        reply = await self._js.connection.request(
            self._entrance, value, headers=block(lines, revision), timeout=ANSWER_TIME
        )
        ack = read_ack(reply.headers, reply.payload)
        if not ack.sequence:
            gone = ack.code == NO_RESPONDERS
            raise JetStreamError(ack.words, STREAM_NOT_FOUND if gone else ack.code)
        return ack.sequence

    async def make_again(self) -> None:
        """Create the bucket again after it was lost, as by a restart of a single server.

        Raises:
            JetStreamError, UnsuitableServerError, NoServerError, NotAllowedError: see `open_lease`.
        """
        self._bucket = await open_lease(self._js, self._bucket.name, replicas=self._replicas)


def is_release(headers: bytes | None) -> bool:
    """Tell whether a record with these headers releases the lease."""
    return headers is not None and _RELEASED in headers


def read_holder(value: bytes) -> dict[str, object]:
    """Read the holder from a lease or from a leader's answer; empty if it is not from gozo."""
    try:
        holder = json.loads(value)
    except (ValueError, RecursionError):
        return {}
    return holder if isinstance(holder, dict) else {}


def lease_of(bucket: str) -> str:
    """Return the name of the bucket that contains the lease of a bucket."""
    return f"{bucket}_lease"


async def open_lease(js: JetStream, name: str, *, replicas: int | None) -> Bucket:
    """Find the bucket of a lease, or create it.

    It is kept in memory, so that a full disk does not affect it; on disk if memory has no room.

    Raises:
        JetStreamError, UnsuitableServerError: as for `open_bucket`.
        NoServerError, NotAllowedError: as for `JetStream.call`.
    """
    try:
        return await open_bucket(js, name, replicas=replicas, memory=True)
    except JetStreamError as error:
        if error.code not in NO_RESOURCES:
            raise
        return await open_bucket(js, name, replicas=replicas)
