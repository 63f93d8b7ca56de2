"""The parts that serve one bucket, and their wiring."""

from __future__ import annotations

from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from gozo.daemon.basis import Basis, Connections, Process
from gozo.daemon.giving_way import GivingWay
from gozo.daemon.housekeeping import Housekeeping, Leisure, Repairs, SizeLimits
from gozo.daemon.leadership import CatchingUp, Fitness, Leadership
from gozo.daemon.prefetch import Prefetch
from gozo.daemon.shutdown import Drain
from gozo.daemon.skipping import Skipping
from gozo.daemon.step_down import StepDown
from gozo.delivery.answer_inbox import AnswerInbox
from gozo.delivery.dispatcher import Delivery
from gozo.delivery.in_memory import InMemory
from gozo.leadership.feed_messages import feed_subject
from gozo.leadership.handled_feed import FeedWriter
from gozo.leadership.lease import Lease
from gozo.leadership.lease_record import LeaseRecord
from gozo.leadership.lookout import Lookout
from gozo.leadership.rivals import tag_of
from gozo.leadership.tenure import Role, Tenure
from gozo.monitoring.health import BucketHealth
from gozo.protocol.heard import HeardCount
from gozo.requests.build import build_intake
from gozo.requests.intake import Intake
from gozo.requests.inventory import Inventory
from gozo.requests.quotas import Quotas
from gozo.runtime.clock_watch import ClockKeeper
from gozo.runtime.memory import Memory
from gozo.runtime.pace import Pace
from gozo.schedule.timetable import Timetable
from gozo.settings.model import ServeSettings
from gozo.store.barrier import Barrier
from gozo.store.bucket import Bucket
from gozo.store.delivery_hooks import DeliveryHooks
from gozo.store.follower import Follower
from gozo.store.forgetter import Forgetter
from gozo.store.index import BucketIndex
from gozo.store.legacy_entries import LegacyEntries
from gozo.store.marker_cleaner import Cleaner
from gozo.store.marker_life import USUAL_LIFE, MarkerLife
from gozo.store.message_cache import MessageCache
from gozo.store.outcome_writer import OutcomeWriter, outcome_writer
from gozo.store.probe import Probe
from gozo.store.schedule_store import ScheduleStore
from gozo.store.successes import Successes
from gozo.store.writer import ANSWER_TIME, Writer
from gozo.telemetry.events import Bystander


@dataclass(frozen=True, slots=True)
class Storage:
    """The parts that read and write the bucket."""

    timetable: Timetable
    hooks: DeliveryHooks
    """The calls from the store to the delivery."""
    index: BucketIndex
    writer: Writer
    barrier: Barrier
    probe: Probe
    cache: MessageCache
    store: ScheduleStore
    outcomes: OutcomeWriter
    follower: Follower
    legacy_entries: LegacyEntries
    cleaner: Cleaner
    forgetter: Forgetter
    bystander: Bystander


@dataclass(frozen=True, slots=True)
class Traffic:
    """The parts that take requests and deliver messages."""

    in_memory: InMemory
    delivery: Delivery
    intake: Intake
    inventory: Inventory
    lookout: Lookout
    limits: SizeLimits


@dataclass(frozen=True, slots=True)
class Leading:
    """The parts that take, keep and leave the lead."""

    tenure: Tenure
    lease: Lease
    leadership: Leadership
    catching_up: CatchingUp
    step_down: StepDown
    prefetch: Prefetch
    skipping: Skipping
    drain: Drain
    giving_way: GivingWay


