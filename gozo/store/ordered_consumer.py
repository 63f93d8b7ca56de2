"""Reads the bucket in order, without payloads, through its own consumer.

The consumer pulls (`CONSUMER.MSG.NEXT`, after ADR-15): it requests batches, and receives a
heartbeat twice a second while there are no messages. It ends on an unexpected status or a gap in
the sequence, and calls its owner, which also watches for silence, and replaces it.

With each message, the server sends the number of messages after it. If some of them are removed
while it counts, the number is too high until the last one is sent: see `stalls`.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable

from gozo.errors import GozoError
from gozo.store.bucket import Bucket
from gozo.store.entry_codec import printable_key
from gozo.transport.commands import status_of
from gozo.transport.connection import Connection
from gozo.transport.subscriptions import Listener

BATCH = 2_000  # messages requested at a time
LITTLE = 1_000  # unread messages at which more are requested
MOST_BYTES = 24 * 1024 * 1024
"""Bytes of headers and subjects requested at a time. A message has at most 64 KiB of headers,
two requests at most are pending, and the server closes connections that lag by 64 MiB
(`max_pending`)."""
JITTER = 1_024  # the limit is lowered by fewer bytes than this
HEARTBEAT = 0.5  # seconds
STALLED = 2  # heartbeats in a row without any of the announced messages
SILENCE = 2.5 * HEARTBEAT  # seconds without any message after which the consumer counts as gone
PULL_TIME = 30  # seconds that a request for messages lives
INACTIVE = 30  # seconds without a pull after which the server removes a consumer
SHORT_ACK = 9  # tokens of a reply subject without domain and account
IDLE = 100  # the status of a heartbeat (ADR-13)

_REQUEST_ENDED = re.compile(
    rb"NATS/1\.0 (?:408 [^\r]*|409 (?:Batch Completed|Message Size Exceeds MaxBytes))\r\n"
    rb"Nats-Pending-Messages: (\d+)\r\n"
)
"""The status of a request that has ended, and the number of messages it still lacks (ADR-13)."""

OnMessage = Callable[[str, int, int, bytes | None, int], None]
"""Takes key, revision, time of storing (microseconds), headers, and number of messages after it."""


class Consumer:
    """One consumer, from its creation to its end."""

    def __init__(
        self,
        connection: Connection,
        bucket: Bucket,
        on_message: OnMessage,
        on_broken: Callable[[str], None],
        wants_more: Callable[[], bool] = lambda: True,
    ) -> None:
        self.name = f"gozo-{secrets.token_hex(6)}"
        self.broken = False
        self._connection = connection
        self._bucket = bucket
        self._prefix = len(bucket.prefix)
        self._on_message = on_message
        self._on_broken = on_broken
        self._wants_more = wants_more
        self._listener: Listener | None = None
        self._sequence = 0
        self._revision = self._pending = 0
        self._beats = 0
        """Heartbeats since the last message."""
        self._outstanding = 0
        # The server silently ends a request whose limit is met to the byte. A random limit avoids
        # that for the next consumer.
        self._most_bytes = MOST_BYTES - secrets.randbelow(JITTER)
        self._heard = 0.0

    async def start(self, after: int | None) -> int:
        """Start after a sequence; None: with the latest message of each key.

        Returns how many messages there are to read.

        Raises:
            JetStreamError, NoServerError, NotAllowedError: as for `JetStream.call`.
        """
        subject = self._connection.new_inbox()
        self._listener = self._connection.listen(subject, self._hear)
        config = {
            "name": self.name,
            "ack_policy": "none",
            "replay_policy": "instant",
            "headers_only": True,
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": INACTIVE * 1_000_000_000,
            "max_waiting": 16,
            "filter_subject": f"{self._bucket.prefix}>",
        }
        if after is None:
            config["deliver_policy"] = "last_per_subject"
        else:
            config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": after + 1}
        stream = self._bucket.stream
        try:
            made = await self._bucket.js.call(
                f"CONSUMER.CREATE.{stream}.{self.name}.{config['filter_subject']}",
                {"stream_name": stream, "config": config, "action": "create"},
                timeout=5.0,
            )
        except GozoError:
            self.stop()
            raise
        self._heard = time.monotonic()
        self._revision, self._pending = after or 0, int(made.get("num_pending") or 0)
        self._ask()
        return self._pending

    def stop(self) -> None:
        """Stop reading; the server removes the consumer by itself."""
        if self._listener is not None:
            self._listener.stop()
            self._listener = None

    @property
    def silence(self) -> float:
        """Seconds since anything was received."""
        return time.monotonic() - self._heard

    @property
    def is_silent(self) -> bool:
        """Whether nothing was received for longer than the heartbeats allow."""
        return self.silence > SILENCE

    @property
    def stalls(self) -> bool:
        """Whether announced messages do not arrive although they were requested."""
        return self._pending > 0 and self._beats >= STALLED

    async def has_all(self) -> bool:
        """Tell whether every message was read, whatever was announced.

        Raises:
            JetStreamError, NoServerError, NotAllowedError: as for `JetStream.call`.
        """
        last = (await self._bucket.state()).last_sequence
        if last > self._revision:
            return False
        self._pending = 0
        return True

    def refill(self) -> None:
        """Request more messages if few are on their way and more are wanted."""
        if self._outstanding <= LITTLE and self._wants_more():
            self._ask()

    def _ask(self) -> None:
        if self._listener is None or self.broken:
            return
        body = b'{"batch":%d,"max_bytes":%d,"expires":%d,"idle_heartbeat":%d}' % (
            BATCH,
            self._most_bytes,
            PULL_TIME * 1_000_000_000,
            int(HEARTBEAT * 1_000_000_000),
        )
        try:
            self._connection.publish(
                f"{self._bucket.js.prefix}.CONSUMER.MSG.NEXT.{self._bucket.stream}.{self.name}",
                body,
                reply=self._listener.subject,
            )
        except GozoError as error:
            self._break(str(error))
            return
        if self._outstanding <= 0:
            self._heard = time.monotonic()  # without a request, silence was normal
        self._outstanding += BATCH

    def _break(self, reason: str) -> None:
        if not self.broken:
            self.broken = True
            self._on_broken(reason)

    def _hear(self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        if self.broken:
            return
        self._heard = time.monotonic()
        if not reply.startswith(b"$JS.ACK."):
            self._on_status(headers)
            return
        # $JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<consumer sequence>.<ns>.<pending>
        # with two more tokens, domain and account, before the stream on some servers; from
        # the right they are the same, but for a random token at the end of the longer form.
        words = reply.split(b".")
        base = 5 if len(words) == SHORT_ACK else 7
        revision, sequence, stored_ns, pending = map(int, words[base : base + 4])
        if sequence != self._sequence + 1:
            self._break(f"a gap after {self._sequence}: {sequence}")
            return
        self._sequence = sequence
        self._revision, self._pending, self._beats = revision, pending, 0
        self._outstanding -= 1
        key = printable_key(subject[self._prefix :])
        self._on_message(key, revision, stored_ns // 1000, headers, pending)
        if self._outstanding <= LITTLE:
            self.refill()

    def _on_status(self, headers: bytes | None) -> None:
        ended = _REQUEST_ENDED.match(headers or b"")
        if ended is not None:
            self._outstanding -= int(ended[1])
            self.refill()
        elif status_of(headers) == IDLE:
            self._beats += 1
            if self._outstanding <= 0:
                self.refill()
        else:
            first = (headers or b"").partition(b"\r\n")[0].decode("utf-8", "replace")
            self._break(f"the consumer ended: {first}")
