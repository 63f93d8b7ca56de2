"""The daemon: wires the parts together, watches over them, and shuts them down in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from gozo import embedded
from gozo.daemon.giving_way import GivingWay
from gozo.delivery.dispatcher import Delivery
from gozo.delivery.in_memory import InMemory, Taken
from gozo.errors import GozoError, NoServerError, RequestError, UnsuitableServerError
from gozo.leadership.feed_messages import feed_subject
from gozo.leadership.handled_feed import FeedWriter
from gozo.leadership.lease import Lease, Role, lease_of, open_lease
from gozo.leadership.lookout import Lookout, check_alone
from gozo.leadership.rivals import Rivals, tag_of
from gozo.leadership.serving import Course
from gozo.monitoring.health import Health, Parts
from gozo.monitoring.mappings import Mappings
from gozo.monitoring.micro_service import Service
from gozo.monitoring.systemd import Notifier
from gozo.protocol.heard import HeardCount
from gozo.protocol.inboxes import SHARED
from gozo.protocol.subject_policy import too_small
from gozo.requests.build import build_intake
from gozo.requests.inventory import Inventory
from gozo.requests.quotas import Quotas
from gozo.runtime import signals
from gozo.runtime.clock import steady
from gozo.runtime.clock_watch import CURE, WARN_US, WRONG_US, ClockKeeper, ClockWatch
from gozo.runtime.gc_control import GcControl
from gozo.runtime.logs import get_logger
from gozo.runtime.memory import Memory
from gozo.runtime.pace import Pace
from gozo.runtime.tasks import end, persist
from gozo.schedule.cron import read_zone
from gozo.schedule.expression import print_rfc3339
from gozo.schedule.model import LONGEST_REASON, MICROSECONDS, Entry, Reason, State
from gozo.schedule.recurrence import not_before, reckoned_anew
from gozo.schedule.timetable import Item, Timetable
from gozo.settings.resolve import ServeSettings
from gozo.store.barrier import Barrier
from gozo.store.bucket import Bucket, open_bucket
from gozo.store.changes import Result
from gozo.store.delivery_hooks import DeliveryHooks
from gozo.store.entry_codec import reserved_key
from gozo.store.event_history import NAMES, open_history
from gozo.store.follower import Follower
from gozo.store.forgetter import Forgetter
from gozo.store.index import BucketIndex
from gozo.store.legacy_entries import LegacyEntries
from gozo.store.marker_cleaner import Cleaner
from gozo.store.marker_life import USUAL_LIFE, MarkerLife
from gozo.store.message_cache import MessageCache
from gozo.store.probe import Probe
from gozo.store.schedule_store import ScheduleStore
from gozo.store.writer import ANSWER_TIME, Writer
from gozo.telemetry.events import Bystander, Events, EventSink, NullEvents, id_of
from gozo.telemetry.stats import Stats
from gozo.transport.connection import Connection
from gozo.transport.failures import TurnedAwayError
from gozo.transport.jetstream import JetStream
from gozo.transport.link import SETTLED
from gozo.transport.permission_check import settle_inboxes
from gozo.transport.permissions import missing_permission

if TYPE_CHECKING:
    from gozo.monitoring.http_server import HttpServer

LOOK = 0.25  # seconds between looks for what comes near its due time
PREPARED = 30  # of them, before others get their turn
REQUESTS = 50  # heard before others get their turn: fewer than are acted on meanwhile
AHEAD_US = 5 * MICROSECONDS  # how long before it is due a message is fetched
DRAIN = 6.0  # seconds without progress after which a shutdown leaves things undone
DRAIN_IN_SILENCE = 0.05  # seconds, where the bucket has not answered any write for long
RETRY_WAIT = 0.25  # seconds
YIELD = 1.0  # seconds in which a replica that ends may find out what the next leader has
QUIET_US = MICROSECONDS
"""Nothing may be due for so long where the old garbage is looked at."""

T = TypeVar("T")

log = get_logger("gozo.daemon")


async def serve(settings: ServeSettings, life: MarkerLife = USUAL_LIFE) -> None:
    """Run a daemon until a signal asks it to end, and shut it down in order.

    `life` is the rule by which its delete markers live.

    Raises:
        GozoError: it could not start, could not go on, or left something undone.
    """
    stop = asyncio.Event()

    def on_signal(number: signal.Signals, again: bool) -> None:
        if again:
            log.warning("daemon.aborted", signal=number.name)
            os._exit(1)
        log.info("daemon.signal", signal=number.name)
        stop.set()

    with signals.taken(on_signal):
        server = await embedded.start(settings) if settings.embedded else None
        try:
            if server is not None:
                reachable = server.reached_with(settings.connection)
                settings = replace(settings, connection=reachable)
            daemon = Daemon(settings, server, life)
            try:
                await daemon.start(stop)
                await daemon.watch(stop)
            except GozoError as error:
                log.error("daemon.failed", reason=error)  # noqa: TRY400  # no traceback for users
                raise
            finally:
                await daemon.shut_down()
        finally:
            if server is not None:
                await server.stop()
    log.info("daemon.stopped", delivered=daemon.stats.delivered)


class Daemon:
    """One replica."""

    def __init__(
        self,
        settings: ServeSettings,
        server: embedded.EmbeddedServer | None = None,
        life: MarkerLife = USUAL_LIFE,
    ) -> None:
        chosen = settings.connection
        self._life = life
        self.stats = Stats()
        self._server = server
        self._settings = settings
        self._began = steady()
        self._main = Connection(chosen, settings.name, private=True)
        self._requests = Connection(chosen, f"{settings.name} requests", REQUESTS, private=True)
        self._js = JetStream(self._main)
        self._mappings = Mappings(self._js, chosen.bucket, lease_of(chosen.bucket))
        self._health = Health(
            settings.name,
            self.stats,
            self._main,
            self._requests,
            self._mappings,
            request_subject=chosen.request_subject,
        )
        self._course = Course()
        self._notifier = Notifier(os.environ)
        self._http_server: HttpServer | None = None
        self._policy = settings.policy
        self._tasks: list[asyncio.Task[Any]] = []
        self._leading: asyncio.Task[None] | None = None
        self._yielding: asyncio.Task[None] | None = None
        self._progress_at = 0.0
        self._seen = 0
        self._found = 0
        self._skips = settings.skip_due_before_us is not None
        self._refused = 0
        self._garbage = GcControl()
        self._taken = 0
        """Requests taken when it was last looked whether there is leisure."""
        self._ending = False
        self._fatal: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._parts = False

    # Starting

    async def start(self, stop: asyncio.Event) -> None:
        """Connect, load the bucket, and come to know who leads; or give that up when `stop` is set.

        Raises:
            GozoError: see `gozo.errors` for what can be missing.
        """
        if self._server is not None:
            self._begin("embedded server", _fail_with(self._server))
        if self._settings.metrics is not None:
            # Imported here: nobody else pays for it.
            from gozo.monitoring.http_server import HttpServer  # noqa: PLC0415

            self._http_server = HttpServer(self._health, self._settings.metrics)
            await self._http_server.open()
        if self._notifier.is_heard:
            self._begin("notifier", self._notifier.run(self._health))
        starting = asyncio.create_task(self._start(), name="start")
        stopped = asyncio.create_task(stop.wait(), name="signal")
        linked = asyncio.create_task(self._miss_links(), name="links")
        await self._first(starting, stopped, linked)
        for task in (starting, linked):
            if not task.cancelled():
                task.result()

    async def _start(self) -> None:
        settings, chosen = self._settings, self._settings.connection
        with contextlib.suppress(RequestError):
            read_zone("none/such")  # the first such name imports packages, for 20 ms: not later
        await self._connect()
        self._service = Service(
            self._main,
            self._policy,
            bucket=chosen.bucket,
            health=self._health,
        )
        self._service.listen()
        await self._persist(partial(check_alone, self._main, chosen.bucket, chosen.request_subject))
        bucket = await self._persist(
            partial(open_bucket, self._js, chosen.bucket, replicas=settings.replicas)
        )
        held = await self._persist(
            partial(open_lease, self._js, lease_of(chosen.bucket), replicas=settings.replicas)
        )
        if settings.history_us is not None:
            await self._persist(
                partial(
                    open_history,
                    self._js,
                    chosen.bucket,
                    chosen.request_subject,
                    age_us=settings.history_us,
                    replicas=settings.replicas,
                )
            )
        self._build(bucket, held)
        self._garbage.begin_loading()
        self._begin("writer", self._writer.sweep())
        self._begin("probe", self._probe.run())
        self._begin("mappings", self._mappings.run(self._cannot_write))
        self._begin("follower", self._follower.run())
        self._begin("clock", self._clock_keeper.run())
        self._begin("intake", self._intake.run())
        self._begin("inventory", self._inventory.run())
        self._begin("payloads", self._prepare())
        self._begin("housekeeping", self._keep_house())
        self._begin("legacy_entries", self._legacy_entries.run())
        self._begin("forgetter", Forgetter(self._timetable, self._clock.server_us).run())
        cleaner = Cleaner(bucket, self._timetable, self._clock.server_us)
        self._begin("cleaner", cleaner.run(lambda: self._health.is_active))
        await self._until(self._follower.loaded)
        self._found = self._follower.position
        self._garbage.end_loading(steady())
        self._begin("lease", self._lease.run())
        self._begin("lookout", self._lookout.run())
        await self._until(self._lease.decided)
        if self._leading is not None:
            # Not to be ended with this: requests wait for it.
            await self._first(asyncio.create_task(_over(self._leading), name="waiting"))
        await self._until(self._probe.tried)
        self._health.is_started = True
        log.info(
            "daemon.ready",
            role=self._lease.role,
            pending=self._health.pending,
            overdue=self._health.overdue,
            invalid=self._health.invalid,
            seconds=steady() - self._began,
            bucket=chosen.bucket,
            request_subject=chosen.request_subject,
        )

    async def _connect(self) -> None:
        """Make both connections, and see to it that they last."""
        timeout = self._settings.connect_timeout
        try:
            await self._main.open(timeout)
        except TurnedAwayError:
            raise
        except NoServerError as error:
            raise NoServerError(
                f"{error}: start a NATS server there, give --address, or run "
                "'gozo serve --embedded', which starts one"
            ) from error
        if reason := too_small(self._main.max_payload):
            raise UnsuitableServerError(reason)
        self._begin("connection", self._main.keep())
        await self._settle_inboxes()
        for connection in (self._main, self._requests):
            connection.on_denied.append(self._on_denied)
        await self._persist(partial(self._js.check_enabled, timeout))
        await self._persist(self._mappings.check)
        self._check_rules()
        await self._requests.open(timeout)
        self._begin("requests connection", self._requests.keep())

    async def _settle_inboxes(self) -> None:
        reason = await self._persist(partial(settle_inboxes, self._main))
        if reason:
            log.warning("connection.shared_inbox", reason=reason)
        self._requests.use_inboxes(self._main.inbox_prefix)

    async def _persist(self, step: Callable[[], Awaitable[T]]) -> T:
        """Do a step of the start, again where the link was lost or the servers elect a leader."""
        return await persist(step, self._settings.connect_timeout)

    async def _miss_links(self) -> NoReturn:
        """Look whether a link that was lost comes back, while the daemon starts.

        Raises:
            NoServerError: one has been away for as long as the start waits for a server.
        """
        timeout = self._settings.connect_timeout
        seen_at = dict.fromkeys((self._main, self._requests), steady())
        why = ""
        while True:
            await asyncio.sleep(LOOK)
            for connection in seen_at:
                why = connection.failure or why
                if connection.is_settled or not connection.epoch:
                    seen_at[connection] = steady()
                elif steady() > seen_at[connection] + timeout + SETTLED:
                    raise NoServerError(
                        f"the connection to NATS keeps dropping while the daemon starts: {why}"
                    )

    def _check_rules(self) -> None:
        """Say so if clients would ask for receipts in vain."""
        reason = self._policy.without_receipts(self._settings.connection.inbox_prefix or SHARED)
        if reason:
            log.warning("policy.no_receipts", reason=reason)

    def _build(self, bucket: Bucket, held: Bucket) -> None:
        settings, chosen = self._settings, self._settings.connection
        self._bucket = bucket
        doubted = asyncio.Event()
        self._clock = ClockWatch(doubted.set, self._on_clock_set)
        self._timetable = Timetable()
        hooks = DeliveryHooks()
        self._events: EventSink = NullEvents()
        if settings.events or settings.history_us is not None:
            self._events = Events(self._main, chosen.request_subject, settings.name)
        self._bystander = Bystander(self._events, leads=lambda: self._health.is_active)
        self._index = BucketIndex(
            self._timetable,
            self._policy,
            self._main,
            hooks,
            self._bystander,
            self._clock.server_us,
            marker_ttl=bucket.marker_ttl,
            max_message=bucket.max_message,
            life=self._life,
        )
        answer_time = min(ANSWER_TIME, self._index.lateness.in_time)
        self._writer = Writer(self._main, bucket, answer_time)
        self._barrier = Barrier(self._writer, bucket)
        self._probe = Probe(self._main, bucket, self._writer, self._barrier)
        self._follower = Follower(self._main, bucket, self._index, settings.replicas, self._clock)
        self._cache = MessageCache(
            self._main, bucket, self._policy, self._index, hooks, on_gone=self._follower.doubt
        )
        self._store = ScheduleStore(
            bucket, self._index, self._writer, self._cache, self._events, hooks
        )
        self._legacy_entries = LegacyEntries(bucket, self._index)
        rivals = Rivals()
        self._lease = Lease(
            self._main,
            chosen.bucket,
            self._policy,
            held=held,
            name=settings.name,
            replicas=settings.replicas,
            may_lead=self._may_lead,
            rivals=rivals,
            defers=lambda: self._course.is_ailing(steady()),
        )
        self._giving_way = GivingWay(
            self._health, self._course, self._service, self._lease, self._stop_leading
        )
        self._lookout = Lookout(self._main, self._lease, rivals, chosen.request_subject)
        feed = feed_subject(chosen.request_subject)
        feed_writer = FeedWriter(
            partial(self._requests.publish, feed), HeardCount(), tag_of(self._lease.id)
        )
        self._in_memory = InMemory(feed_writer.handled)
        self._delivery = Delivery(
            self._main,
            self._timetable,
            self._in_memory,
            self._cache,
            self._store,
            self._index,
            hooks,
            self.stats,
            self._events,
            self._clock,
            may_deliver=lambda: self._lease.is_valid and not self._clock.in_doubt,
            pace=Pace(settings.max_deliver_rate),
        )
        self._intake = build_intake(
            connection=self._requests,
            policy=self._policy,
            quotas=Quotas(
                settings.max_pending,
                settings.max_payload,
                settings.max_delay_us,
                settings.max_rate,
                settings.min_interval_us,
            ),
            max_backlog=settings.max_backlog,
            store=self._store,
            in_memory=self._in_memory,
            feed_writer=feed_writer,
            lookout=self._lookout,
            clock=self._clock,
            stats=self.stats,
            events=self._events,
            may_act=lambda: self._lease.is_valid,
            wake_delivery=self._delivery.wake_soon,
            on_too_large=self._doubt_limits,
        )
        self._inventory = Inventory(
            self._requests, self._policy, chosen.bucket, self._index, self._follower
        )
        self._main.on_larger.append(self._index.reconsider)
        self._clock_keeper = ClockKeeper(
            self._clock,
            doubted,
            compare=self._follower.compare_clock,
            leads=lambda: self._lease.role is Role.LEADER,
            leave=self._leave_lead,
        )
        self._lease.on_gained = self._on_gained
        self._lease.on_renewed = self._on_renewed
        self._lease.on_lost = self._on_lost
        self._health.parts = Parts(
            index=self._index,
            in_memory=self._in_memory,
            store=self._store,
            writer=self._writer,
            probe=self._probe,
            follower=self._follower,
            lease=self._lease,
            intake=self._intake,
            lookout=self._lookout,
        )
        self._memory = Memory(
            (
                *(self._timetable, self._index, self._index.traits, self._cache, self._writer),
                *(*self._store.containers, *self._delivery.parts),
                *(self._in_memory, self._main, self._requests),
            )
        )
        self._parts = True

    def _doubt_limits(self) -> None:
        """Have it looked at on both connections how large a message may be: one was too large."""
        for connection in (self._main, self._requests):
            connection.doubt_limits()

    def _look_at_limits(self) -> None:
        """See whether the server takes what it did not, and complain where that is too little."""
        if self._index.traits.too_large:
            self._main.doubt_limits()
        if reason := too_small(self._main.max_payload):
            log.repeated("error", "server.unsuitable", reason=reason)
            self._doubt_limits()

    def _cannot_write(self) -> bool:
        """Tell whether the bucket cannot be written, or nobody the lease."""
        leaderless = not self._lease.is_valid and not self._lease.another_leads
        return leaderless or bool(self._probe.problem)

    def _begin(self, name: str, work: Coroutine[Any, Any, Any]) -> None:
        self._tasks.append(asyncio.create_task(work, name=name))

    async def _until(self, event: asyncio.Event) -> None:
        """Wait for an event, or for a part of the daemon to fail."""
        await self._first(asyncio.create_task(event.wait(), name="waiting"))

    def _may_lead(self) -> bool:
        """Tell whether this replica could lead, and let it hear requests if so."""
        clock_serves = self._clock.may_lead(held=self._lease.another_holds)
        if self._clock.was_set:
            return False  # until it is compared, in a moment: requests are kept meanwhile
        self._health.can_lead = can_lead = clock_serves and self._can_lead()
        if can_lead:
            self._intake.stand_by()
        elif not (self._clock.waits or self._is_yielding):
            self._intake.leave()
        return can_lead

    def _can_lead(self) -> bool:
        if self._index.traits.newer:
            log.repeated("error", "bucket.newer_format", entries=len(self._index.traits.newer))
            return False
        return self._follower.loaded.is_set()

    def _look_at_clock(self) -> None:
        """Complain about a clock that differs from the server's."""
        self._clock.now_us()
        if self._clock.was_set:
            return
        ahead = self._clock.ahead_us
        if abs(ahead) > WARN_US:
            log.repeated("warning", "clock.differs", ahead_s=ahead / MICROSECONDS)
        if abs(ahead) > WRONG_US:
            log.repeated("error", "clock.wrong", ahead_s=ahead / MICROSECONDS, cure=CURE)

    def _on_clock_set(self, by_us: int) -> None:
        """The clock that is gone by was set."""
        log.info("clock.followed", by_s=by_us / MICROSECONDS)
        self._intake.clock_set(by_us)
        self._delivery.wake_soon()

    def _on_denied(self, kind: str, subject: str) -> None:
        """A right that gozo cannot do without ends the start; later it is only logged."""
        chosen = self._settings.connection
        stored = self._js.entrance(f"$KV.{chosen.bucket}")
        asked = chosen.request_subject
        # Who leads is told there, and asked: a crashed leader's lease is else waited out.
        leader = f"{asked}.admin.leader"
        needed = subject == leader or subject.startswith((f"{chosen.js_prefix}.", stored))
        own = (asked, feed_subject(asked))
        heard = kind == "subscription" and (
            subject in own or subject.startswith(f"{self._main.inbox_prefix}.")
        )
        if subject == f"{chosen.js_prefix}.{NAMES}":
            needed = False  # what goes wrong is only said in fewer words without it
        if not self._health.is_started and not self._fatal.done() and (needed or heard):
            self._fatal.set_exception(missing_permission(kind, subject))

    # Leading

    def _on_gained(self) -> None:
        self._intake.lead()
        self._lookout.look_soon()
        self._leading = asyncio.create_task(self._lead(), name="taking the lead")
        self._leading.add_done_callback(self._on_led)

    async def _lead(self) -> None:
        """Deliver and act on requests, once all is seen that earlier leaders did."""
        if self._yielding is not None:
            # This replica led before, and asks what the next leader has: that is this one again.
            await end(self._yielding)
        self._store.fence.take_down()
        while sequence := await self._barrier.written():
            if await self._follower.reached(sequence):
                await self._follower.agreed()
                break
        else:
            await self._follower.reloaded(f"cannot write the barrier: {self._barrier.problem}")
        await self._intake.catch_up()
        if self._lease.role is not Role.LEADER:
            return
        if self._skips:
            await self._leave_out(self._settings.skip_due_before_us or 0)
        self._health.is_active = True
        self._inventory.open()
        # The first of them; the others need not be waited for.
        self._cache.prepare(self._timetable.approach(self._clock.now_us() + AHEAD_US, PREPARED))
        await self._intake.act()
        if self._ending:
            return
        self._delivery.start()
        log.info("daemon.leading", pending=self._health.pending)
        self._events.leads()

    async def _leave_out(self, before_us: int) -> None:
        """Settle as missed what was in the bucket at the start and was due before a moment."""
        await self._legacy_entries.all_read()

        def on_result(item: Item, result: Result, words: str) -> None:
            if result in (Result.SETTLED, Result.STORED, Result.REPLACED):
                self.stats.missed += 1
                self._events.missed(id_of(item.key), item.due_us)

        def on_moved(item: Item, result: Result, words: str) -> None:
            if result is Result.REFUSED:
                # It has no later occurrence.
                self._store.settle(item, Reason.MISSED, partial(on_result, item))
            else:
                on_result(item, result, words)

        skipped = 0
        for item in self._timetable.due_before(before_us):
            if item.revision > self._found:
                continue
            while not self._store.has_room:
                await self._store.progress()
            due = print_rfc3339(item.due_us)
            log.debug("schedule.missed", key=item.key, revision=item.revision, due=due)
            if item.key in self._index.traits.recurring:
                later = partial(not_before, moment_us=before_us)
                self._store.rewrite(item, later, partial(on_moved, item))
            else:
                self._store.settle(item, Reason.MISSED, partial(on_result, item))
            skipped += 1
        self._skips = False
        log.warning("daemon.skipped", schedules=skipped, due_before=print_rfc3339(before_us))

    def _on_renewed(self) -> None:
        self._delivery.wake_soon()
        self._intake.wake()

    def _on_led(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() and not self._fatal.done():
            self._fatal.set_exception(task.exception() or RuntimeError())

    def _on_lost(self) -> None:
        """Another replica leads, or may: hand everything over."""
        self._clock.lease_lost()
        self._health.is_active = False
        self._inventory.close()
        if self._leading is not None:
            self._leading.cancel()
        self._delivery.stop()
        self._intake.lose()
        # What was seen while the lease was good: a later revision may be a new leader's.
        self._store.fence.put_up(self._seen)
        self._cache.clear()
        if self._yielding is not None:
            self._yielding.cancel()
        self._yielding = asyncio.create_task(self._yield(), name="yielding")

    async def _leave_lead(self, reason: str) -> None:
        """Hand over what is in memory, and give the lease up, to whoever can lead."""
        if self._ending:
            return
        await self._stop_leading()
        await self._lease.give_way(reason)

    async def _stop_leading(self) -> None:
        """Act on nothing more, and hand over what is in memory: the lease is about to be left."""
        await end(self._leading)
        self._health.is_active = False
        self._inventory.close()
        self._intake.keep()
        await self._hand_over_lead()

    async def _yield(self) -> None:
        """Store what this replica took on as the leader, and the next one has not."""
        await self._intake.hear_successor(self._is_led)
        self._intake.act_on_left()
        self._hand_over()
        await self._intake.left_begun()

    def _is_led(self) -> bool:
        """Whether another replica leads, as far as is known just now."""
        return self._main.connected and self._lease.another_leads

    def _hand_over(self) -> None:
        """Put schedules without an id into the bucket, for whoever leads next."""
        requests = self._intake.lacking(self._in_memory.take_all())
        if requests:
            log.info("daemon.handing_over", schedules=len(requests))
        for taken in requests:
            done = partial(self._on_handed_over, taken)
            self._store.put(taken.request, done, reserved_key())

    def _on_handed_over(self, taken: Taken, result: Result, words: str) -> None:
        self._in_memory.handed_over(taken)
        if result is Result.REFUSED:
            self._refused += 1
            entry, reason = taken.request.entry, words[:LONGEST_REASON]
            self._delivery.note_failure(entry._replace(state=State.FAILED, reason=reason))

    async def _hand_over_lead(self) -> None:
        """Leave nothing to do behind that another leader could not know of."""
        if self._main.connected and not self._probe.problem:
            await self._finish_delivering()
            self._hand_over()
            await self._patiently(lambda: self._store.outstanding)
            await self._tell()

    async def _finish_delivering(self) -> None:
        """Send nothing more, and wait for what is on its way."""
        self._progress_at = steady()
        await end(self._leading)
        self._delivery.stop()
        await self._patiently(lambda: int(not self._delivery.is_idle))

    async def _keep_house(self) -> None:
        """Do what is to be done all the time; hand over what a standby still holds."""
        while True:
            await asyncio.sleep(LOOK)
            self._look_at_clock()
            self._giving_way.look()
            self._delivery.look()
            if self._health.is_active:
                self._mend()
                self._bystander.tell_earlier(self._index.traits.invalid)
            if self._lease.is_valid and not self._store.fence.is_up:
                self._seen = max(self._follower.position, self._store.fence.forget_own())
            elif len(self._in_memory) and self._has_yielded:
                self._hand_over()
            self._intake.forget_old()
            self._look_at_limits()
            self._intake.answer_late()
            self._use_leisure()

    def _use_leisure(self) -> None:
        """Look at the old garbage where nothing is to be done before that is over.

        And give memory back: a standby may take its time for that.
        """
        before, self._taken = self._taken, self.stats.accepted
        next_us = self._health.next_due_us
        is_near = next_us is not None and next_us < self._clock.now_us() + QUIET_US
        leisure = self._taken == before and not self._store.outstanding and not is_near
        now = steady()
        if self._garbage.is_due(now, leisure=leisure):
            self._garbage.look_at_old(now, self._main.epoch + self._requests.epoch)
        self._memory.give_back(now, quiet=leisure or not self._health.is_active)

    async def _prepare(self) -> None:
        """Have the messages at hand of what is due soon; others get their turn meanwhile.

        It may take seconds to catch up while many requests come that are due soon.
        """
        horizon_us, lags = 0, False
        while True:
            if not self._health.is_active:
                lags = False
            else:
                if not lags:  # else what is put meanwhile would always be before it
                    horizon_us = self._clock.now_us() + AHEAD_US
                self._cache.prepare(self._timetable.approach(horizon_us, PREPARED))
                lags = self._timetable.lags
            await asyncio.sleep(0 if lags else LOOK)

    @property
    def _is_yielding(self) -> bool:
        """Whether this replica led, and has to hear what another one has of its requests."""
        return self._yielding is not None and not self._yielding.done()

    @property
    def _has_yielded(self) -> bool:
        """Whether this replica led, another may lead now, and it is known what that one has."""
        over = self._yielding is not None and self._yielding.done()
        return over and self._lease.role is Role.STANDBY

    def _mend(self) -> None:
        """Store again, without its end, what the server would remove before it is due.

        And reckon anew what a clock that ran ahead has moved too far on.
        """
        while self._index.expiring and self._store.has_room:
            key, revision = self._index.expiring.popitem()
            self._store.rewrite(Item(0, revision, key))
        while self._index.traits.ahead and self._store.has_room and self._clock.is_right:
            key = self._index.traits.ahead.pop()
            self._store.rewrite(Item(0, self._timetable.revision(key), key), self._reckon)

    def _reckon(self, entry: Entry) -> Entry | None:
        new = reckoned_anew(entry, self._clock.now_us())
        if new is not None:
            next_due = print_rfc3339(new.next_us or new.due_us)
            log.limited("warning", "schedule.reckoned", id=entry.id, due=next_due)
        return new

    # Watching, and ending

    async def watch(self, stop: asyncio.Event) -> None:
        """Wait for a signal, or for a part of the daemon to fail.

        Raises:
            GozoError: a part ended; the message says which and why.
        """
        await self._first(asyncio.create_task(stop.wait(), name="signal"))

    async def _first(self, *waiting: asyncio.Task[Any]) -> None:
        """Wait for one of some tasks, or for a part of the daemon to fail; then end the tasks."""
        parts: set[asyncio.Future[Any]] = {*waiting, self._fatal, *self._tasks}
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end(*waiting)
        self._check()

    def _check(self) -> None:
        """Raise what a part of the daemon ended with."""
        if self._fatal.done():
            self._fatal.result()
        for task in self._tasks:
            if task.done() and not task.cancelled():
                error = task.exception()
                if isinstance(error, GozoError):
                    raise error
                if error is not None:
                    log.error("task.failed", task=task.get_name(), error=repr(error))
                raise GozoError(
                    f"the {task.get_name()} ended: {error!r}"
                    if error
                    else f"the {task.get_name()} ended"
                ) from error

    async def shut_down(self) -> None:
        """Hand over what is in memory, give up the lease, and close.

        Raises:
            GozoError: schedules were lost, since they could not be stored in time.
        """
        self._notifier.stopping()
        self._ending = True
        try:
            if self._parts:
                await self._retire()
        finally:
            await end(*self._tasks, self._yielding)
            if self._fatal.done():
                self._fatal.exception()
            if self._http_server is not None:
                self._http_server.close()
            await self._requests.close()
            await self._main.close()

    async def _retire(self) -> None:
        self._lease.retire()
        self._inventory.close()
        await self._giving_way.close()
        try:
            if self._has_duties:
                await self._drain()
        finally:
            await end(self._leading)
            await self._lease.release()
            self._delivery.close()

    @property
    def _has_duties(self) -> bool:
        leads = self._lease.role is Role.LEADER
        return leads or bool(
            self._store.outstanding or self._intake.waiting or len(self._in_memory)
        )

    async def _drain(self) -> None:
        """Stop taking requests, store what was taken, settle what was sent."""
        self._progress_at = steady()
        log.info("daemon.stopping", unstored=self._intake.waiting, in_memory=len(self._in_memory))
        if self._yielding is not None:
            await _over(self._yielding, YIELD)
            await end(self._yielding)
            self._intake.act_on_left()
        try:
            await self._intake.stop_hearing()
        except GozoError as error:
            log.info("daemon.requests_lost", reason=str(error))
            self._requests.drop("it does not answer")  # the standbys are told by the other one
        await self._patiently(lambda: self._intake.waiting)
        await self._finish_delivering()
        self._hand_over()
        left = await self._patiently(lambda: self._store.outstanding)
        self._intake.answer_late(all_=True)
        await self._tell()
        lost = self._refused + self._intake.waiting + (self._store.unstored if left else 0)
        if lost:
            raise GozoError(
                f"{lost} schedules could not be stored before the end, since the bucket could not "
                "be written, or refused them (see the log): they are lost, unless another daemon "
                "stood by"
            )

    async def _tell(self) -> None:
        """Let the standbys know what was handled before one of them leads."""
        connection = self._requests if self._requests.connected else self._main
        self._intake.tell(connection)
        try:
            await connection.echo()
        except GozoError as error:
            log.info("daemon.not_told", reason=str(error))

    async def _patiently(self, left: Callable[[], int]) -> int:
        """Wait until nothing is left, or nothing has moved for a while; returns what is left."""
        lowest, began = left(), steady()
        while (now_left := left()) and not self._is_cut_off:
            if steady() > self._progress_at + DRAIN:
                break
            if self._writer.is_silent and steady() > began + DRAIN_IN_SILENCE:
                break
            if now_left < lowest:
                lowest, self._progress_at = now_left, steady()
            await asyncio.sleep(0.01)
        return left()

    @property
    def _is_cut_off(self) -> bool:
        """Whether the connection is lost and cannot come back: the embedded server has ended."""
        ended = self._server is not None and self._server.has_ended
        return ended and not self._main.connected


async def _over(task: asyncio.Task[None], timeout: float | None = None) -> None:
    """Wait until a task is over, for `timeout` seconds at most, and leave it alone."""
    await asyncio.wait([task], timeout=timeout)


async def _fail_with(server: embedded.EmbeddedServer) -> NoReturn:
    raise server.failure(await server.wait())
