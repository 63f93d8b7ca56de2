"""Reads the bucket: one schedule, all schedules, or the state of the bucket."""

from __future__ import annotations

import asyncio
import builtins
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from gozo.client.arguments import moment
from gozo.client.decoding import (
    check_state,
    key_prefix,
    keys_of,
    matcher,
    schedule_or_marker,
)
from gozo.client.failures import Failing, Failures
from gozo.client.keys import Keys
from gozo.client.loading import Load, Named, Raw
from gozo.client.models import BucketInfo, Counts, Schedule
from gozo.client.outcome_model import Outcome
from gozo.errors import JetStreamError, NoServerError
from gozo.protocol.subject_policy import Policy
from gozo.runtime.clock import wall_us
from gozo.schedule.model import Marker
from gozo.schedule.runs import progress
from gozo.store.bucket import Bucket, find_bucket, stream_of
from gozo.store.run_codec import RUN_PREFIX, run_key
from gozo.transport.connection import Connection
from gozo.transport.jetstream import STREAM_NOT_FOUND, JetStream, StoredMessage, parse_time

LOOKS = 5  # times that a lagging leader is asked again
LOOK_AGAIN = 0.02  # seconds between them
VALUES = 100  # values read concurrently


class Found(NamedTuple):
    """The schedule or delete marker under an id."""

    key: str
    message: StoredMessage
    what: Schedule | Marker


