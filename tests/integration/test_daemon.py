"""The daemon in this process, where a moment has to be met that is over in milliseconds."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, fields, replace
from functools import partial

import pytest

from gozo.daemon.basis import Basis
from gozo.daemon.components import build_storage
from gozo.daemon.daemon import Daemon
from gozo.daemon.leadership import CatchingUp
from gozo.daemon.shutdown import Drain
from gozo.daemon.skipping import Skipping
from gozo.errors import GozoError
from gozo.leadership.tenure import Role
from gozo.requests.intake import Intake
from gozo.requests.quotas import Quotas
from gozo.schedule.model import MICROSECONDS
from gozo.settings.model import ConnectionSettings, ServeSettings
from gozo.store import marker_cleaner
from gozo.store.barrier import Barrier
from gozo.store.marker_cleaner import Cleaner
from gozo.store.marker_life import USUAL_LIFE, MarkerLife
from tests.support.client import Client
from tests.support.patience import until
from tests.support.server import NatsServer
from tests.support.store import parts

COUNT = 20


async def test_a_daemon_that_ends_while_it_takes_the_lead_stores_what_it_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The requests wait for the lead to be taken, and that goes on although the start is over."""
    began, goes_on = asyncio.Event(), asyncio.Event()
    written = Barrier.written

    async def slowly(barrier: Barrier) -> int:
        began.set()
        await goes_on.wait()
        return await written(barrier)

    monkeypatch.setattr(Barrier, "written", slowly)
    with NatsServer() as server:
        settings = ServeSettings(connection=ConnectionSettings(addresses=(server.url,)))
        daemon, stop = Daemon(settings), asyncio.Event()
        starting = asyncio.create_task(daemon.start(stop))
        await began.wait()
        async with await Client.connect(server.url) as client:
            for number in range(COUNT):
                await client.schedule("+3600", reply="to", id=f"n{number}")
            await client.confirm()
            intake = daemon.components[0].traffic.intake
            await until(lambda: intake.waiting == COUNT, "all are heard")
            stop.set()
            await starting
            ending = asyncio.create_task(daemon.shut_down())
            goes_on.set()
            await ending
            assert daemon.stats.accepted == COUNT
            assert await client.stored() == COUNT + 1  # and the barrier


@asynccontextmanager
async def running(
    server: NatsServer, settings: ServeSettings | None = None, life: MarkerLife = USUAL_LIFE
) -> AsyncIterator[Daemon]:
    """Run a daemon in this process until it has shut down."""
    if settings is None:
        settings = ServeSettings(connection=ConnectionSettings(addresses=(server.url,)))
    thresholds = gc.get_threshold()
    daemon = Daemon(settings, life=life)
    try:
        await daemon.start(asyncio.Event())
        yield daemon
    finally:
        await daemon.shut_down()
        gc.unfreeze()
        gc.set_threshold(*thresholds)


def parts_of(components: object) -> list[object]:
    """All parts, those of each group among them."""
    found: list[object] = []
    for field in fields(components):  # type: ignore[arg-type]  # a dataclass
        part = getattr(components, field.name)
        found += parts_of(part) if type(part).__module__.endswith(".components") else [part]
    return found


async def test_every_part_that_has_something_to_do_all_the_time_does_it() -> None:
    """Each part with a method `run` runs from the start to the shutdown, and not longer."""
    with NatsServer() as server:
        async with running(server) as daemon:
            [components] = daemon.components
            parts = [part for part in parts_of(components) if hasattr(part, "run")]
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            runs = {getattr(task.get_coro(), "__qualname__", "") for task in tasks}
            idle = {f"{type(part).__name__}.run" for part in parts} - runs
            assert idle == {f"{one.__name__}.run" for one in (CatchingUp, Drain, Skipping)}
            assert "Writer.sweep" in runs
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not left


