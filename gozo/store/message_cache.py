"""Keeps the messages of schedules that are due soon in memory, within a budget of bytes.

A message is fetched from the bucket shortly before it is due, by the revision of its entry, so
that an outdated message is never sent.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Callable, Iterable
from itertools import takewhile

from gozo.errors import GozoError, RequestError
from gozo.protocol.deliveries import delivery
from gozo.protocol.headers import END
from gozo.protocol.subject_policy import Policy
from gozo.runtime.logs import get_logger
from gozo.schedule.model import Entry, Outgoing
from gozo.schedule.timetable import Item
from gozo.store.bucket import Bucket
from gozo.store.delivery_hooks import DeliveryHooks
from gozo.store.entry_codec import EntryError
from gozo.store.index import BucketIndex
from gozo.store.legacy_codec import parse_whole
from gozo.transport.commands import status_of
from gozo.transport.connection import Connection
from gozo.transport.jetstream import parse_time

BUDGET = 96 * 1024 * 1024  # bytes of messages in memory
MOST_OFFERED = 64 * 1024 * 1024  # bytes of these for messages that are not due soon
OVERHEAD = 400  # bytes of memory for each message besides its contents
MOST_FETCHES = 500  # messages being fetched at a time
MOST_FETCH_BYTES = 16 * 1024 * 1024
"""Bytes being fetched at a time; the server closes connections that lag by 64 MB."""
FETCH_TIME = 2.0  # seconds after which a fetch without an answer is repeated
GUESS = 4_096  # assumed bytes of a message before it arrives

_ADDED = re.compile(
    rb"Nats-Stream: [^\r]*\r\nNats-Subject: ([^\r]*)\r\nNats-Sequence: [0-9]+\r\n"
    rb"Nats-Time-Stamp: ([0-9TZ:.+-]+)\r\n(?:Nats-[^\r]*\r\n)*\r\n\Z"
)
"""The headers that the server appends to a message that is read directly (ADR-31)."""

log = get_logger("gozo.store")


class MessageCache:
    """Keeps messages, and prefetches them."""

    def __init__(
        self,
        connection: Connection,
        bucket: Bucket,
        policy: Policy,
        index: BucketIndex,
        hooks: DeliveryHooks,
        on_gone: Callable[[str], None],
        budget: int = BUDGET,
    ) -> None:
        """Create an empty cache.

        `on_gone` is called with a key whose message was needed and that the bucket does not hold.
        """
        self._connection = connection
        self._bucket = bucket
        self._policy = policy
        self._budget = budget
        self._large = index.traits.large
        self._timetable = index.timetable
        self._generation = 0
        """Incremented by `clear`: answers to earlier fetches are ignored."""
        self._flight = 0
        self._arrived_at = 0.0
        self._kept: dict[str, tuple[int, Outgoing]] = {}
        self._bytes = 0
        self._fetching: dict[str, tuple[int, float, int]] = {}
        """Revision, start, and expected bytes of each fetch, by key."""
        self._absent: dict[str, int] = {}
        """Revisions that the stream's leader lacks, by key, until `was_absent` is called."""
        self._wanted: deque[Item] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        index.on_outdated.append(self.discard)
        index.on_cleared.append(self.clear)
        self._prefix = bucket.prefix.encode()
        self._direct = f"{bucket.js.prefix}.DIRECT.GET.{bucket.stream}".encode()
        self._hooks = hooks
        self._on_gone = on_gone

    def get(self, item: Item) -> Outgoing | None:
        """The message of this version of a schedule, if it is in memory."""
        kept = self._kept.get(item.key)
        return kept[1] if kept is not None and kept[0] == item.revision else None

    @property
    def takes_more(self) -> bool:
        """Whether there is room for messages that are not due soon."""
        return self._bytes < min(MOST_OFFERED, self._budget)

    def offer(self, key: str, revision: int, outgoing: Outgoing) -> None:
        """Keep a message that was not fetched; see `takes_more`."""
        self._keep(key, revision, outgoing)

    def discard(self, key: str, revision: int) -> None:
        """Forget the message of a version of a schedule, and of older ones."""
        self._absent.pop(key, None)
        kept = self._kept.get(key)
        if kept is not None and kept[0] <= revision:
            del self._kept[key]
            self._bytes -= kept[1].size + OVERHEAD
            if self._wanted:
                self._prefetch()

    def clear(self) -> None:
        """Forget all messages and fetches; the messages are read from the bucket again."""
        self._generation += 1
        for forgotten in (self._kept, self._fetching, self._absent, self._wanted):
            forgotten.clear()
        self._bytes = self._flight = 0

    def prepare(self, items: Iterable[Item]) -> None:
        """Fetch these messages within the budget; the others are fetched when they are due."""
        self._wanted.extend(item for item in items if self.get(item) is None)
        self._prefetch()

    def fetch(self, item: Item) -> None:
        """Fetch a message that is due, regardless of the budget."""
        asked = self._fetching.get(item.key)
        if asked is not None:
            if asked[0] == item.revision and time.monotonic() - asked[1] < FETCH_TIME:
                return
            self._landed(item.key, asked[0])
        if not self._make_room():
            return
        size = self._large.get(item.key, GUESS)
        self._fetching[item.key] = (item.revision, time.monotonic(), size)
        self._flight += size
        if self._bucket.direct:
            self._ask_directly(item)
        else:
            self._ask_leader(item)

    def was_absent(self, item: Item) -> bool:
        """Tell, once, whether a fetch found that the bucket does not hold a message."""
        return self._absent.pop(item.key, None) == item.revision

    def lacks(self, item: Item, patience: float) -> bool:
        """Tell whether the fetch of a message failed; see `was_absent`, `is_overdue`."""
        return self._absent.get(item.key) == item.revision or self.is_overdue(item, patience)

    def is_overdue(self, item: Item, patience: float) -> bool:
        """Tell whether a fetch of a message has had no answer for `patience` seconds."""
        asked = self._fetching.get(item.key)
        if asked is None:
            return False
        now = time.monotonic()
        return now - max(asked[1], self._arrived_at) > patience or now - asked[1] > FETCH_TIME

    def _make_room(self) -> bool:
        """Tell whether another fetch may start; fetches that failed no longer count.

        Fetches whose message is no longer wanted count until they are answered or time out.
        """
        if len(self._fetching) < MOST_FETCHES and self._flight < MOST_FETCH_BYTES:
            return True
        before = time.monotonic() - FETCH_TIME
        if self._arrived_at < before:
            for key in list(takewhile(lambda key: self._fetching[key][1] < before, self._fetching)):
                self._landed(key, self._fetching[key][0])
        return len(self._fetching) < MOST_FETCHES and self._flight < MOST_FETCH_BYTES

    def _landed(self, key: str, revision: int) -> None:
        """End the fetch of a version of a schedule, unless a later version is being fetched."""
        asked = self._fetching.get(key)
        if asked is not None and asked[0] == revision:
            del self._fetching[key]
            self._flight -= asked[2]

    def _prefetch(self) -> None:
        wanted = self._wanted
        while wanted and self._make_room() and self._bytes + self._flight < self._budget:
            item = wanted.popleft()
            if self._timetable.is_taken(item.key):
                continue  # It became due meanwhile, and delivery has fetched it.
            if self._timetable.holds(item) and self.get(item) is None:
                self.fetch(item)

    def _keep(self, key: str, revision: int, outgoing: Outgoing) -> None:
        kept = self._kept.get(key)
        if kept is not None:
            self._bytes -= kept[1].size + OVERHEAD
        self._kept[key] = (revision, outgoing)
        self._bytes += outgoing.size + OVERHEAD

    def _arrived(self, item: Item, headers: bytes | None, payload: bytes) -> bool:
        """Keep a fetched message; False if it is not the wanted version."""
        headers = headers or b""
        end = headers.rfind(b"Nats-Stream: ")
        added = _ADDED.match(headers, end) if end > 0 else None
        if added is None or added[1] != self._prefix + item.key.encode():
            return False
        stored_us = 0
        if b"\r\nGozo-Due: " not in headers:
            stored_us = parse_time(added[2].decode())
        return self._take(item, headers[:end] + END, payload, stored_us)

    def _take(self, item: Item, headers: bytes | None, payload: bytes, stored_us: int) -> bool:
        try:
            entry, payload = parse_whole(item.key, headers, payload, stored_us)
            if not isinstance(entry, Entry):
                return False
            # The follower checked the subject, but this may come from a bucket created since.
            self._policy.check_entry(entry)
        except (EntryError, RequestError):
            return False
        self._landed(item.key, item.revision)
        self._arrived_at = time.monotonic()
        self._keep(item.key, item.revision, delivery(entry, payload))
        self._prefetch()
        self._hooks.wake()
        return True

    def _ask_directly(self, item: Item) -> None:
        """Ask any replica of the stream for a message (ADR-31)."""
        generation = self._generation

        def on_reply(headers: bytes | None, payload: bytes | None) -> None:
            if generation != self._generation:
                return
            if payload is None:
                self._landed(item.key, item.revision)
            elif not self._timetable.holds(item):
                self._arrived_at = time.monotonic()
                self._landed(item.key, item.revision)
                self._hooks.wake()
            elif status_of(headers) or not self._arrived(item, headers, payload):
                # A replica of the stream may lag behind; its leader does not.
                self._ask_leader(item)

        try:
            self._connection.call(self._direct, b'{"seq":%d}' % item.revision, on_reply)
        except GozoError:
            self._landed(item.key, item.revision)

    def _ask_leader(self, item: Item) -> None:
        work = self._fetch_from_leader(item, self._generation)
        task = asyncio.create_task(work, name=f"fetch {item.key}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fetch_from_leader(self, item: Item, generation: int) -> None:
        try:
            message = await self._bucket.js.message(self._bucket.stream, item.revision)
            if generation != self._generation:
                return
            if not self._timetable.holds(item):
                self._hooks.wake()
                return
            found = (
                message is not None
                and message.subject == self._bucket.prefix + item.key
                and self._take(item, message.headers, message.payload, message.stored_us)
            )
            if not found:
                # Most likely just replaced or removed: the follower will notice.
                log.debug("message.not_found", key=item.key, revision=item.revision)
                self._absent[item.key] = item.revision
                self._hooks.wake()
                if await self._bucket.read(item.key) is None:
                    self._on_gone(item.key)
        except GozoError as error:
            log.repeated("warning", "message.unreachable", key=item.key, reason=str(error))
        finally:
            if generation == self._generation:
                self._landed(item.key, item.revision)