class Reader:
    """Reads one bucket; never creates it."""

    def __init__(
        self,
        connection: Connection,
        name: str,
        policy: Policy,
        rules: Callable[[], Awaitable[Policy]],
        keys: Keys,
    ) -> None:
        self.connection = connection
        self.js = JetStream(connection)
        self.name = name
        self._policy = policy
        self._rules = rules
        self._keys = keys

    async def bucket(self) -> Bucket | None:
        """Find the bucket; None if it does not exist.

        Raises:
            JetStreamError, NoServerError, NotAllowedError: as for `JetStream.call`.
        """
        try:
            return await find_bucket(self.js, self.name)
        except NoServerError:
            await self.js.explain_silence()
            raise

    async def info(self) -> BucketInfo | None:
        """Describe the bucket; None if it does not exist."""
        try:
            answer = await self.js.call(f"STREAM.INFO.{stream_of(self.name)}")
        except JetStreamError as error:
            if error.code == STREAM_NOT_FOUND:
                return None
            raise
        except NoServerError:
            await self.js.explain_silence()
            raise
        config: dict[str, Any] = answer["config"]
        return BucketInfo(
            name=self.name,
            keys=int(answer["state"]["messages"]),
            bytes=int(answer["state"]["bytes"]),
            replicas=int(config.get("num_replicas", 1)),
            storage=str(config.get("storage", "")),
            created=moment(parse_time(answer["created"])),
            settings=config,
        )

    async def find(self, id_: str) -> Found | None:
        """Read the schedule or marker under an id, from the stream's leader, if any.

        An entry of the original gozo may have a key other than the id's.
        """
        marker = None
        for number, key in enumerate(keys_of(id_)):
            found = await self.read(key)
            if found is None:
                continue
            if isinstance(found.what, Marker):
                marker = marker or (found if number == 0 else None)
            elif number == 0 or found.what.id == id_:
                return found
        return marker

    async def read(self, key: str) -> Found | None:
        """Read the schedule or marker under a key, from the stream's leader."""
        try:
            message = await self.js.last_message(stream_of(self.name), f"$KV.{self.name}.{key}")
        except JetStreamError as error:
            if error.code == STREAM_NOT_FOUND:
                return None
            raise
        except NoServerError:
            await self.js.explain_silence()
            raise
        if message is None:
            return None
        raw = Raw(key, message.sequence, message.stored_us, message.headers)
        what = self.understand(raw, message.payload)
        assert what is not None
        return Found(key, message, what)

    async def learn_rules(self) -> None:
        """Learn the leader's rules, which decide what is listed as invalid."""
        self._policy = await self._rules()

    async def get(self, id_: str) -> Schedule | None:
        """Read a schedule with its payload; None if it does not exist."""
        await self.learn_rules()
        found = await self.find(id_)
        return found.what if found and isinstance(found.what, Schedule) else None

    async def exists(self, id_: str) -> bool:
        """Tell whether there is a schedule with an id, or a run of it that is not settled."""
        found = await self.find(id_)
        if found is not None and isinstance(found.what, Schedule):
            return True
        runs = [one.what for one in await self.find_runs(id_) if isinstance(one.what, Schedule)]
        return any(run.state != "failed" for run in runs)

    async def last_outcome(self, id_: str) -> Outcome | None:
        """Return how the schedule with an id left the bucket; None if that is unknown."""
        found = await self.find(id_)
        if found is None or not isinstance(found.what, Marker):
            return None
        return Outcome(found.what.reason.value, moment(found.message.stored_us))

    def understand(self, raw: Raw, value: bytes | None = None) -> Schedule | Marker | None:
        """Decode a message of the bucket; without its `value`, None means that it is needed."""
        most = self.connection.max_payload
        return schedule_or_marker(self._policy, *raw, value, wall_us(), most)

    async def understand_fully(self, raw: Raw) -> Schedule | Marker | None:
        """Decode a message of the bucket, reading its value if needed; None if it is gone."""
        what = self.understand(raw)
        if what is None:
            message = await self.js.message(stream_of(self.name), raw.revision)
            if message is not None:
                what = self.understand(raw, message.payload)
        if isinstance(what, Schedule) and what.payload is not None:
            return what._replace(payload=None)
        return what

    async def find_runs(self, id_: str | None) -> builtins.list[Found]:
        """Read the runs of the schedule with an id, or all runs; the oldest first."""
        found: builtins.list[Found] = []
        keys = [f"{RUN_PREFIX}>"] if id_ is None else [run_key(key, "*") for key in keys_of(id_)]
        for key in keys:
            pattern = f"$KV.{self.name}.{key}"
            after = 0
            while (message := await self._next(pattern, after + 1)) is not None:
                after = message.sequence
                name = message.subject.removeprefix(f"$KV.{self.name}.")
                raw = Raw(name, message.sequence, message.stored_us, message.headers)
                what = self.understand(raw, message.payload)
                if isinstance(what, Schedule) and what.is_run and id_ in (None, what.id):
                    found.append(Found(name, message, what))
        return sorted(found, key=_due)

    async def progress(self, id_: str) -> str:
        """Return what the runs of the schedule with an id do; see `gozo.schedule.runs.progress`."""
        found = await self.find_runs(id_)
        return progress({one.what.state for one in found if isinstance(one.what, Schedule)})

    async def has_runs(self) -> bool:
        """Return whether the bucket may have runs, of any schedule."""
        return await self._next(f"$KV.{self.name}.{RUN_PREFIX}>", 1) is not None

    async def runs(self, id_: str | None) -> builtins.list[Schedule]:
        """Return the runs of one schedule, or of all, with payloads; the oldest first."""
        await self.learn_rules()
        found = await self.find_runs(id_)
        return [one.what for one in found if isinstance(one.what, Schedule)]

    async def _next(self, pattern: str, sequence: int) -> StoredMessage | None:
        try:
            return await self.js.next_message(stream_of(self.name), pattern, sequence)
        except JetStreamError as error:
            if error.code == STREAM_NOT_FOUND:
                return None
            raise

    async def list(
        self, subject: str | None, prefix: str = "", state: str | None = None
    ) -> AsyncIterator[Schedule]:
        """Iterate over what has a subject that matches, an id that begins so, and a state.

        Without payloads, in no order.

        Raises:
            RequestError: the subject or the state is invalid.
        """
        check_state(state)
        wanted = None if subject is None else matcher(subject)
        await self.learn_rules()
        bare: list[Raw] = []

        def is_wanted(what: Schedule) -> bool:
            if prefix and not (what.id or "").startswith(prefix):
                return False
            if state is not None and what.state != state:
                return False
            return wanted is None or wanted.match(what.subject) is not None

        async for raw in self._messages(key_prefix(prefix)):
            what = self.understand(raw)
            if what is None:
                bare.append(raw)
            elif isinstance(what, Schedule) and is_wanted(what):
                yield what
        for start in range(0, len(bare), VALUES):
            some = bare[start : start + VALUES]
            for what in await asyncio.gather(*(self.understand_fully(raw) for raw in some)):
                if isinstance(what, Schedule) and is_wanted(what):
                    yield what

    async def count(self) -> Counts:
        """Count the schedules by asking the leader, or else by reading all of them."""
        bucket = await self.bucket()
        if bucket is None:
            return Counts(0, 0, 0, 0, 0, None)
        state = await bucket.state()
        for _ in range(LOOKS):
            told = await self._keys.counts()
            if told is None or told[0] != state.created:
                break
            if told[1] >= state.last_sequence:
                return told[2]
            await asyncio.sleep(LOOK_AGAIN)  # the leader's follower lags a moment behind
        states: Counter[str] = Counter()
        runs: Counter[str] = Counter()
        next_due = None
        failures = Failures(datetime.now(UTC))
        async for one in self.list(None):
            failures.add(one)
            if one.is_run and one.confirm is not True and one.state != "invalid":
                runs[one.state] += 1
                continue
            states[one.state] += 1
            if one.state == "pending" and (next_due is None or one.due < next_due):
                next_due = one.due
        return Counts(
            schedules=states.total(),
            overdue=states["overdue"],
            paused=states["paused"],
            failed=states["failed"],
            invalid=states["invalid"],
            next_due=next_due,
            runs=dict(runs),
            failing=len(failures.found()),
        )

    async def failing(self) -> builtins.list[Failing]:
        """Return the schedules that fail, by reading all."""
        failures = Failures(datetime.now(UTC))
        async for one in self.list(None):
            failures.add(one)
        return failures.found()

    async def _messages(self, prefix: str) -> AsyncIterator[Raw]:
        """Iterate over the latest message of each key, once, as of now.

        May omit keys that do not begin with `prefix`.
        """
        bucket = await self.bucket()
        if bucket is None:
            return
        state = await bucket.state()
        seen: set[str] = set()
        named = Named(self.js, bucket, self._keys, state)
        async for raw in named.messages(prefix):
            seen.add(raw.key)
            yield raw
        load = Load(self.connection, bucket, state, seen=seen, after=named.after)
        try:
            await load.start()
            async for raw in load.messages():
                yield raw
        finally:
            load.stop()


def _due(run: Found) -> tuple[datetime, str]:
    assert isinstance(run.what, Schedule)
    return run.what.due, run.what.occurrence
