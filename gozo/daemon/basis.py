"""Objects that are created before the parts of a bucket, because all kinds of parts use them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from gozo.leadership.rivals import Rivals
from gozo.leadership.serving import Course
from gozo.leadership.tenure import Tenure
from gozo.monitoring.health import Health
from gozo.monitoring.micro_service import Service
from gozo.runtime.clock_watch import ClockWatch
from gozo.runtime.gc_control import GcControl
from gozo.settings.model import ServeSettings
from gozo.telemetry.events import Events, EventSink, NullEvents
from gozo.telemetry.stats import Stats
from gozo.transport.connection import Connection
from gozo.transport.jetstream import JetStream


@dataclass(frozen=True, slots=True)
class Connections:
    """The links of one daemon."""

    main: Connection
    requests: Connection
    """For requests, verbs and reports to standbys, so that deliveries never wait for them."""
    js: JetStream
    """Over the main connection."""


@dataclass(frozen=True, slots=True)
class Process:
    """Shared by all buckets of a daemon."""

    stats: Stats
    health: Health
    service: Service
    garbage: GcControl
    fail: Callable[[BaseException], None]
    """Ends the daemon with an error."""
    is_cut_off: Callable[[], bool]
    """Tells whether the connection is lost and cannot come back."""


@dataclass(frozen=True, slots=True)
class Basis:
    """Small objects that are created first, because all kinds of parts use them."""

    connections: Connections
    settings: ServeSettings
    stats: Stats
    events: EventSink
    tenure: Tenure
    clock: ClockWatch
    clock_doubted: asyncio.Event
    rivals: Rivals
    course: Course

    @classmethod
    def make(cls, connections: Connections, settings: ServeSettings, stats: Stats) -> Self:
        """Create them for one bucket."""
        main, chosen = connections.main, settings.connection
        doubted = asyncio.Event()
        events: EventSink = NullEvents()
        if settings.events or settings.history_us is not None:
            events = Events(main, chosen.request_subject, settings.name)
        return cls(
            connections=connections,
            settings=settings,
            stats=stats,
            events=events,
            tenure=Tenure(main, settings.name, chosen.bucket),
            clock=ClockWatch(doubted.set),
            clock_doubted=doubted,
            rivals=Rivals(),
            course=Course(),
        )