async def test_a_leader_purges_markers_and_a_standby_forgets_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If both purged, each purge would be sent twice; if none did, the bucket would only grow."""
    turns: set[tuple[Cleaner, str]] = set()
    purge, forget = Cleaner.purge, Cleaner.forget

    async def purged(cleaner: Cleaner, before_us: int) -> int:
        turns.add((cleaner, "purges"))
        return await purge(cleaner, before_us)

    def forgotten(cleaner: Cleaner, before_us: int) -> None:
        turns.add((cleaner, "forgets"))
        forget(cleaner, before_us)

    monkeypatch.setattr(Cleaner, "purge", purged)
    monkeypatch.setattr(Cleaner, "forget", forgotten)
    monkeypatch.setattr(marker_cleaner, "INTERVAL", 0.01)
    with NatsServer() as server:
        async with running(server) as one, running(server) as other:
            [leader], [standby] = one.components, other.components
            await until(lambda: leader.leading.tenure.is_active, "the first leads")
            turns.clear()
            cleaners = {leader.storage.cleaner, standby.storage.cleaner}
            await until(lambda: {cleaner for cleaner, _ in turns} == cleaners, "each had a turn")
            assert turns == {
                (leader.storage.cleaner, "purges"),
                (standby.storage.cleaner, "forgets"),
            }


async def test_what_a_daemon_that_has_shut_down_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """It hands the lease over at once, takes it no more, and nothing of it listens or rings."""
    retired: list[bool] = []
    drain = Drain.run

    async def watched(self: Drain) -> None:
        retired.append(leading.lease._is_retired)  # or it could take the lease while it drains
        await drain(self)

    monkeypatch.setattr(Drain, "run", watched)
    with NatsServer() as server:
        async with running(server) as daemon:
            [components] = daemon.components
            leading, traffic = components.leading, components.traffic
            await until(lambda: leading.tenure.is_active, "it leads")
            assert traffic.inventory._listener is not None
        assert leading.tenure.role is Role.STANDBY
        assert retired == [True]
        assert leading.leadership._is_retired
        assert leading.giving_way._is_closed
        assert traffic.inventory._listener is None
        assert traffic.delivery._alarm._fd is None
        assert all(one.closed for one in (daemon.connections.main, daemon.connections.requests))
        async with await Client.connect(server.url) as client:
            stream = client.nats.jetstream()
            lease = await stream.get_last_msg("KV_gozo_lease", "$KV.gozo_lease.leader")
            assert (lease.headers or {}).get("KV-Operation") == "DEL"


async def test_events_are_published_with_either_option() -> None:
    """A history consists of events, so `--history` has them published without `--events`."""
    with NatsServer() as server:
        async with parts(server) as it:
            heard: list[bytes] = []
            it.connection.listen("gozo.event.>", lambda subject, *_: heard.append(subject))
            for name, options in (
                ("events", {"events": True}),
                ("history", {"history_us": MICROSECONDS}),
                ("neither", {}),
            ):
                settings = replace(it.basis.settings, **options)
                basis = Basis.make(it.basis.connections, settings, it.basis.stats)
                basis.events.cancelled(name)
            await it.put("answered after the events")
            assert heard == [b"gozo.event.cancelled.events", b"gozo.event.cancelled.history"]


async def test_a_raised_limit_is_noticed_by_the_index() -> None:
    """What was too large for the server is looked at again once that takes more."""
    with NatsServer() as server:
        async with running(server) as daemon:
            [components] = daemon.components
            assert components.storage.index.reconsider in daemon.connections.main.on_larger


async def test_a_daemon_that_loses_the_lead_as_it_shuts_down_ends_what_that_began(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither taking the lead, which a first cancellation may not end, nor handing it over goes on.

    A standby has nothing to finish, and so nothing else ends them.
    """
    began, forever = asyncio.Event(), asyncio.Event()

    async def stubborn(barrier: Barrier) -> int:
        began.set()
        with suppress(asyncio.CancelledError):
            await forever.wait()
        return int(await forever.wait())

    async def unanswered(intake: Intake, is_led: Callable[[], bool]) -> None:
        await forever.wait()

    monkeypatch.setattr(Barrier, "written", stubborn)
    monkeypatch.setattr(Intake, "hear_successor", unanswered)
    with NatsServer() as server:
        settings = ServeSettings(connection=ConnectionSettings(addresses=(server.url,)))
        daemon, stop = Daemon(settings), asyncio.Event()
        starting = asyncio.create_task(daemon.start(stop))
        await began.wait()
        stop.set()
        await starting
        leading = daemon.components[0].leading
        leading.lease._lose("it is another's")
        await asyncio.sleep(0)  # the task that hands over begins
        assert leading.step_down.is_running
        await daemon.shut_down()
        left = {one.get_name() for one in asyncio.all_tasks() if one is not asyncio.current_task()}
        assert not left


HEARD = {
    "main.on_connected": [
        *("Event.set", "Events._on_connected", "Lookout.look_soon", "Runs._begin_hearing"),
    ],
    "main.on_lost": ["Follower._on_lost", "Lease._on_disconnected", "Writer._on_lost"],
    "main.on_larger": ["BucketIndex.reconsider"],
    "main.on_denied": ["Daemon._on_denied", "Delivery._on_denied"],
    "main.denial_claims": ["Events._takes_denied"],
    "requests.on_connected": ["Intake._on_connected"],
    "requests.on_lost": ["Intake._on_lost"],
    "requests.on_granted": ["Intake._on_granted"],
    "requests.on_denied": ["Daemon._on_denied"],
    "clock.on_set": ["Delivery.__init__.<locals>.<lambda>", "Intake.clock_set"],
    "index.on_entry": ["ChangeWriter._on_entry"],
    "index.on_outdated": ["MessageCache.discard"],
    "index.on_cleared": ["MessageCache.clear"],
    "lateness.on_misdated": ["ScheduleStore._redate"],
    "lateness.awaited_by": ["ChangeWriter._is_awaited"],
}
"""What is called on each event that a part makes known; one that nobody hears is not here."""