@dataclass(frozen=True, slots=True)
class Components:
    """Everything that serves one bucket."""

    storage: Storage
    traffic: Traffic
    leading: Leading
    clock_keeper: ClockKeeper
    housekeeping: Housekeeping
    health: BucketHealth

    def reading(self) -> Iterator[tuple[str, Coroutine[Any, Any, Any]]]:
        """Return the tasks that read the bucket and receive requests, with their names."""
        storage, traffic, leading = self.storage, self.traffic, self.leading
        yield "writer", storage.writer.sweep()
        yield "probe", storage.probe.run()
        yield "follower", storage.follower.run()
        yield "clock", self.clock_keeper.run()
        yield "intake", traffic.intake.run()
        yield "inventory", traffic.inventory.run()
        yield "prefetch", leading.prefetch.run()
        yield "housekeeping", self.housekeeping.run()
        yield "legacy entries", storage.legacy_entries.run()
        yield "forgetter", storage.forgetter.run()
        if storage.outcomes.enabled:
            yield "outcomes", storage.outcomes.sweep()
            yield "outcome streams", storage.outcomes.keep()
        yield "cleaner", storage.cleaner.run(lambda: leading.tenure.is_active)

    def standing_by(self) -> Iterator[tuple[str, Coroutine[Any, Any, Any]]]:
        """Return the tasks that start once the bucket is read, when this replica may lead."""
        yield "lease", self.leading.lease.run()
        yield "lookout", self.traffic.lookout.run()

    def cannot_write(self) -> bool:
        """Tell whether the bucket cannot be written, or no replica can write the lease."""
        tenure = self.leading.tenure
        leaderless = not tenure.is_valid and not tenure.another_leads
        return leaderless or bool(self.storage.probe.problem)

    def push_shutdown(self, stack: AsyncExitStack) -> None:
        """Have the stack hand over schedules in memory, release the lease and close."""
        leading = self.leading
        # The last callback pushed is called first.
        stack.push_async_callback(leading.step_down.end)
        stack.callback(self.traffic.delivery.close)
        stack.push_async_callback(leading.lease.release)
        stack.push_async_callback(leading.leadership.end_taking)
        stack.push_async_callback(leading.drain.run)
        stack.push_async_callback(leading.giving_way.close)
        stack.callback(self.traffic.inventory.close)
        stack.callback(leading.lease.retire)
        stack.callback(leading.leadership.retire)


def build(
    connections: Connections,
    bucket: Bucket,
    lease_bucket: Bucket,
    settings: ServeSettings,
    process: Process,
    life: MarkerLife = USUAL_LIFE,
) -> Components:
    """Create the parts of one bucket; nothing runs until their tasks are started.

    `life` is the rule for the life of its delete markers.
    """
    basis = Basis.make(connections, settings, process.stats)
    storage = build_storage(basis, bucket, life)
    traffic = build_traffic(basis, storage)
    health = BucketHealth(
        index=storage.index,
        in_memory=traffic.in_memory,
        store=storage.store,
        writer=storage.writer,
        probe=storage.probe,
        follower=storage.follower,
        tenure=basis.tenure,
        intake=traffic.intake,
        lookout=traffic.lookout,
    )
    record = LeaseRecord(connections.js, lease_bucket, settings.replicas)
    leading = _build_leading(basis, process, storage, traffic, health, record)
    return Components(
        storage=storage,
        traffic=traffic,
        leading=leading,
        clock_keeper=_build_clock_keeper(basis, storage, leading),
        housekeeping=_build_housekeeping(basis, process, storage, traffic, leading, health),
        health=health,
    )


def build_storage(basis: Basis, bucket: Bucket, life: MarkerLife = USUAL_LIFE) -> Storage:
    """Create the parts that read and write the bucket."""
    connection, policy = basis.connections.main, basis.settings.policy
    clock, tenure = basis.clock, basis.tenure
    timetable, hooks = Timetable(), DeliveryHooks()
    bystander = Bystander(basis.events, leads=lambda: tenure.is_active)
    index = BucketIndex(
        timetable,
        policy,
        connection,
        hooks,
        bystander,
        clock.server_us,
        marker_ttl=bucket.marker_ttl,
        max_message=bucket.max_message,
        life=life,
        successes=Successes(basis.settings.metrics_ids),
    )
    connection.on_larger.append(index.reconsider)
    writer = Writer(connection, bucket, min(ANSWER_TIME, index.lateness.in_time))
    barrier = Barrier(writer, bucket)
    follower = Follower(connection, bucket, index, basis.settings.replicas, clock)
    cache = MessageCache(connection, bucket, policy, index, hooks, on_gone=follower.doubt)
    return Storage(
        timetable=timetable,
        hooks=hooks,
        index=index,
        writer=writer,
        barrier=barrier,
        probe=Probe(connection, bucket, writer, barrier),
        cache=cache,
        store=ScheduleStore(bucket, index, writer, cache, basis.events, hooks),
        outcomes=outcome_writer(connection, basis.settings),
        follower=follower,
        legacy_entries=LegacyEntries(bucket, index),
        cleaner=Cleaner(bucket, timetable, clock.server_us),
        forgetter=Forgetter(timetable, clock.server_us),
        bystander=bystander,
    )


