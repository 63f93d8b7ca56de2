"""When a standby takes the lease, against a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from gozo.errors import GozoError
from gozo.leadership import lease, tenure
from gozo.leadership.lease import Lease
from gozo.leadership.lease_record import LeaseRecord, open_lease
from gozo.leadership.rivals import Rivals
from gozo.leadership.tenure import Role, Tenure
from gozo.protocol.headers import block
from gozo.protocol.subject_policy import Policy
from gozo.runtime.clock import steady
from gozo.runtime.tasks import end
from gozo.settings.model import ConnectionSettings
from gozo.store.bucket import Bucket, open_bucket
from gozo.transport.connection import Connection
from gozo.transport.jetstream import JetStream, StoredMessage
from tests.support.patience import allow, until
from tests.support.proxy import Proxy
from tests.support.server import HOST, NatsServer, free_port

KEY = "$KV.gozo_lease.leader"
TAKEOVER = 1.0  # seconds, as it is in these tests
NEVER = 1_000.0  # seconds
FULL = 400_000  # bytes of memory that a server has
TAKES = 5


@asynccontextmanager
async def connected(
    server: NatsServer, name: str, prefix: str = "$JS.API"
) -> AsyncIterator[Connection]:
    """Connect, and keep the connection."""
    settings = ConnectionSettings(addresses=(server.url,), js_prefix=prefix)
    connection = Connection(settings, name)
    await connection.open(5)
    keeping = asyncio.create_task(connection.keep())
    try:
        yield connection
    finally:
        await end(keeping)
        await connection.close()


class Replica:
    """A replica that may always lead, and does nothing but that."""

    def __init__(self, connection: Connection, held: Bucket, *, defers: bool) -> None:
        self._defers = defers
        self.tenure = Tenure(connection, "some", "gozo")
        self.record = LeaseRecord(JetStream(connection), held, None)
        self.gained: list[Callable[[], None]] = []
        """What to do when it gains the lease."""
        self.losses = 0
        self.lease = Lease(
            connection, self.tenure, self.record, Policy("gozo"), Rivals(), candidate=self
        )

    def may_lead(self) -> bool:
        """It may."""
        return True

    def defers(self) -> bool:
        """Tell whether others should go first."""
        return self._defers

    def on_gained(self) -> None:
        """Do what is to be done."""
        for call in self.gained:
            call()

    def on_renewed(self) -> None:
        """Nothing waited for it."""

    def on_lost(self) -> None:
        """Count it."""
        self.losses += 1

    @property
    def leads(self) -> bool:
        """Whether it is the leader."""
        return self.tenure.role is Role.LEADER


@asynccontextmanager
async def standing_by(connection: Connection, *, defers: bool = False) -> AsyncIterator[Replica]:
    """Run the lease of a replica that stands by at first."""
    held = await open_lease(JetStream(connection), "gozo_lease", replicas=None)
    replica = Replica(connection, held, defers=defers)
    running = asyncio.create_task(replica.lease.run())
    try:
        yield replica
    finally:
        await end(running)


async def fill(connection: Connection) -> None:
    """Use up a server's memory, by a stream `fill`."""
    stream = {"name": "fill", "subjects": ["fill"], "storage": "memory"}
    await JetStream(connection).call("STREAM.CREATE.fill", stream)
    for size in (FULL // 10, FULL // 100, 100):
        while b"error" not in (await connection.request("fill", bytes(size))).payload:
            pass


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten what a standby waits for, and lengthen what it must not depend on."""
    monkeypatch.setattr(tenure, "TAKEOVER", TAKEOVER)
    monkeypatch.setattr(lease, "OVERDUE", TAKEOVER / 4)
    monkeypatch.setattr(lease, "READ_EVERY", NEVER)
    monkeypatch.setattr(lease, "ANSWER_TIME", NEVER)


@pytest.mark.usefixtures("hasty")
async def test_a_silent_holder_is_replaced_the_moment_its_lease_is_free() -> None:
    """Neither the next turn nor an answer is waited for; and a renewal counts when it is seen."""
    with NatsServer() as server:
        async with connected(server, "holder") as holder, connected(server, "other") as other:
            await open_bucket(JetStream(holder), "gozo_lease", replicas=None, memory=True)
            asked = asyncio.Event()
            holder.listen("gozo.admin.leader", lambda *_: asked.set())
            await holder.request(KEY, json.dumps({"cluster": holder.info["server_id"]}).encode())
            async with standing_by(other) as standby:
                await asyncio.wait_for(asked.wait(), 10)
                renewed = steady()
                await holder.request(KEY, b"anything")
                await until(lambda: standby.leads, "the standby leads")
                assert steady() >= renewed + TAKEOVER


async def test_a_refused_take_is_not_tried_at_once_again() -> None:
    """What a standby writes it hears itself, though the server refuses it for lack of memory."""
    with NatsServer(storage=f"max_mem: {FULL}") as server:
        async with connected(server, "filler") as filler, connected(server, "standby") as other:
            await open_bucket(JetStream(filler), "gozo_lease", replicas=None, memory=True)
            await filler.request(KEY, headers=block(b"KV-Operation: DEL\r\n", 0))  # released
            await fill(filler)
            times: list[float] = []
            filler.listen(KEY, lambda *_: times.append(steady()))
            async with standing_by(other):
                await until(lambda: len(times) >= TAKES, "the standby tries to lead")
            assert times[TAKES - 1] - times[0] > (TAKES - 1) * lease.SPACING / 2


async def test_a_holder_goes_on_while_nobody_can_write_the_lease(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The memory is full: the holder stays for longer than a lease lasts, and others wait."""
    monkeypatch.setattr(tenure, "VALID", 0.8 * TAKEOVER)
    monkeypatch.setattr(tenure, "TAKEOVER", TAKEOVER)
    monkeypatch.setattr(lease, "OVERDUE", TAKEOVER / 4)
    monkeypatch.setattr(lease, "RENEW_EVERY", TAKEOVER / 10)
    monkeypatch.setattr(lease, "READ_EVERY", TAKEOVER / 10)
    asked: list[float] = []
    with NatsServer(storage=f"max_mem: {FULL}") as server:
        async with (
            connected(server, "a") as one,
            connected(server, "b") as other,
            standing_by(one) as holder,
        ):
            await until(lambda: holder.leads, "one leads")
            async with standing_by(other) as standby:
                await standby.lease.decided.wait()
                await fill(one)
                full_at = steady()
                other.listen("gozo.admin.leader", lambda *_: asked.append(steady()))
                await until(
                    lambda: asked[-1:] > [full_at + 3 * TAKEOVER],
                    "the standby asks for longer than a lease lasts",
                )
                assert (holder.leads, standby.leads) == (True, False)
                assert holder.tenure.is_valid
                await JetStream(one).call("STREAM.DELETE.fill")
                revision = await _revision(one)
                await until(lambda: _has_moved(one, revision), "the lease is renewed again")
    assert not holder.losses


async def test_a_lease_that_was_given_up_once_is_taken_again_soon_after_a_restart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The lease is gone with the server's memory: whoever is left need not wait for its end."""
    with NatsServer() as server:
        async with connected(server, "first") as first, standing_by(first) as one:
            await until(lambda: one.leads, "the first leads")
            await one.lease.release()
        monkeypatch.setattr(tenure, "TAKEOVER", NEVER)
        async with connected(server, "second") as second, standing_by(second) as other:
            await until(lambda: other.leads, "the second leads")
            gained = asyncio.Event()
            other.gained.append(gained.set)
            server.kill()
            server.start()
            await asyncio.wait_for(gained.wait(), allow(20))


async def test_a_release_that_is_heard_before_it_is_stored_is_not_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A look may come too early, and find the lease as it was."""
    with NatsServer() as server:
        async with (
            connected(server, "holder") as first,
            connected(server, "other") as second,
            standing_by(first) as holder,
        ):
            await until(lambda: holder.leads, "one leads")
            async with standing_by(second) as standby:
                await standby.lease.decided.wait()
                read, before = standby.record.read, await standby.record.read()
                early = [before, before]

                async def too_early() -> StoredMessage | None:
                    return early.pop() if early else await read()

                monkeypatch.setattr(standby.record, "read", too_early)
                monkeypatch.setattr(tenure, "TAKEOVER", NEVER)
                for name in ("READ_EVERY", "OVERDUE"):
                    monkeypatch.setattr(lease, name, NEVER)
                await holder.lease.release()
                await until(lambda: standby.leads, "the other leads")


async def test_a_renewal_that_is_heard_is_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A standby cannot know how old a lease is: so it soon learns that the holder lives."""
    monkeypatch.setattr(tenure, "TAKEOVER", NEVER)
    for name in ("READ_EVERY", "OVERDUE"):
        monkeypatch.setattr(lease, name, NEVER)
    with NatsServer() as server:
        async with (
            connected(server, "holder") as first,
            connected(server, "other") as second,
            standing_by(first) as holder,
        ):
            await until(lambda: holder.leads, "one leads")
            async with standing_by(second) as standby:
                await until(standby.lease.decided.is_set, "the other knows that the first leads")


async def test_a_lease_is_given_to_who_serves_and_else_taken_back() -> None:
    """A holder that gives way leaves it to others for a while, and takes it where none does."""
    with NatsServer() as server:
        async with (
            connected(server, "a") as one,
            connected(server, "b") as other,
            standing_by(one, defers=True) as ailing,
        ):
            began = steady()
            await until(lambda: ailing.leads, "it leads where nobody else does")
            assert steady() >= began + lease.DEFERENCE
            async with standing_by(other) as standby:
                await standby.lease.decided.wait()
                given = steady()
                await ailing.lease.give_way("a reason")
                await until(lambda: standby.leads, "the other one leads")
                assert steady() < given + lease.DEFERENCE
                assert not ailing.tenure.is_valid
                await standby.lease.release()
            await until(lambda: ailing.leads, "it takes the lease back")


async def _revision(connection: Connection) -> int:
    message = await JetStream(connection).last_message("KV_gozo_lease", KEY)
    assert message is not None
    return message.sequence


async def _has_moved(connection: Connection, revision: int) -> bool:
    return await _revision(connection) > revision


async def test_a_holder_beyond_a_broken_leaf_link_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody answers for it, and still it has its connection, and delivers until its time ends."""
    monkeypatch.setattr(tenure, "VALID", 2.0)
    monkeypatch.setattr(tenure, "TAKEOVER", 2.5)
    port = free_port()
    listening = f'leafnodes {{ listen: "{HOST}:{port}", no_advertise: true }}'
    with NatsServer(storage="domain: hub", config=listening) as hub:
        async with Proxy(port) as link:
            remote = f'leafnodes {{ remotes: [{{ url: "nats-leaf://{HOST}:{link.port}" }}] }}'
            with NatsServer(jetstream=False, config=remote) as leaf:
                await _holder_is_waited_for(leaf, hub, link)


async def _holder_is_waited_for(leaf: NatsServer, hub: NatsServer, link: Proxy) -> None:
    prefix = "$JS.hub.API"
    async with connected(leaf, "a", prefix) as near, connected(hub, "b", prefix) as far:
        await until(lambda: _reaches(near), "the leaf node reaches the hub")
        async with standing_by(near) as holder:
            await until(lambda: holder.leads, "the replica at the leaf node leads")
            async with standing_by(far) as standby:
                await asyncio.wait_for(standby.lease.decided.wait(), 10)
                both: list[bool] = []
                standby.gained.append(lambda: both.append(holder.tenure.is_valid))
                link.refuse()
                await until(lambda: bool(both), "the replica at the hub takes over")
                assert both == [False]
                assert near.epoch == 1  # the holder has the connection it had


async def _reaches(connection: Connection) -> bool:
    try:
        await JetStream(connection).call("INFO")
    except GozoError:
        return False
    return True
