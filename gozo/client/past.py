"""Reads the messages of a stream on some subjects, from a moment on, in order.

A temporary pull consumer reads the messages, one page at a time: only one page is in memory, and
the server filters. An idle consumer, such as that of a person who reads page by page, is removed by
the server or by its restart. A new one then continues after the last message.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections import deque
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from gozo.client.arguments import moment
from gozo.errors import JetStreamError, NoServerError, NotFoundError
from gozo.transport.commands import Reply, status_of
from gozo.transport.connection import Connection
from gozo.transport.jetstream import STREAM_NOT_FOUND, JetStream

PAGE = 500  # messages requested at a time
PAGE_BYTES = 16 * 1024 * 1024  # maximum bytes of a page with several messages
SILENCE = 2.0  # seconds without a message or a status after which a consumer counts as gone
TRIES = 5  # consecutive consumers without a message before giving up
AGAIN = 0.25  # seconds between them
INACTIVE = 30  # seconds after which the server removes an idle consumer
NO_MESSAGES = 404  # a status (ADR-13)
OTHER_SUBJECTS = 10093
"""The error code for a consumer of subjects that the stream does not store."""
SHORT_ACK = 9  # tokens of a reply subject without domain and account


async def stream_info(connection: Connection, stream: str, missing: str) -> dict[str, Any]:
    """Ask the server about a stream.

    Raises:
        NotFoundError: it does not exist; `missing` is the message.
    """
    js = JetStream(connection)
    try:
        return await js.call(f"STREAM.INFO.{stream}")
    except NoServerError:
        await js.explain_silence()
        raise
    except JetStreamError as error:
        if error.code != STREAM_NOT_FOUND:
            raise
        raise NotFoundError(missing) from error


class Kept(NamedTuple):
    """A message and the time when the server stored it."""

    stored: datetime
    payload: bytes
    headers: bytes | None = None


class _Page:
    """The messages delivered for one request."""

    def __init__(self, delivered: int) -> None:
        """`delivered` is the number of messages that its consumer has delivered before."""
        self.delivered = delivered
        self.broken = False
        """Whether a message is missing because the connection was lost."""
        self.messages: deque[tuple[int, Kept]] = deque()
        """By sequence."""
        self.pending = 1
        """How many messages follow the last one; not 0 until the server says so."""
        self.status: int | None = None
        """The status with which the request ended early."""
        self.news = asyncio.Event()
        self.denied: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        """Fails if this user has no permission to request messages."""
        self.denied.add_done_callback(lambda _: self.news.set())

    def hear(self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        """Handle a message; `gozo.store.ordered_consumer` explains the tokens of its reply."""
        if reply.startswith(b"$JS.ACK."):
            words = reply.split(b".")
            base = 5 if len(words) == SHORT_ACK else 7
            sequence, delivered, stored_ns, pending = map(int, words[base : base + 4])
            self.broken = self.broken or delivered != self.delivered + 1
            if not self.broken:
                self.delivered, self.pending = delivered, pending
                self.messages.append((sequence, Kept(moment(stored_ns // 1000), payload, headers)))
        else:
            self.status = status_of(headers)
        self.news.set()


class Past:
    """The messages of a stream on some subjects."""

    def __init__(
        self,
        connection: Connection,
        stream: str,
        subjects: Sequence[str],
        since: datetime | None,
        last: int,
    ) -> None:
        """`last` is the sequence of the last message to read."""
        self._connection = connection
        self._js = JetStream(connection)
        self._stream = stream
        self._subjects = subjects
        self._since = since
        self._last = last
        self._position = 0

    async def messages(self) -> AsyncIterator[Kept]:
        """Iterate over the messages.

        Raises:
            NoServerError: they could not be read completely.
            JetStreamError, NotAllowedError: as for `JetStream.call`.
        """
        tries = 0
        while True:
            before = self._position
            try:
                async for kept in self._of_one_consumer():
                    yield kept
            except JetStreamError as error:
                if error.code == OTHER_SUBJECTS:
                    return
                raise
            except NoServerError as error:
                tries = 0 if self._position > before else tries + 1
                if tries == TRIES:
                    raise NoServerError(
                        f"the history could not be read completely ({error}): try again"
                    ) from error
            else:
                return
            await asyncio.sleep(AGAIN)

    async def _of_one_consumer(self) -> AsyncIterator[Kept]:
        """Iterate over the messages of one consumer, after the last message read.

        Raises:
            NoServerError: it stopped delivering.
        """
        name = f"gozo-history-{secrets.token_hex(6)}"
        if not await self._create(name):
            return
        most, delivered = PAGE, 0
        while True:
            page = _Page(delivered)
            inbox = self._connection.new_inbox()
            listener = self._connection.listen(inbox, page.hear)
            asked = f"{self._js.prefix}.CONSUMER.MSG.NEXT.{self._stream}.{name}"
            needed = f"{self._js.prefix}.CONSUMER.MSG.NEXT.{self._stream}.>"
            try:
                with self._connection.failing_if_denied(asked, page.denied, needed):
                    self._connection.publish(asked, _request(most), reply=inbox)
                    async for sequence, kept in self._of_page(page, most):
                        if sequence > self._last:
                            return
                        self._position = sequence
                        yield kept
            finally:
                listener.stop()
            got, delivered = page.delivered - delivered, page.delivered
            if not page.pending or page.status == NO_MESSAGES:
                return
            if not got and most == 1:
                raise NoServerError(f"the server ended a request with the status {page.status}")
            most = PAGE if got else 1  # a single message may be larger than a page

    async def _of_page(self, page: _Page, most: int) -> AsyncIterator[tuple[int, Kept]]:
        got = 0
        while got < most:
            while page.messages:
                got += 1
                yield page.messages.popleft()
            if page.denied.done():
                page.denied.result()
            if page.broken:
                raise NoServerError("the connection was lost")
            if page.status is not None or not page.pending or got >= most:
                return
            page.news.clear()
            try:
                async with asyncio.timeout(SILENCE):
                    await page.news.wait()
            except TimeoutError as error:
                raise NoServerError("the server stopped answering") from error

    async def _create(self, name: str) -> bool:
        """Create a consumer; False if it has no messages."""
        config: dict[str, Any] = {
            "name": name,
            "ack_policy": "none",
            "replay_policy": "instant",
            "mem_storage": True,
            "num_replicas": 1,
            "inactive_threshold": INACTIVE * 1_000_000_000,
            "filter_subjects": list(self._subjects),
        }
        if self._position:
            config |= {
                "deliver_policy": "by_start_sequence",
                "opt_start_seq": self._position + 1,
            }
        elif self._since is not None:
            start = self._since.astimezone(UTC).isoformat()
            config |= {"deliver_policy": "by_start_time", "opt_start_time": start}
        else:
            config["deliver_policy"] = "all"
        body = {"stream_name": self._stream, "config": config, "action": "create"}
        verb = f"CONSUMER.CREATE.{self._stream}.{name}"
        made = await self._js.call(verb, body, timeout=5.0)
        return bool(made.get("num_pending"))


def _request(most: int) -> bytes:
    """Return the request for a page."""
    body: dict[str, Any] = {"batch": most, "no_wait": True}
    if most > 1:
        body["max_bytes"] = PAGE_BYTES
    return json.dumps(body).encode()
