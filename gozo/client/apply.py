"""Creates, updates and deletes schedules to match those wanted; one client at a time.

Each write requires the revision that was read, so it never undoes a change of a daemon or another
client. That alone would let two clients that apply at the same time mix their schedules. So a
client that applies holds a lock in the bucket, written and renewed by compare-and-set; the next
one waits until the lock is released, or has not been renewed for a while: then its holder is gone,
and applying again completes its work.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple, TypeVar

from gozo.client.arguments import Past, as_of, made
from gozo.client.bucket_writes import AT_ONCE, BucketWrites, tries
from gozo.client.comparison import changed, is_past, is_paused
from gozo.client.decoding import entry_of
from gozo.client.manifest import SET_NAME, is_set_name
from gozo.client.manifest_tables import SET, TIMES, confirmed
from gozo.client.models import Applied, Schedule, Wanted
from gozo.client.reader import Found, Reader
from gozo.errors import ExistsError, NoServerError, Refusal, RequestError, invalid_value
from gozo.protocol.admin import read_note
from gozo.protocol.headers import block, fields
from gozo.protocol.subject_policy import Policy
from gozo.runtime.clock import steady, wall_us
from gozo.schedule.model import Entry, State
from gozo.schedule.record import not_awaiting
from gozo.schedule.recurrence import due_at, paused
from gozo.store.bucket import Bucket, open_bucket, stream_of
from gozo.store.entry_codec import APPLY_KEY

LEASE = 10.0  # seconds without renewal after which a lock is free
RENEWAL = 2.0  # seconds after which the lock is renewed before further writes
LOOK = 0.05  # seconds between checks whether the lock is free
LOCK_SECONDS = 60  # after which the server removes a lock, if it supports that
ANSWER = 5.0  # seconds to wait for an answer to a write of the lock

MOST_NAMED = 5  # schedules named in an error

HOLDER = b"gozo-holder"

T = TypeVar("T")


class _Step(NamedTuple):
    """The action for one id, and what was found under it."""

    applied: Applied
    found: Found | None
    wanted: Wanted | None = None


class Applier:
    """Applies sets of schedules to one bucket."""

    def __init__(self, reader: Reader, writes: BucketWrites, policy: Policy) -> None:
        self._reader = reader
        self._writes = writes
        self._policy = policy

    def check(self, wanted: Wanted) -> Entry:
        """Create an entry for a wanted schedule, as of now.

        Raises:
            RequestError: a daemon would refuse it, or the name of the set is invalid.
        """
        if wanted.managed_by and not is_set_name(wanted.managed_by):
            raise RequestError(
                Refusal.INVALID_REQUEST,
                invalid_value("set name", wanted.managed_by, SET_NAME),
            )
        connection = self._reader.connection
        with connection.doubting_limits():
            entry = made(
                self._policy,
                connection.max_payload,
                wanted.subject,
                wanted.payload,
                when=wanted.when,
                id_=wanted.id,
                headers=wanted.headers,
                confirmed=confirmed(wanted),
                spec=wanted.spec,
                managed_by=wanted.managed_by,
                protect=bool(wanted.protect),
            )
        entry = as_of(entry, wall_us())
        return paused(entry, read_note(wanted.note)) if wanted.paused else entry

    async def plan(self, wanted: Sequence[Wanted], prune: Collection[str]) -> list[Applied]:
        """Return what would be done; see `Client.apply`."""
        for one in wanted:
            self.check(one)
        return [step.applied for step in await self._steps(wanted, prune)]

    async def apply(
        self, wanted: Sequence[Wanted], prune: Collection[str], *, past: Past, timeout: float
    ) -> list[Applied]:
        """Apply the schedules; see `Client.apply`."""
        entries = {one.id: self.check(one) for one in wanted}
        bucket = await open_bucket(self._reader.js, self._reader.name, replicas=None)
        for one in wanted:
            self._writes.check_size(bucket, entries[one.id], one.payload)
        async with self._locked(bucket, timeout) as lock:
            steps = await self._steps(wanted, prune)
            _check_past([step.applied for step in steps], past)
            todo = [step for step in steps if step.applied.action not in ("leave", "past")]
            for some in _portions(todo):
                await lock.renew()
                doing = (
                    self._do(bucket, step, entries.get(step.applied.id), past, timeout)
                    for step in some
                )
                await asyncio.gather(*doing)
            return [step.applied for step in steps]

    async def _steps(self, wanted: Sequence[Wanted], prune: Collection[str]) -> list[_Step]:
        """Read all wanted schedules, and those to be pruned.

        Raises:
            ExistsError: one belongs to another set.
        """
        steps: list[_Step] = []
        for some in _portions(wanted):
            found = await asyncio.gather(*(self._reader.find(one.id) for one in some))
            steps += [_step(one, what) for one, what in zip(some, found, strict=True)]
        if not prune:
            return steps
        kept = {one.id for one in wanted}
        over = [
            one.id
            async for one in self._reader.list(None)
            if one.managed_by in prune
            and one.id is not None
            and one.id not in kept
            and not one.is_run
        ]
        return steps + [_Step(Applied(id_, "remove"), None) for id_ in sorted(over)]

    async def _do(
        self, bucket: Bucket, step: _Step, entry: Entry | None, past: Past, timeout: float
    ) -> None:
        """Execute a step; on a conflict, decide again.

        `entry` is the wanted schedule as of the time of the call.

        Raises:
            RequestError: it would now be sent at once.
        """
        id_, wanted, found = step.applied.id, step.wanted, step.found
        is_fresh = wanted is not None
        async for left in tries(timeout, repr(id_)):
            if not is_fresh:
                found = await self._reader.find(id_)
            is_fresh = False
            if wanted is None or entry is None:
                there = found is not None and isinstance(found.what, Schedule)
                if found is None or not there or await self._writes.remove(bucket, found, left):
                    return
                continue
            now = _step(wanted, found).applied
            if now.action in ("leave", "past"):
                return
            _check_past([now], past)
            new = entry
            if found is not None and isinstance(found.what, Schedule):
                new = _in_place(entry, wanted, found, now.keys)
                if wanted.protect is None and found.what.protected:
                    new = new._replace(protected=True)
            if await self._writes.put_for(bucket, new, wanted.payload, found, left):
                return

    @asynccontextmanager
    async def _locked(self, bucket: Bucket, timeout: float) -> AsyncIterator[_Lock]:
        lock = _Lock(self._reader, self._writes, bucket)
        await lock.take(timeout + LEASE)
        try:
            yield lock
        finally:
            await lock.release()


class _Lock:
    """The lock in the bucket that names the client that applies."""

    def __init__(self, reader: Reader, writes: BucketWrites, bucket: Bucket) -> None:
        self._reader = reader
        self._writes = writes
        self._bucket = bucket
        self._token = secrets.token_hex(8).encode()
        self._revision = 0
        self._renewed = 0.0

    async def take(self, timeout: float) -> None:
        """Wait for the lock.

        Raises:
            RequestError: `busy`, if other clients apply all the time.
        """
        deadline = steady() + timeout
        seen, since = -1, steady()
        while steady() < deadline:
            revision, holder = await self._look()
            if revision != seen:
                seen, since = revision, steady()
            is_free = holder in (b"", self._token) or steady() - since > LEASE
            if is_free and await self._write(revision, self._token):
                return
            await asyncio.sleep(LOOK)
        raise RequestError(
            Refusal.BUSY, "other runs keep applying schedules, nothing was changed: try again"
        )

    async def renew(self) -> None:
        """Renew the lock if necessary.

        Raises:
            RequestError: `superseded`, if another client has it.
        """
        if steady() - self._renewed > RENEWAL and not await self._write(
            self._revision, self._token
        ):
            raise RequestError(
                Refusal.SUPERSEDED,
                f"another apply took over, as this one took more than {LEASE:g} s: apply again",
            )

    async def release(self) -> None:
        """Release the lock."""
        try:
            await self._write(self._revision, b"")
        except NoServerError:
            return  # without renewals, the lock becomes free

    async def _look(self) -> tuple[int, bytes]:
        """Return the revision of the lock and its holder."""
        subject = f"$KV.{self._reader.name}.{APPLY_KEY}"
        message = await self._reader.js.last_message(stream_of(self._reader.name), subject)
        if message is None:
            return 0, b""
        return message.sequence, dict(fields(message.headers)).get(HOLDER, b"")

    async def _write(self, revision: int, holder: bytes) -> bool:
        lines = b"KV-Operation: DEL\r\n"
        if holder:
            lines += b"Gozo-Holder: %b\r\n" % holder
        if self._bucket.marker_ttl:
            lines += b"Nats-TTL: %ds\r\n" % LOCK_SECONDS
        sent = steady()
        written = await self._writes.write(
            self._bucket, APPLY_KEY, block(lines, revision), b"", ANSWER
        )
        if written:
            self._renewed = sent
            self._revision = written
        return bool(written)


def _step(wanted: Wanted, found: Found | None) -> _Step:
    """Decide on the action for one id.

    Raises:
        ExistsError: it belongs to another set.
    """
    schedule = None if found is None else found.what
    if not isinstance(schedule, Schedule):
        past = is_past(wanted.when, wall_us())
        return _Step(Applied(wanted.id, "past" if past else "create"), found, wanted)
    if schedule.managed_by not in ("", wanted.managed_by):
        raise ExistsError(
            f"the schedule {wanted.id!r} belongs to the set {schedule.managed_by!r}, not to "
            f"{wanted.managed_by!r}: name its own set, or cancel it first"
        )
    keys = changed(wanted, schedule)
    if keys in ((), (SET,)):
        return _Step(Applied(wanted.id, "adopt" if keys else "leave", keys), found, wanted)
    applied = Applied(wanted.id, "change", keys, _is_sent_at_once(wanted, schedule, keys))
    return _Step(applied, found, wanted)


def _is_sent_at_once(wanted: Wanted, schedule: Schedule, keys: Collection[str]) -> bool:
    """Return whether a change causes a schedule with a moment in the past to be sent."""
    is_due_anew = bool({*TIMES, "paused"} & set(keys))
    rests = is_paused(schedule) if wanted.paused is None else wanted.paused
    return is_due_anew and not rests and is_past(wanted.when, wall_us())


def _check_past(steps: Iterable[Applied], past: Past) -> None:
    """Make sure that nothing is sent at once, unless `past` allows it.

    Raises:
        RequestError: `invalid_when`.
    """
    ids = [one.id for one in steps if one.at_once]
    if ids and past != "send":
        raise RequestError(Refusal.INVALID_WHEN, past_words(ids))


def past_words(ids: Sequence[str]) -> str:
    """Return the message about schedules that would be sent at once."""
    more = f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
    return (
        f"{', '.join(map(repr, ids[:MOST_NAMED]))}{more} would be sent at once, since the time has "
        "passed: give a later time, or allow it (--past-ok, past='send')"
    )


def _in_place(entry: Entry, wanted: Wanted, found: Found, keys: Collection[str]) -> Entry:
    """Return an entry that replaces another and keeps everything that is not changed.

    It keeps its due time unless its times change, and stays paused unless `paused` is given.
    """
    message = found.message
    try:
        old, _ = entry_of(found.key, message.headers, message.payload, message.stored_us)
    except RequestError:
        return entry  # replaces an unreadable entry
    if set(keys) == {SET}:
        return old._replace(managed_by=entry.managed_by)
    if entry.confirmation is not None:
        entry = entry._replace(record=old.record)
    if old.state is State.PAUSED and wanted.paused is None:
        entry = paused(entry, old.reason)
    if set(keys) & set(TIMES):
        return not_awaiting(entry)
    entry = entry._replace(when=old.when, spec=old.spec, created_us=old.created_us)
    entry = entry._replace(origin=old.origin)
    return due_at(entry, old.due_us)


def _portions(items: Sequence[T]) -> list[Sequence[T]]:
    return [items[start : start + AT_ONCE] for start in range(0, len(items), AT_ONCE)]
