"""The parts between a daemon and its bucket, for tests that need no daemon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from gozo.daemon.basis import Basis, Connections
from gozo.daemon.components import Storage, build_storage
from gozo.protocol.subject_policy import UNLIMITED, Policy
from gozo.runtime.clock import wall_us
from gozo.runtime.tasks import end
from gozo.schedule.model import Entry, ScheduleRequest
from gozo.schedule.timetable import Timetable
from gozo.settings.model import ConnectionSettings, ServeSettings
from gozo.store.bucket import Bucket, open_bucket
from gozo.store.changes import Result
from gozo.store.delivery_hooks import DeliveryHooks
from gozo.store.follower import Follower
from gozo.store.index import BucketIndex
from gozo.store.message_cache import MessageCache
from gozo.store.schedule_store import ScheduleStore
from gozo.store.writer import Writer
from gozo.telemetry.events import Bystander, NullEvents
from gozo.telemetry.stats import Stats
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
    basis: Basis
    storage: Storage

    @property
    def timetable(self) -> Timetable:
        """What is due when."""
        return self.storage.timetable

    @property
    def index(self) -> BucketIndex:
        """What the bucket contains."""
        return self.storage.index

    @property
    def follower(self) -> Follower:
        """Reads the bucket."""
        return self.storage.follower

    @property
    def writer(self) -> Writer:
        """Writes to the bucket."""
        return self.storage.writer

    @property
    def store(self) -> ScheduleStore:
        """Changes schedules."""
        return self.storage.store

    @property
    def cache(self) -> MessageCache:
        """The messages that were read."""
        return self.storage.cache

    @property
    def hooks(self) -> DeliveryHooks:
        """What the store asks of the delivery: nothing, unless a test makes one."""
        return self.storage.hooks

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


def attach_nothing(hooks: DeliveryHooks) -> None:
    """Stand for a delivery that never takes anything."""
    hooks.attach(
        wake=lambda: None,
        withdraw=lambda key: None,
        awaits_ack=lambda key, revision: False,
        end_runs=lambda key, then: then(),
        abandon=lambda key: None,
    )


def no_delivery() -> DeliveryHooks:
    """Make the hooks of a delivery that never takes anything."""
    hooks = DeliveryHooks()
    attach_nothing(hooks)
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


@asynccontextmanager
async def parts(server: NatsServer | Proxy) -> AsyncIterator[Parts]:
    """Connect, directly or through a proxy, and follow the bucket `gozo`."""
    settings = ServeSettings(ConnectionSettings(addresses=(server.url,)))
    connection = Connection(settings.connection, "test")
    await connection.open(5)
    js = JetStream(connection)
    bucket = await open_bucket(js, "gozo", replicas=None)
    connections = Connections(main=connection, requests=connection, js=js)
    basis = Basis.make(connections, settings, Stats())
    storage = build_storage(basis, bucket)
    attach_nothing(storage.hooks)
    work = (
        connection.keep(),
        storage.writer.sweep(),
        storage.follower.run(),
        storage.legacy_entries.run(),
    )
    tasks = [asyncio.create_task(one) for one in work]
    try:
        await storage.follower.loaded.wait()
        yield Parts(connection, bucket, basis, storage)
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
