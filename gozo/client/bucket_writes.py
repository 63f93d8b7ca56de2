"""Writes to the bucket without a daemon, each with an expected revision.

So a write never undoes a change made meanwhile, not even by a daemon that has just started: on a
conflict, the key is read again, and the change is decided again.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Literal

from gozo.client.arguments import as_of, moment
from gozo.client.daemon_answers import absent
from gozo.client.decoding import entry_of
from gozo.client.models import Answer, Cancelled, Schedule, Stored
from gozo.client.reader import Found, Reader
from gozo.errors import (
    DisconnectedError,
    ExistsError,
    NoServerError,
    NotFoundError,
    Refusal,
    RequestError,
    UnansweredError,
)
from gozo.protocol.headers import block
from gozo.protocol.ids import escape_id
from gozo.protocol.receipts import over, protected_error
from gozo.protocol.subject_policy import LARGEST_BLOCK, check_size
from gozo.runtime.clock import steady, wall_us
from gozo.schedule import expression as grammar
from gozo.schedule.model import Entry, Marker, Reason, State
from gozo.schedule.recurrence import paused, rescheduled, resumed
from gozo.schedule.runs import ended
from gozo.store.bucket import Bucket, open_bucket
from gozo.store.entry_codec import entry_headers, headers_size, reserved_key
from gozo.store.entry_tokens import client_token
from gozo.store.marker_codec import (
    MARKER_SECONDS,
    marker_headers,
)
from gozo.transport.jetstream import CONFLICTS, NO_ROOM, is_final, read_ack

AT_ONCE = 200  # schedules changed concurrently
FIRST_WAIT, LONGEST_WAIT = 0.01, 0.25  # seconds before the next try

Gone = Literal["already_delivered", "not_found"]

Change = Callable[[Entry], Entry]
"""Returns a new version of a schedule made from the current one, or raises `RequestError`."""


class BucketWrites:
    """Changes schedules in the bucket."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def store(self, entry: Entry, payload: bytes, *, replace: bool, timeout: float) -> Stored:
        """Store a schedule; creates the bucket if necessary.

        Raises:
            ExistsError: there is one with this id, and `replace` is false.
            RequestError: `protected`, if it would replace a protected schedule.
            RequestError, UnansweredError: as for `Client.schedule`.
        """
        entry = as_of(entry, wall_us())
        try:
            bucket = await open_bucket(self._reader.js, self._reader.name, replicas=None)
        except NoServerError:
            await self._reader.js.explain_silence()
            raise
        self.check_size(bucket, entry, payload)
        if entry.id is None:
            await self._put(bucket, reserved_key(), entry, payload, 0, timeout)
            return Stored(None, moment(entry.due_us), replaced=False)
        is_there = False
        async for left in tries(timeout, repr(entry.id)):
            found = await self._reader.find(entry.id)
            is_there = found is not None and not isinstance(found.what, Marker)
            if is_there and not replace:
                raise ExistsError(f"the schedule {entry.id!r} already exists: cancel or replace it")
            was = None if found is None else found.what
            if isinstance(was, Schedule) and was.protected and not entry.protected:
                raise protected_error()
            if await self.put_for(bucket, entry, payload, found, left):
                break
        return Stored(entry.id, moment(entry.due_us), replaced=is_there)

    async def cancel(self, ids: list[str], *, timeout: float) -> list[Cancelled]:
        """Cancel schedules, many concurrently.

        Raises:
            UnansweredError: as for `Client.cancel`.
        """
        bucket = await self._reader.bucket()
        if bucket is None:
            return [Cancelled(id_, "not_found") for id_ in ids]
        has_runs = await self._reader.has_runs()

        async def cancel(id_: str) -> Cancelled:
            answer = await self._cancel(bucket, id_, timeout)
            if not has_runs:
                return answer
            changed, running = await self._end_runs(bucket, id_, timeout, are_cancelled=True)
            return Cancelled(id_, "cancelled" if changed else answer.status, running)

        done: list[Cancelled] = []
        for start in range(0, len(ids), AT_ONCE):
            done += await asyncio.gather(*map(cancel, ids[start : start + AT_ONCE]))
        return done

    async def _end_runs(
        self, bucket: Bucket, id_: str, timeout: float, *, are_cancelled: bool = False
    ) -> tuple[bool, bool]:
        """Make sure that the runs of a schedule are not tried again; remove cancelled failed ones.

        Returns whether this changed any of them, and whether one is running.
        """
        found = await self._reader.find_runs(id_)
        done = [await self._end_run(bucket, one, timeout, are_cancelled) for one in found]
        return any(changed for changed, _ in done), any(running for _, running in done)

    async def _end_run(
        self, bucket: Bucket, found: Found | None, timeout: float, is_cancelled: bool
    ) -> tuple[bool, bool]:
        """Return whether this changed the run, and whether it is running."""
        async for left in tries(timeout, "the run" if found is None else repr(found.key)):
            if found is None or isinstance(found.what, Marker):
                return False, False
            message = found.message
            entry, payload = entry_of(
                found.key, message.headers, message.payload, message.stored_us
            )
            is_running, new = entry.state is State.RUNNING, ended(entry)
            if entry.state is State.FAILED:
                if entry.is_dead_letter or not is_cancelled:
                    return False, False
                done = await self.remove(bucket, found, left)
            elif new == entry:
                return False, is_running
            else:
                done = await self._put(bucket, found.key, new, payload, message.sequence, left)
            if done:
                return True, is_running
            found = await self._reader.read(found.key)
        raise AssertionError  # `tries` raises at the end

    async def _cancel(self, bucket: Bucket, id_: str, timeout: float) -> Cancelled:
        async for left in tries(timeout, repr(id_)):
            found = await self._reader.find(id_)
            if found is None:
                break
            if isinstance(found.what, Marker):
                if found.what.reason is Reason.DELIVERED:
                    return Cancelled(id_, "already_delivered")
                break
            if await self.remove(bucket, found, left):
                return Cancelled(id_, "cancelled")
        return Cancelled(id_, "not_found")

    async def reschedule(self, id_: str, when: str, *, timeout: float) -> Stored:
        """Change the due time of a schedule and keep the rest.

        Raises:
            NotFoundError, RequestError, UnansweredError: as for `Client.reschedule`.
        """
        now_us = wall_us()
        grammar.parse(when)
        bucket = await self._reader.bucket()
        if bucket is None:
            raise absent(id_, "not_found")
        entry = await self._alter(
            bucket, id_, lambda entry: rescheduled(entry, when, now_us), timeout
        )
        _, running = await self._end_runs(bucket, id_, timeout)
        return Stored(id_, moment(entry.due_us), replaced=True, running=running)

    async def pause(self, ids: list[str], note: str, *, timeout: float) -> list[Answer]:
        """Pause schedules, many concurrently.

        Raises:
            RequestError, UnansweredError: as for `Client.pause`.
        """
        return await self._alter_each(ids, lambda entry: paused(entry, note), "paused", timeout)

    async def resume(self, ids: list[str], *, timeout: float) -> list[Answer]:
        """Resume schedules, many concurrently.

        Raises:
            RequestError, UnansweredError: as for `Client.resume`.
        """
        return await self._alter_each(ids, resumed, "resumed", timeout)

    async def _alter_each(
        self, ids: list[str], change: Change, status: Literal["paused", "resumed"], timeout: float
    ) -> list[Answer]:
        bucket = await self._reader.bucket()
        if bucket is None:
            return [Answer(id_, "not_found") for id_ in ids]
        ends_runs = status == "paused"
        has_runs = ends_runs and await self._reader.has_runs()

        async def alter(id_: str) -> Answer:
            try:
                await self._alter(bucket, id_, change, timeout, spares_runs=not ends_runs)
            except NotFoundError as error:
                gone: Gone = "not_found" if error.status == "not_found" else "already_delivered"
                return Answer(id_, gone, error.reason, running=bool(error.reason))
            running = has_runs and (await self._end_runs(bucket, id_, timeout))[1]
            return Answer(id_, status, running=running)

        done: list[Answer] = []
        for start in range(0, len(ids), AT_ONCE):
            done += await asyncio.gather(*map(alter, ids[start : start + AT_ONCE]))
        return done

    async def _alter(
        self,
        bucket: Bucket,
        id_: str,
        change: Change,
        timeout: float,
        *,
        spares_runs: bool = False,
    ) -> Entry:
        """Change a schedule and return it; stores it if it differs.

        Daemons end the runs of a schedule that a client changes, unless it `spares_runs`.

        Raises:
            NotFoundError: there is no such schedule.
            RequestError: it was refused.
            UnansweredError: the outcome is unknown.
        """
        async for left in tries(timeout, repr(id_)):
            found = await self._reader.find(id_)
            if found is None or isinstance(found.what, Marker):
                raise await self._absent(id_, found)
            message = found.message
            entry, payload = entry_of(
                found.key, message.headers, message.payload, message.stored_us
            )
            new = change(entry)
            if new == entry or await self.put_for(
                *(bucket, new, payload, found, left), spares_runs=spares_runs
            ):
                return new
        raise AssertionError  # `tries` raises at the end

    async def _absent(self, id_: str, found: Found | None) -> NotFoundError:
        """Return the error for a schedule of which a marker was found, or nothing."""
        marker = None if found is None else found.what
        delivered = isinstance(marker, Marker) and marker.reason is Reason.DELIVERED
        progress = await self._reader.progress(id_)
        status = "already_delivered" if delivered else "not_found"
        return absent(id_, status, over(progress) if progress else "")

    def check_size(self, bucket: Bucket, entry: Entry, payload: bytes) -> None:
        """Refuse a schedule that is too large for the bucket, including what gozo adds later.

        Raises:
            RequestError: `too_large`.
        """
        most = self._reader.connection.max_payload
        check_size(len(payload), headers_size(entry), most, bucket.max_message)

    async def put_for(
        self,
        bucket: Bucket,
        entry: Entry,
        payload: bytes,
        found: Found | None,
        timeout: float,
        *,
        spares_runs: bool = False,
    ) -> bool:
        """Store an entry in place of what was found under its id; False on a conflict."""
        assert entry.id is not None
        key = escape_id(entry.id)
        token = client_token(spares_runs=spares_runs)
        if found is None or found.key == key:
            expected = 0 if found is None else found.message.sequence
            return await self._put(bucket, key, entry, payload, expected, timeout, token)
        # The original gozo kept the schedule under another key.
        canonical = await self._reader.read(key)
        expected = 0 if canonical is None else canonical.message.sequence
        if not await self._put(bucket, key, entry, payload, expected, timeout, token):
            return False
        await self.remove(bucket, found, timeout, moved=True)
        return True

    async def _put(
        self,
        bucket: Bucket,
        key: str,
        entry: Entry,
        payload: bytes,
        expected: int,
        timeout: float,
        token: bytes = b"",
    ) -> bool:
        lines = entry_headers(entry, token or client_token())
        return bool(await self.write(bucket, key, block(lines, expected), payload, timeout))

    async def remove(
        self, bucket: Bucket, found: Found, timeout: float, *, moved: bool = False
    ) -> bool:
        """Replace an entry by a delete marker, or purge it if there is no room for a marker.

        With `moved`, the schedule is now under another key and does not count as cancelled.
        False on a conflict.
        """
        revision = found.message.sequence
        token = b"" if moved else secrets.token_hex(8).encode()
        lines = marker_headers(Reason.CANCELLED, MARKER_SECONDS * bucket.marker_ttl, token)
        try:
            return bool(await self.write(bucket, found.key, block(lines, revision), b"", timeout))
        except (_NoRoomError, _NeverError):
            await bucket.purge(found.key, revision)
            return await bucket.read(found.key) is None

    async def write(
        self, bucket: Bucket, key: str, headers: bytes, payload: bytes, timeout: float
    ) -> int:
        """Write to a key; return its new revision, 0 on a conflict.

        Raises:
            RequestError: `too_large` or `unavailable`; nothing was stored.
            UnansweredError: it may or may not be stored.
            DisconnectedError, NotAllowedError: nothing was stored.
        """
        connection = self._reader.connection
        if not connection.connected:
            raise DisconnectedError("there is no connection to NATS at the moment")
        if len(headers) + len(payload) > connection.max_payload:
            connection.doubt_limits()
            raise RequestError(
                Refusal.TOO_LARGE,
                f"{key!r} would have {len(headers) + len(payload)} bytes in the bucket; the "
                f"maximum is {connection.max_payload}: use a shorter payload",
            )
        if len(headers) > LARGEST_BLOCK:
            raise RequestError(
                Refusal.TOO_LARGE,
                f"the headers of {key!r} would take {len(headers)} bytes in the bucket; the "
                f"maximum is {LARGEST_BLOCK}: use fewer or shorter headers",
            )
        try:
            reply = await connection.request(
                bucket.entrance + key, payload, headers=headers, timeout=timeout
            )
        except NoServerError as error:
            raise UnansweredError(
                f"the change of {key!r} was sent, but its outcome is unknown ({error})"
            ) from error
        sequence, code, words = read_ack(reply.headers, reply.payload)
        if sequence or code in CONFLICTS:
            return sequence
        said = f"the bucket refused the change, nothing was stored: {words}"
        if code in NO_ROOM:
            raise _NoRoomError(Refusal.UNAVAILABLE, said)
        if is_final(code, words):
            raise _NeverError(Refusal.TOO_LARGE, said)
        raise RequestError(Refusal.UNAVAILABLE, said)


class _NoRoomError(RequestError):
    """The storage is full."""


class _NeverError(RequestError):
    """The bucket will never accept this."""


async def tries(timeout: float, what: str) -> AsyncIterator[float]:
    """Yield the seconds left for each try, until time is up.

    Raises:
        RequestError: `superseded`, if other writers were faster each time.
    """
    deadline = steady() + timeout
    wait = FIRST_WAIT
    while (left := deadline - steady()) > 0:
        yield left
        await asyncio.sleep(wait)
        wait = min(2 * wait, LONGEST_WAIT)
    raise RequestError(Refusal.SUPERSEDED, f"{what} kept changing, nothing was stored: try again")
