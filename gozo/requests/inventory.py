"""Answers `<request subject>.admin.keys`: which keys have a schedule, in pages, and how many.

A reader of the bucket also reads its delete markers, which are most of it soon after many
deliveries. The leader knows the keys without reading anything.

An answer is a snapshot: its `position` is the sequence of the bucket's stream up to which the
leader had read everything at that moment. Keys are in order. So a key whose schedule was stored
up to the `position` of the first page, and is not changed until the last page is answered, is in
exactly one page. Keys that are added, removed or changed meanwhile may be in a page or not: they
are in the stream after the position.

Only the leader listens: without a leader, callers learn at once that there is no responder.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NoReturn

from gozo.errors import DisconnectedError, Refusal, RequestError
from gozo.protocol.admin import KeysAsked, parse_keys
from gozo.protocol.receipts import refusal_receipt
from gozo.protocol.subject_policy import Policy
from gozo.runtime.clock import wall_us
from gozo.runtime.logs import get_logger
from gozo.schedule.model import MICROSECONDS, NEVER, OVERDUE_US
from gozo.store.follower import Follower
from gozo.store.index import BucketIndex
from gozo.transport.connection import Connection
from gozo.transport.subscriptions import Listener

VERB = "keys"

ROWS_A_TURN = 5_000  # schedules examined before other tasks run, in about a millisecond
MOST_QUESTIONS = 32  # questions that wait; more are refused
REVISION_SIZE = 28  # bytes of a key in an answer besides its text

Answer = dict[str, object]
_Row = tuple[int, int, str]
"""Due time, revision and key."""

log = get_logger("gozo.inventory")


class Inventory:
    """Answers for one bucket, one question at a time."""

    def __init__(
        self,
        connection: Connection,
        policy: Policy,
        bucket: str,
        index: BucketIndex,
        follower: Follower,
    ) -> None:
        self._connection = connection
        self._policy = policy
        self._bucket = bucket
        self._index = index
        self._follower = follower
        self._subject = f"{policy.request_subject}.admin.{VERB}"
        self._listener: Listener | None = None
        self._waiting: deque[tuple[str, KeysAsked]] = deque()
        self._work = asyncio.Event()

    def open(self) -> None:
        """Start to answer: this replica leads."""
        if self._listener is None:
            self._listener = self._connection.listen(self._subject, self._hear)

    def close(self) -> None:
        """Stop answering."""
        if self._listener is not None:
            self._listener.stop()
            self._listener = None

    async def run(self) -> NoReturn:
        """Answer questions; runs until it is cancelled."""
        while True:
            while self._waiting:
                reply, asked = self._waiting.popleft()
                try:
                    self._tell(reply, await self._answer(asked))
                except Exception:
                    # One unforeseen question must not stop the others.
                    log.exception("keys.failed")
            self._work.clear()
            await self._work.wait()

    def _hear(self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        if not self._policy.may_answer(reply):
            return
        to = reply.decode("utf-8", "surrogateescape")
        if len(self._waiting) >= MOST_QUESTIONS:
            error = RequestError(Refusal.BUSY, "too many queries are waiting: try again later")
            self._tell(to, refusal_receipt(None, error))
            return
        try:
            self._waiting.append((to, parse_keys(payload)))
            self._work.set()
        except RequestError as error:
            self._tell(to, refusal_receipt(None, error))

    def _tell(self, reply: str, answer: Answer) -> None:
        try:
            self._connection.publish(reply, json.dumps(answer).encode())
        except DisconnectedError as error:
            log.debug("keys.reply_lost", reason=str(error))

    async def _answer(self, asked: KeysAsked) -> Answer:
        index, follower = self._index, self._follower
        if not follower.is_following:
            words = "the leader is rereading the bucket: try again later"
            return refusal_receipt(None, RequestError(Refusal.UNAVAILABLE, words))
        # A snapshot: no other task runs until it is complete.
        rows = index.timetable.rows() if asked.limit or asked.counts else []
        told: Answer = {
            "bucket": self._bucket,
            "created": follower.created,
            "position": follower.position,
            "schedules": len(index.timetable) - len(index.traits.runs),
        }
        if asked.counts:
            told |= {"paused": len(index.traits.paused), "failed": len(index.traits.failed)}
            told["invalid"] = len(index.traits.invalid)
            told["failing"] = index.count_failing()
            told["runs"] = index.traits.runs.counts()
            if index.bare:  # these are only counted correctly once their values are read
                unread = min(revision for revision, _ in index.bare.values())
                told["position"] = min(follower.position, unread - 1)
            told |= await self._count(rows)
        return told | await self._page(rows, asked) if asked.limit else told

    async def _count(self, rows: list[_Row]) -> Answer:
        """Count overdue schedules and find the next due time.

        Without those being retried, dead letters and runs.
        """
        late_us, next_us, overdue = wall_us() - OVERDUE_US, NEVER, 0
        traits = self._index.traits
        retrying = traits.retrying | traits.dead_letters.keys() | traits.runs.keys()
        for some in _turns(rows):
            for due_us, _, key in some:
                if due_us >= next_us or key in retrying:
                    continue
                if due_us < late_us:
                    overdue += 1
                else:
                    next_us = due_us
            await asyncio.sleep(0)
        epoch = None if next_us == NEVER else next_us / MICROSECONDS
        return {"overdue": overdue, "next_due_epoch": epoch}

    async def _page(self, rows: list[_Row], asked: KeysAsked) -> Answer:
        """Return the first keys in order, as many as fit into an answer."""
        prefix, after, limit = asked.prefix, asked.after, asked.limit
        found: list[tuple[str, int]] = []
        last: str | None = None  # keys after this one are for a later page
        for some in _turns(rows):
            found += [
                (key, revision)
                for _, revision, key in some
                if key > after and key.startswith(prefix) and (last is None or key < last)
            ]
            if len(found) > 2 * limit:
                found.sort()
                del found[limit + 1 :]
                last = found[-1][0]
            await asyncio.sleep(0)
        found.sort()
        room, size = self._connection.max_payload // 2, 0
        keys: list[tuple[str, int]] = []
        for key, revision in found[:limit]:
            size += len(json.dumps(key)) + REVISION_SIZE
            if keys and size > room:
                break
            keys.append((key, revision))
        large = self._index.traits.large
        return {
            "keys": keys,
            "more": len(keys) < len(found),
            "bytes": sum(large.get(key, 0) for key, _ in keys) if large else 0,
        }


def _turns(rows: Sequence[_Row]) -> Iterator[Sequence[_Row]]:
    return (rows[start : start + ROWS_A_TURN] for start in range(0, len(rows), ROWS_A_TURN))
