"""What can be told of a running daemon: figures, whether it is ready, and what hangs.

It asks the parts when it is asked, and costs nothing otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

from gozo.delivery.in_memory import InMemory
from gozo.leadership.lease import Lease, Role
from gozo.leadership.lookout import Lookout
from gozo.leadership.rivals import Leader
from gozo.leadership.serving import Facts, Verdict, judge, needed
from gozo.monitoring.mappings import Mappings
from gozo.requests.intake import Intake
from gozo.runtime.clock import steady, wall_us
from gozo.store.follower import Follower
from gozo.store.index import BucketIndex
from gozo.store.probe import Probe
from gozo.store.schedule_store import ScheduleStore
from gozo.store.writer import Writer
from gozo.telemetry.stats import Stats
from gozo.transport.connection import Connection

HANGS = 10.0  # seconds without a turn after which a part counts as hanging


@dataclass(slots=True)
class Parts:
    """What a daemon is made of once it knows its bucket."""

    index: BucketIndex
    in_memory: InMemory
    store: ScheduleStore
    writer: Writer
    probe: Probe
    follower: Follower
    lease: Lease
    intake: Intake
    lookout: Lookout


class Health:
    """One daemon, as its operator sees it."""

    def __init__(
        self,
        name: str,
        stats: Stats,
        main: Connection,
        requests: Connection,
        mappings: Mappings,
        *,
        request_subject: str,
    ) -> None:
        self.name = name
        self._mappings = mappings
        self._request_subject = request_subject
        self.stats = stats
        self.connections = {"main": main, "requests": requests}
        self.parts: Parts | None = None
        """None while it starts."""
        self.is_active = False
        """Whether it leads, and knows all that earlier leaders did."""
        self.can_lead = True
        """Whether it would take over, as far as its clock and the entries go."""
        self.is_started = False

    @property
    def role(self) -> Role:
        """What it is."""
        return self.parts.lease.role if self.parts else Role.STANDBY

    @property
    def pending(self) -> int:
        """Schedules that are waited for, those without an id among them."""
        parts = self.parts
        if parts is None:
            return 0
        at_rest = self.paused + self.failed + self.invalid
        return len(parts.index.timetable) - at_rest + len(parts.in_memory)

    @property
    def overdue(self) -> int:
        """Schedules of the bucket that are due, and not being sent.

        What another replica leads is that one's affair: it alone knows what it is sending, and
        what it tries again.
        """
        parts = self.parts
        if parts is None or parts.lease.another_leads:
            return 0
        return parts.index.timetable.count_due(wall_us())

    @property
    def paused(self) -> int:
        """Schedules that are kept until they are resumed."""
        return len(self.parts.index.traits.paused) if self.parts else 0

    @property
    def failed(self) -> int:
        """Schedules that were given up, and are kept."""
        return len(self.parts.index.traits.failed) if self.parts else 0

    @property
    def next_due_us(self) -> int | None:
        """When the next schedule is due, as far as is known; None where there is none."""
        if self.parts is None:
            return None
        tables = (self.parts.index.timetable, self.parts.in_memory.timetable)
        return min((due for table in tables if (due := table.next_due()) is not None), default=None)

    @property
    def invalid(self) -> int:
        """Entries of the bucket that it cannot serve."""
        return len(self.parts.index.traits.invalid) if self.parts else 0

    @property
    def rivals(self) -> list[Leader]:
        """Leaders of other buckets on the same request subject, where this one leads."""
        return self.parts.lookout.rivals if self.parts else []

    def problem(self) -> str:
        """Say why it is not serving, or that it has rivals; empty if all is well.

        A standby would have the same rivals, so they are no reason to hand over, and no part of
        the judgement.
        """
        trouble = self.parts.lookout.trouble if self.parts else ""
        return self.judge().problem or trouble

    def judge(self) -> Verdict:
        """Judge whether it is serving: leads and delivers, or would take over."""
        connections = self.connections.values()
        refused = [subject for connection in connections for subject in connection.refused]
        parts = self.parts
        waits = next((one.failure for one in connections if one.failure), "")
        lost = [name for name, one in self.connections.items() if one.epoch and not one.connected]
        return judge(
            Facts(
                leads=self.role is Role.LEADER,
                is_started=self.is_started,
                waits=waits,
                lost=tuple(lost),
                unheard=needed(refused, self._request_subject),
                mapped=self._mappings.problem,
                unwritable=parts.probe.problem if parts else "",
                mute=parts.probe.mute if parts else "",
                silent=bool(parts and parts.writer.is_silent),
                follows=bool(parts and parts.follower.is_following),
                delivers=bool(parts and self.is_active and parts.lease.is_valid),
                unfit=""
                if self.can_lead
                else "its clock, or an entry in a newer format, keeps it from leading",
            )
        )

    def hangs(self) -> str:
        """Name a part that has not come round for too long; empty: none.

        A server that does not answer is no part of the daemon: as long as it goes on trying,
        nothing hangs, and to start it anew would only lose what it has in memory.
        """
        now = steady()
        for name, connection in self.connections.items():
            if connection.epoch and now - connection.stirred_at > HANGS:
                return f"{name} connection"
        if self.parts is not None and now - self.parts.follower.turned_at > HANGS:
            return "follower"
        return ""
