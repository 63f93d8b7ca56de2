"""The parts between a daemon and its bucket, for tests that need no daemon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gozo.protocol.subject_policy import UNLIMITED, Policy
from gozo.runtime.clock import wall_us
from gozo.runtime.clock_watch import ClockWatch
from gozo.runtime.tasks import end
from gozo.schedule.model import Entry, ScheduleRequest
from gozo.schedule.timetable import Timetable
from gozo.settings.resolve import ConnectionSettings
from gozo.store.bucket import Bucket, open_bucket
from gozo.store.changes import Result
from gozo.store.delivery_hooks import DeliveryHooks
from gozo.store.follower import Follower
from gozo.store.index import BucketIndex
from gozo.store.legacy_entries import LegacyEntries
from gozo.store.message_cache import MessageCache
from gozo.store.schedule_store import ScheduleStore
from gozo.store.writer import Writer
from gozo.telemetry.events import Bystander, NullEvents
from gozo.transport.connection import Connection
from gozo.transport.jetstream import JetStream
from tests.support.patience import until
from tests.support.proxy import Proxy
from tests.support.raw import request
from tests.support.server import NatsServer

FAR_US = 9_999_999_999_000_000


@dataclass
class Parts:
    """What stands between a daemon and its bucket."""

    connection: Connection
    bucket: Bucket
    timetable: Timetable
    index: BucketIndex
    follower: Follower
    writer: Writer
    store: ScheduleStore
    cache: MessageCache
    hooks: DeliveryHooks

    async def put(self, id_: str, due_us: int = FAR_US, payload: bytes = b"") -> Result:
        """Store a schedule, and return how that ended."""
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        schedule = ScheduleRequest(Entry(id_, "to", "1", due_us, 1), payload)
        self.store.put(schedule, lambda result, words: done.set_result(result))
        return await done

    async def cancel(self, id_: str) -> Result:
        """Cancel a schedule, and return how that ended."""
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.store.cancel(id_, lambda result, words: done.set_result(result))
        return await done

    async def look(self, id_: str) -> Result:
        """Read a schedule as one that is to be changed, change nothing, and return how it ended."""
        done: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.store.look(id_, lambda *_: None, lambda result, words: done.set_result(result))
        return await done

    async def call(self, verb: str, body: object = None) -> dict[str, object]:
        """Call the JetStream API."""
        return await self.bucket.js.call(verb, body)  # type: ignore[arg-type]  # JSON

    async def knows(self, *ids: str) -> None:
        """Wait until exactly these are known."""
        await until(lambda: sorted(self.timetable.keys()) == sorted(ids), f"{ids} are known")


def no_delivery(wake: Callable[[], None] = lambda: None) -> DeliveryHooks:
    """Stand for a delivery that never takes anything."""
    hooks = DeliveryHooks()
    hooks.attach(wake=wake, withdraw=lambda key: None, awaits_ack=lambda key, revision: False)
    return hooks


def some_observer() -> Bystander:
    """Make an observer that publishes nothing."""
    return Bystander(NullEvents(), leads=lambda: True)


def some_index() -> BucketIndex:
    """Make an index of a bucket that has no limits, without a server."""
    return BucketIndex(
        Timetable(),
        Policy("gozo"),
        Unlimited(),
        no_delivery(),
        some_observer(),
        wall_us,
        marker_ttl=True,
    )


class Unlimited:
    """Stands for a server that takes messages of any size."""

    max_payload = UNLIMITED


def some_clock() -> ClockWatch:
    """Make a watch over a clock that nobody sets."""
    return ClockWatch(lambda: None, lambda by_us: None)


@asynccontextmanager
async def parts(server: NatsServer | Proxy) -> AsyncIterator[Parts]:
    """Connect, directly or through a proxy, and follow the bucket `gozo`."""
    connection = Connection(ConnectionSettings(addresses=(server.url,)), "test")
    await connection.open(5)
    bucket = await open_bucket(JetStream(connection), "gozo", replicas=None)
    timetable = Timetable()
    clock = some_clock()
    hooks = no_delivery()
    index = BucketIndex(
        timetable,
        Policy("gozo"),
        connection,
        hooks,
        some_observer(),
        clock.server_us,
        marker_ttl=bucket.marker_ttl,
    )
    writer = Writer(connection, bucket)
    follower = Follower(connection, bucket, index, None, clock)
    cache = MessageCache(connection, bucket, Policy("gozo"), index, hooks, follower.doubt)
    store = ScheduleStore(bucket, index, writer, cache, NullEvents(), hooks)
    legacy_entries = LegacyEntries(bucket, index)
    work = (connection.keep(), writer.sweep(), follower.run(), legacy_entries.run())
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await follower.loaded.wait()
        yield Parts(connection, bucket, timetable, index, follower, writer, store, cache, hooks)
    finally:
        await end(*tasks)
        await connection.close()


def entry(key: str, **headers: str) -> bytes:
    """Return the bytes of a foreign client that writes an entry."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return request(
        b"$KV.gozo." + key.encode("utf-8", "surrogateescape"),
        headers=f"NATS/1.0\r\n{lines}\r\n".encode(),
        payload=b"p",
    )