def build_traffic(basis: Basis, storage: Storage) -> Traffic:
    """Create the parts that take requests and deliver messages."""
    connections, settings = basis.connections, basis.settings
    chosen, policy = settings.connection, settings.policy
    clock, tenure = basis.clock, basis.tenure
    feed = partial(connections.requests.publish, feed_subject(chosen.request_subject))
    feed_writer = FeedWriter(feed, HeardCount(), tag_of(tenure.id))
    in_memory = InMemory(feed_writer.handled)
    lookout = Lookout(connections.main, tenure, basis.rivals, chosen.request_subject)
    limits = SizeLimits(connections.main, connections.requests, storage.index)
    answers = AnswerInbox(connections.main, chosen.request_subject)
    delivery = Delivery(
        *(connections.main, storage.timetable, in_memory, storage.cache, storage.store),
        *(storage.index, storage.outcomes, storage.hooks, basis.stats, basis.events),
        clock=clock,
        may_deliver=lambda: tenure.is_valid and not clock.in_doubt,
        pace=Pace(settings.max_deliver_rate),
        inbox=answers,
        policy=policy,
        renewed_at=lambda: tenure.renewed_at,
    )
    intake = build_intake(
        connection=connections.requests,
        policy=policy,
        quotas=Quotas(
            *(settings.max_pending, settings.max_payload, settings.max_delay_us),
            *(settings.max_rate, settings.min_interval_us),
        ),
        max_backlog=settings.max_backlog,
        store=storage.store,
        in_memory=in_memory,
        feed_writer=feed_writer,
        lookout=lookout,
        clock=clock,
        stats=basis.stats,
        events=basis.events,
        may_act=lambda: tenure.is_valid,
        wake_delivery=delivery.wake_soon,
        begin_run=delivery.begin_run,
        on_too_large=limits.doubt,
        answers=answers,
    )
    inventory = Inventory(
        connections.requests, policy, chosen.bucket, storage.index, storage.follower
    )
    return Traffic(in_memory, delivery, intake, inventory, lookout, limits)


def _build_leading(
    basis: Basis,
    process: Process,
    storage: Storage,
    traffic: Traffic,
    health: BucketHealth,
    record: LeaseRecord,
) -> Leading:
    """Create the parts that take, keep and leave the lead."""
    main, requests = basis.connections.main, basis.connections.requests
    tenure, clock, store = basis.tenure, basis.clock, storage.store
    in_memory, intake, delivery = traffic.in_memory, traffic.intake, traffic.delivery
    catching_up = CatchingUp(tenure, storage.barrier, storage.follower, store.fence)
    step_down = StepDown(main, tenure, intake, in_memory, store, delivery)
    prefetch = Prefetch(tenure, clock, storage.timetable, storage.cache)
    skipping = _build_skipping(basis, storage, delivery)
    leadership = Leadership(
        tenure,
        clock,
        Fitness(tenure, clock, storage.index, storage.follower, basis.course),
        catching_up,
        step_down,
        skipping,
        prefetch,
        delivery,
        intake,
        traffic.inventory,
        traffic.lookout,
        health,
        basis.events,
        process.fail,
    )
    lease = Lease(main, tenure, record, basis.settings.policy, basis.rivals, leadership)
    writer, probe = storage.writer, storage.probe
    drain = Drain(
        *(main, requests, tenure, store, writer, probe, in_memory, intake, delivery),
        *(step_down, leadership, process.is_cut_off),
    )
    giving_way = GivingWay(process.health, basis.course, process.service, tenure, lease, drain)
    return Leading(
        tenure=tenure,
        lease=lease,
        leadership=leadership,
        catching_up=catching_up,
        step_down=step_down,
        prefetch=prefetch,
        skipping=skipping,
        drain=drain,
        giving_way=giving_way,
    )


def _build_skipping(basis: Basis, storage: Storage, delivery: Delivery) -> Skipping:
    return Skipping(
        storage.index,
        storage.store,
        storage.legacy_entries,
        delivery.recorder,
        basis.stats,
        basis.events,
        basis.settings.skip_due_before_us,
    )


def _build_clock_keeper(basis: Basis, storage: Storage, leading: Leading) -> ClockKeeper:
    return ClockKeeper(
        basis.clock,
        basis.clock_doubted,
        compare=storage.follower.compare_clock,
        leads=lambda: basis.tenure.role is Role.LEADER,
        leave=leading.giving_way.leave,
    )


def _build_housekeeping(
    basis: Basis,
    process: Process,
    storage: Storage,
    traffic: Traffic,
    leading: Leading,
    health: BucketHealth,
) -> Housekeeping:
    """Create the part that does periodic work."""
    leisure = Leisure(
        basis.connections.main,
        basis.connections.requests,
        basis.tenure,
        basis.clock,
        storage.store,
        health,
        process.stats,
        process.garbage,
        Memory((basis.connections, storage, traffic, leading)),
    )
    return Housekeeping(
        basis.tenure,
        basis.clock,
        leading.giving_way,
        leading.catching_up,
        leading.step_down,
        traffic.in_memory,
        traffic.intake,
        traffic.delivery,
        storage.index,
        storage.bystander,
        Repairs(storage.index, storage.store, basis.clock),
        traffic.limits,
        leisure,
    )
