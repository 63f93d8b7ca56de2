"""The daemon: start, watch, stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import NoReturn, TypeVar

from gozo import embedded
from gozo.daemon.basis import Connections, Process
from gozo.daemon.components import Components, build
from gozo.daemon.permissions import Permissions, check_rules
from gozo.errors import GozoError, NoServerError, RequestError, UnsuitableServerError
from gozo.leadership.lease_record import lease_of, open_lease
from gozo.leadership.lookout import check_alone
from gozo.monitoring.health import Health
from gozo.monitoring.mappings import Mappings
from gozo.monitoring.micro_service import Service
from gozo.monitoring.systemd import Notifier
from gozo.protocol.subject_policy import too_small
from gozo.runtime import signals
from gozo.runtime.clock import steady
from gozo.runtime.gc_control import GcControl
from gozo.runtime.logs import get_logger
from gozo.runtime.tasks import Tasks, persist
from gozo.schedule.cron import read_zone
from gozo.settings.model import ServeSettings
from gozo.store.bucket import Bucket, open_bucket
from gozo.store.event_history import open_history
from gozo.store.marker_life import USUAL_LIFE, MarkerLife
from gozo.telemetry.stats import Stats
from gozo.transport.connection import Connection
from gozo.transport.failures import TurnedAwayError
from gozo.transport.jetstream import JetStream
from gozo.transport.link import SETTLED
from gozo.transport.permission_check import settle_inboxes
from gozo.transport.permissions import missing_permission

REQUESTS_AT_ONCE = 50
"""Requests read before other tasks get a turn: fewer than are processed meanwhile."""
CHECK_INTERVAL = 0.25  # seconds between checks of the connections while the daemon starts

T = TypeVar("T")

log = get_logger("gozo.daemon")


async def serve(settings: ServeSettings, life: MarkerLife = USUAL_LIFE) -> None:
    """Run a daemon until a signal asks it to stop, and shut it down gracefully.

    `life` is the rule for the life of its delete markers.

    Raises:
        GozoError: the daemon could not start or continue, or its shutdown lost schedules.
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
    """One replica: its start, its work and its shutdown."""

    def __init__(
        self,
        settings: ServeSettings,
        server: embedded.EmbeddedServer | None = None,
        life: MarkerLife = USUAL_LIFE,
    ) -> None:
        chosen, name = settings.connection, settings.name
        self._settings = settings
        self._server = server
        self._life = life
        self._began = steady()
        self.stats = Stats()
        main = Connection(chosen, name, private=True)
        requests = Connection(chosen, f"{name} requests", REQUESTS_AT_ONCE, private=True)
        self.connections = Connections(main, requests, JetStream(main))
        self._permissions = Permissions(main, self.connections.js, chosen)
        self._mappings = Mappings(self.connections.js, chosen.bucket, lease_of(chosen.bucket))
        self._health = Health(
            name,
            self.stats,
            {"main": main, "requests": requests},
            self._mappings,
            request_subject=chosen.request_subject,
        )
        self._service = Service(main, settings.policy, bucket=chosen.bucket, health=self._health)
        self._notifier = Notifier(os.environ)
        self._garbage = GcControl()
        self._tasks = Tasks()
        self.components: list[Components] = []
        """The parts of each open bucket."""
        self._shutdown = AsyncExitStack()
        """Callbacks that stop the daemon: the last one pushed is called first."""

    # Starting

    async def start(self, stop: asyncio.Event) -> None:
        """Connect, load the bucket and wait for a leader; end early when `stop` is set.

        Raises:
            GozoError: the daemon could not start; see `gozo.errors`.
        """
        for connection in (self.connections.main, self.connections.requests):
            self._shutdown.push_async_callback(connection.close)
        await self._start_monitoring()
        self._shutdown.push_async_callback(self._tasks.end)
        if self._server is not None:
            self._tasks.begin("embedded server", _fail_with(self._server))
        starting = asyncio.create_task(self._start(), name="start")
        stopped = asyncio.create_task(stop.wait(), name="signal")
        linked = asyncio.create_task(self._watch_links(), name="links")
        await self._tasks.first(starting, stopped, linked)
        for task in (starting, linked):
            if not task.cancelled():
                task.result()

    async def _start_monitoring(self) -> None:
        if self._settings.metrics is not None:
            # Imported here: it takes time, and is needed only with --metrics.
            from gozo.monitoring.http_server import HttpServer  # noqa: PLC0415

            server = HttpServer(self._health, self._settings.metrics)
            await server.open()
            self._shutdown.callback(server.close)
        if self._notifier.is_heard:
            self._tasks.begin("notifier", self._notifier.run(self._health))

    async def _start(self) -> None:
        with contextlib.suppress(RequestError):
            read_zone("none/such")  # the first invalid name imports packages: 20 ms, better now
        await self._connect()
        self._service.listen()
        components = await self._open()
        await self._load(components)
        await self._begin_leading(components)
        self._health.started()
        chosen, bucket = self._settings.connection, components.health
        log.info(
            "daemon.ready",
            role=bucket.role,
            pending=bucket.pending,
            overdue=bucket.overdue,
            invalid=bucket.invalid,
            seconds=steady() - self._began,
            bucket=chosen.bucket,
            request_subject=chosen.request_subject,
        )

    async def _connect(self) -> None:
        """Open both connections, and keep them open."""
        timeout = self._settings.connect_timeout
        main, requests = self.connections.main, self.connections.requests
        try:
            await main.open(timeout)
        except TurnedAwayError:
            raise
        except NoServerError as error:
            raise NoServerError(
                f"{error}: start a NATS server there, give --address, or run "
                "'gozo serve --embedded', which starts one"
            ) from error
        if reason := too_small(main.max_payload):
            raise UnsuitableServerError(reason)
        self._tasks.begin("connection", main.keep())
        if reason := await self._persist(partial(settle_inboxes, main)):
            log.warning("connection.shared_inbox", reason=reason)
        requests.use_inboxes(main.inbox_prefix)
        for connection in (main, requests):
            connection.on_denied.append(self._on_denied)
        await self._persist(partial(self.connections.js.check_enabled, timeout))
        await self._persist(self._mappings.check)
        check_rules(self._settings.policy, self._settings.connection)
        await requests.open(timeout)
        self._tasks.begin("requests connection", requests.keep())

    async def _open(self) -> Components:
        """Find the bucket, or create it, and create the parts that serve it."""
        settings, chosen = self._settings, self._settings.connection
        js, place = self.connections.js, (chosen.bucket, chosen.request_subject)
        await self._persist(partial(check_alone, self.connections.main, *place))
        bucket = await self._persist(
            partial(open_bucket, js, chosen.bucket, replicas=settings.replicas)
        )
        lease_bucket = await self._persist(
            partial(open_lease, js, lease_of(chosen.bucket), replicas=settings.replicas)
        )
        if settings.history_us is not None:
            history = partial(open_history, js, *place, replicas=settings.replicas)
            await self._persist(partial(history, age_us=settings.history_us))
        return self._build(bucket, lease_bucket)

    def _build(self, bucket: Bucket, lease_bucket: Bucket) -> Components:
        process = Process(
            stats=self.stats,
            health=self._health,
            service=self._service,
            garbage=self._garbage,
            fail=self._tasks.fail,
            is_cut_off=self._is_cut_off,
        )
        components = build(
            self.connections, bucket, lease_bucket, self._settings, process, self._life
        )
        self.components.append(components)
        self._health.opened(components.health)
        components.push_shutdown(self._shutdown)
        return components

    async def _load(self, components: Components) -> None:
        """Read the whole bucket."""
        self._garbage.begin_loading()
        for name, work in components.reading():
            self._tasks.begin(name, work)
        self._tasks.begin("mappings", self._mappings.run(components.cannot_write))
        follower = components.storage.follower
        await self._tasks.until(follower.loaded)
        components.leading.skipping.begin(follower.position)
        self._garbage.end_loading(steady())

    async def _begin_leading(self, components: Components) -> None:
        """Take the lease if it is free, and wait until a leader is known."""
        for name, work in components.standing_by():
            self._tasks.begin(name, work)
        leading = components.leading
        await self._tasks.until(leading.lease.decided)
        # Continues if the start is cancelled: requests wait for it.
        await self._tasks.first(asyncio.create_task(leading.leadership.taken(), name="waiting"))
        await self._tasks.until(components.storage.probe.tried)

    async def _persist(self, step: Callable[[], Awaitable[T]]) -> T:
        """Run a step of the start; repeat it if the link is lost or the servers elect a leader."""
        return await persist(step, self._settings.connect_timeout)

    async def _watch_links(self) -> NoReturn:
        """Watch the links during the start for one that is lost for too long.

        Raises:
            NoServerError: a link has been lost for as long as the start waits for a server.
        """
        timeout = self._settings.connect_timeout
        seen_at = dict.fromkeys(self._health.connections.values(), steady())
        why = ""
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            for connection in seen_at:
                why = connection.failure or why
                if connection.is_settled or not connection.epoch:
                    seen_at[connection] = steady()
                elif steady() > seen_at[connection] + timeout + SETTLED:
                    raise NoServerError(
                        f"the connection to NATS keeps dropping while the daemon starts: {why}"
                    )

    def _on_denied(self, kind: str, subject: str) -> None:
        """End the start if a permission is missing; later, a denial is only logged."""
        if not self._health.is_started and self._permissions.require(kind, subject):
            self._tasks.fail(missing_permission(kind, subject))

    def _is_cut_off(self) -> bool:
        """Tell whether the connection is lost for good: the embedded server has ended."""
        ended = self._server is not None and self._server.has_ended
        return ended and not self.connections.main.connected

    # Watching and stopping

    async def watch(self, stop: asyncio.Event) -> None:
        """Wait for a signal, or for a part of the daemon to fail.

        Raises:
            GozoError: a part ended; the message says which and why.
        """
        await self._tasks.until(stop)

    async def shut_down(self) -> None:
        """Hand over schedules in memory, release the lease and close.

        Raises:
            GozoError: schedules were lost, since they could not be stored in time.
        """
        self._notifier.stopping()
        await self._shutdown.aclose()


async def _fail_with(server: embedded.EmbeddedServer) -> NoReturn:
    raise server.failure(await server.wait())
