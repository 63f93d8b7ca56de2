"""Old delete markers are purged, at the pace of what is delivered, and nothing else is.

Where the server knows no time to live (before 2.11) a bucket of gozo's has none; elsewhere these
tests use one as other tools make it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gozo.errors import NoServerError
from gozo.runtime.clock import wall_us
from gozo.runtime.tasks import end
from gozo.store.changes import Result
from gozo.store.marker_cleaner import WINDOW, Cleaner
from tests.support.patience import allow, until
from tests.support.proxy import Mode, Proxy
from tests.support.raw import RawClient, request
from tests.support.server import NatsServer
from tests.support.store import Parts, parts

MARKER = b"NATS/1.0\r\nKV-Operation: DEL\r\nGozo-Reason: delivered\r\n\r\n"
AFTER_US = 601_000_000  # by now, every marker's time is over
RATE, SECONDS = 1_000, 4
PENDING = 20


@asynccontextmanager
async def plain_bucket() -> AsyncIterator[tuple[NatsServer, Proxy]]:
    """Start a server with a bucket in which markers stay, and a proxy before it."""
    config = b'{"name":"KV_gozo","subjects":["$KV.gozo.>"],"max_msgs_per_subject":1}'
    with NatsServer() as server, RawClient(server.url) as client:
        client.subscribe("answer")
        client.send(request(b"$JS.API.STREAM.CREATE.KV_gozo", reply=b"answer", payload=config))
        assert b'"error"' not in (await asyncio.to_thread(client.receive))[0].payload
        async with Proxy(server.port) as proxy:
            yield server, proxy


async def marked(one: Parts, ids: list[str]) -> None:
    """Store schedules and cancel them again."""
    assert set(await asyncio.gather(*map(one.put, ids))) <= {Result.STORED, Result.REPLACED}
    assert set(await asyncio.gather(*map(one.cancel, ids))) == {Result.CANCELLED}


async def test_bucket_does_not_grow_with_what_is_delivered() -> None:
    """A thousand deliveries a second leave no more behind than those of the last seconds.

    The link takes four milliseconds for each purge that waits for the one before.
    """
    async with plain_bucket() as (server, proxy), parts(proxy) as one:
        proxy.delay(0.002)
        for number in range(PENDING):
            await one.put(f"pending-{number}")
        cleaner = Cleaner(one.bucket, one.timetable, lambda: wall_us() + AFTER_US)
        cleaning = asyncio.create_task(cleaner.run(lambda: True))
        most = 0
        with RawClient(server.url) as others:
            began, sent = time.monotonic(), 0
            while sent < RATE * SECONDS:
                upto = min(int((time.monotonic() - began) * RATE), sent + RATE // 10)
                for number in range(sent, upto):
                    key = b"$KV.gozo.delivered-%d" % number
                    others.send(request(key) + request(key, headers=MARKER))
                sent = upto
                most = max(most, (await one.bucket.state()).keys)
                await asyncio.sleep(0.05)
        assert most < RATE * SECONDS / 2

        async def is_clean() -> bool:
            return (await one.bucket.state()).keys == PENDING

        await until(is_clean, "only what is pending is left", allow(5))
        await one.knows(*(f"pending-{number}" for number in range(PENDING)))
        await end(cleaning)


@pytest.mark.parametrize("purges_first", [True, False])
async def test_what_is_stored_beside_the_purges_stays(*, purges_first: bool) -> None:
    """New schedules under the keys of old markers survive, whatever overtakes what."""
    ids = [f"again-{number}" for number in range(WINDOW)]
    async with plain_bucket() as (server, _), parts(server) as one:
        cleaner = Cleaner(one.bucket, one.timetable, wall_us)
        for _ in range(3):
            await marked(one, ids)
            purging, storing = cleaner.purge(wall_us() + AFTER_US), [one.put(id_) for id_ in ids]
            # Each is sent before anything is answered, in this order.
            begun = [purging, *storing] if purges_first else [*storing, purging]
            results = await asyncio.gather(*begun)
            assert results.pop(0 if purges_first else -1) == WINDOW
            assert set(results) == {Result.STORED}
            assert (await one.bucket.state()).keys == len(ids)
            await one.knows(*ids)


async def test_what_was_not_answered_is_purged_again() -> None:
    """Purges that got lost are sent again, and until then no marker counts as gone."""
    async with plain_bucket() as (_, proxy), parts(proxy) as one:
        cleaner = Cleaner(one.bucket, one.timetable, wall_us)
        await marked(one, [f"gone-{number}" for number in range(WINDOW)])
        await one.put("kept")
        proxy.be(Mode.SWALLOW)
        with pytest.raises(NoServerError):
            await cleaner.purge(wall_us() + AFTER_US)
        assert len(one.timetable.tombstones) == WINDOW
        proxy.be(Mode.PASS)

        async def are_gone() -> bool:
            with contextlib.suppress(NoServerError):
                await cleaner.purge(wall_us() + AFTER_US)
                return (await one.bucket.state()).keys == 1
            return False

        await until(are_gone, "all markers are gone")
        assert len(one.timetable.tombstones) == 0
        await one.knows("kept")