async def test_every_part_hears_of_what_it_depends_on() -> None:
    """A subscription that a constructor forgets shows only in rare moments, such as an outage."""
    with NatsServer() as server:
        connection = ConnectionSettings(addresses=(server.url,))
        async with running(server, ServeSettings(connection=connection, events=True)) as daemon:
            [components] = daemon.components
            index = components.storage.index
            sources = {
                "main": daemon.connections.main,
                "requests": daemon.connections.requests,
                "clock": components.traffic.delivery._clock,
                "index": index,
                "lateness": index.lateness,
            }
            found = {
                f"{name}.{event}": sorted(
                    call.__qualname__ for call in calls if ".transport." not in call.__module__
                )
                for name, source in sources.items()
                for event, calls in vars(source).items()
                if event.startswith("on_") or event in ("denial_claims", "awaited_by")
            }
            assert {event: calls for event, calls in found.items() if calls} == HEARD
            wake = components.leading.lease._wake.set
            assert wake in daemon.connections.main.on_connected


async def test_a_daemon_ends_if_taking_the_lead_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says why, instead of holding the lease and doing nothing."""

    async def failing(barrier: Barrier) -> int:
        raise GozoError("no barrier")

    async def serve(daemon: Daemon) -> None:
        await daemon.start(asyncio.Event())
        await daemon.watch(asyncio.Event())

    monkeypatch.setattr(Barrier, "written", failing)
    with NatsServer() as server:
        settings = ServeSettings(connection=ConnectionSettings(addresses=(server.url,)))
        daemon = Daemon(settings)
        try:
            with pytest.raises(GozoError, match="no barrier"):
                await asyncio.wait_for(serve(daemon), 10)
        finally:
            await daemon.shut_down()


async def test_what_is_called_back_is_the_part_that_acts_on_it() -> None:
    """A callback to somewhere else has the right type all the same."""
    with NatsServer() as server:
        async with running(server) as daemon:
            [components] = daemon.components
            storage, traffic, leading = components.storage, components.traffic, components.leading
            delivery, intake = traffic.delivery, traffic.intake
            doubted = components.clock_keeper._doubted
            settling, in_flight = delivery._settling, delivery._in_flight
            writer = intake._feed_writer
            assert storage.cache._on_gone == storage.follower.doubt
            assert traffic.in_memory._report_handled == writer.handled
            assert intake._replies._on_too_large == traffic.limits.doubt
            assert intake._admin_verbs._wake_delivery == delivery.wake_soon
            assert components.clock_keeper._compare == storage.follower.compare_clock
            assert components.clock_keeper._leave == leading.giving_way.leave
            assert delivery._clock._on_doubt == doubted.set
            assert delivery._alarm._on_ring == delivery.wake
            assert delivery._stream._wakeup._run == delivery.wake
            assert leading.drain._is_cut_off == daemon._is_cut_off
            assert leading.leadership._fail == daemon._tasks.fail
            assert in_flight._on_confirmed == settling.delivered
            assert in_flight._on_clear == delivery.wake_soon
            assert in_flight._on_lost == delivery._on_lost
            assert in_flight._on_denied == delivery._on_refused
            assert delivery._stream._note_sent == delivery._note_sent
            assert storage.hooks.wake == delivery.wake_soon
            assert storage.hooks.withdraw == delivery._withdraw
            assert storage.hooks.awaits_ack == delivery._awaits_ack
            assert storage.hooks.end_runs == delivery._runs.end_runs
            assert storage.hooks.abandon == delivery._runs.abandon
            for feed in (writer._publish, intake._handover.inquiry._publish):
                assert isinstance(feed, partial)
                assert feed.func == daemon.connections.requests.publish
                assert feed.args == ("gozo.admin.told",)


async def test_who_may_do_what() -> None:
    """A standby acts on nothing and delivers nothing; nor does a leader that doubts its clock."""
    with NatsServer() as server:
        async with running(server) as daemon:
            [components] = daemon.components
            storage, traffic, leading = components.storage, components.traffic, components.leading
            delivery, intake = traffic.delivery, traffic.intake
            await until(lambda: leading.tenure.is_active, "it leads")
            asked = [
                storage.bystander._leads,
                components.clock_keeper._leads,
                intake._may_act,
                intake._loop._may_act,
                delivery._may_deliver,
            ]
            assert [ask() for ask in asked] == [True] * len(asked)
            delivery._clock.in_doubt = True
            assert not delivery._may_deliver()
            delivery._clock.in_doubt = False
            leading.lease._lose("it is another's")
            assert [ask() for ask in asked] == [False] * len(asked)


async def test_the_limits_reach_the_parts_that_apply_them() -> None:
    """Those with a default are forgotten without any error."""
    quotas = Quotas(1_000, 2_000, 3_000_000, 4.0, 5_000)
    life = MarkerLife(shortest=4)  # less than usual, and so is what depends on it
    with NatsServer() as server:
        settings = ServeSettings(
            connection=ConnectionSettings(addresses=(server.url,)),
            max_deliver_rate=6.0,
            **asdict(quotas),
        )
        async with running(server, settings, life) as daemon:
            [components] = daemon.components
            storage, traffic = components.storage, components.traffic
            assert traffic.intake._admission._quotas == quotas
            assert traffic.delivery._throttle._pace.most == 6.0
            assert storage.index.life == life
            assert storage.writer._answer_time == 2.0
        async with parts(server) as one:
            bucket = replace(one.bucket, max_message=1_000)
            assert build_storage(one.basis, bucket).index._max_message == 1_000
