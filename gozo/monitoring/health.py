"""The health of a daemon: its metrics, its readiness, and parts that hang.

All values are read from the parts on request, and cost nothing otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

from gozo.delivery.in_memory import InMemory
from gozo.leadership.lookout import Lookout
from gozo.leadership.rivals import Leader
from gozo.leadership.serving import Facts, Verdict, judge, needed
from gozo.leadership.tenure import Role, Tenure
from gozo.monitoring.mappings import Mappings
from gozo.requests.intake import Intake
from gozo.runtime.clock import steady, wall_us
from gozo.schedule.model import MICROSECONDS, State
from gozo.store.follower import Follower
from gozo.store.index import BucketIndex
from gozo.store.probe import Probe
from gozo.store.run_index import STATES
from gozo.store.schedule_store import ScheduleStore
from gozo.store.writer import Writer
from gozo.telemetry.stats import Stats
from gozo.transport.connection import Connection

HUNG = 10.0  # seconds without a turn after which a part counts as hanging


class Gauge(NamedTuple):
    """A metric that exists once the bucket is open."""

    name: str
    help: str
    value: float


class Starting:
    """The health of a bucket that the daemon has not opened yet."""

    role = Role.STANDBY
    pending = overdue = paused = failed = invalid = failing = 0
    successes: Iterable[tuple[str, int]] = ()
    runs: Mapping[State, int] = MappingProxyType(dict.fromkeys(STATES, 0))
    oldest_run_us: int | None = None
    next_due_us: int | None = None
    rivals: Sequence[Leader] = ()
    trouble = ""

    def completed(self, facts: Facts) -> Facts:
        """Return the facts, completed: the bucket is not read yet."""
        return replace(facts, follows=False, delivers=False)

    def gauges(self) -> Iterator[Gauge]:
        """Return no metrics."""
        return iter(())

    def is_hung(self, now: float) -> bool:
        """Nothing runs that could hang."""
        return False


@dataclass(frozen=True, slots=True)
class BucketHealth:
    """The health of one bucket, as this replica serves it."""

    index: BucketIndex
    in_memory: InMemory
    store: ScheduleStore
    writer: Writer
    probe: Probe
    follower: Follower
    tenure: Tenure
    intake: Intake
    lookout: Lookout

    @property
    def role(self) -> Role:
        """Leader or standby."""
        return self.tenure.role

    @property
    def pending(self) -> int:
        """Schedules that wait for their due time, including those without an id."""
        others = self.paused + self.failed + self.invalid + len(self.index.traits.runs)
        return len(self.index.timetable) - others + len(self.in_memory)

    @property
    def overdue(self) -> int:
        """Schedules of the bucket that are due and not being sent.

        0 for a standby: only the leader knows what it is sending or about to try again.
        """
        if self.tenure.another_leads:
            return 0
        return self.index.timetable.count_due(wall_us(), but=self.index.traits.runs)

    @property
    def runs(self) -> Mapping[State, int]:
        """Occurrences that have entries of their own, by state."""
        return self.index.traits.runs.counts()

    @property
    def oldest_run_us(self) -> int | None:
        """When the oldest attempt was sent whose receiver may be working; None without one."""
        return self.index.traits.runs.oldest_us()

    @property
    def paused(self) -> int:
        """Schedules that are kept until they are resumed."""
        return len(self.index.traits.paused)

    @property
    def failed(self) -> int:
        """Schedules kept after their delivery was given up."""
        return len(self.index.traits.failed)

    @property
    def invalid(self) -> int:
        """Entries that are invalid and cannot be delivered."""
        return len(self.index.traits.invalid)

    @property
    def failing(self) -> int:
        """Schedules whose last run failed, or none of whose runs succeeded in time."""
        return self.index.count_failing()

    @property
    def successes(self) -> Iterable[tuple[str, int]]:
        """The ids that `--metrics-ids` names, and when each succeeded last, in microseconds."""
        return self.index.traits.successes

    @property
    def next_due_us(self) -> int | None:
        """When the next known schedule is due; None without one."""
        tables = (self.index.timetable, self.in_memory.timetable)
        return min((due for table in tables if (due := table.next_due()) is not None), default=None)

    @property
    def rivals(self) -> Sequence[Leader]:
        """Leaders of other buckets on the same request subject, if this replica leads."""
        return self.lookout.rivals

    @property
    def trouble(self) -> str:
        """The problem that the rivals cause; empty without rivals."""
        return self.lookout.trouble

    def completed(self, facts: Facts) -> Facts:
        """Return the facts, completed with those about the bucket."""
        tenure = self.tenure
        return replace(
            facts,
            leads=tenure.role is Role.LEADER,
            unwritable=self.probe.problem,
            mute=self.probe.mute,
            silent=self.writer.is_silent,
            follows=self.follower.is_following,
            delivers=tenure.is_active and tenure.is_valid,
            unfit=""
            if tenure.is_fit
            else "its clock, or an entry in a newer format, keeps it from leading",
        )

    def gauges(self) -> Iterator[Gauge]:
        """Return the metrics that exist once the bucket is open."""
        follower = self.follower
        yield Gauge(
            "requests_waiting", "Requests received but not yet processed.", self.intake.waiting
        )
        yield Gauge(
            "writes_outstanding",
            "Changes that the bucket has not acknowledged.",
            self.store.outstanding,
        )
        yield Gauge(
            "follower_lag_messages",
            "Messages of the bucket that the daemon has not read yet, as last reported.",
            follower.behind,
        )
        yield Gauge(
            "follower_following",
            "1 if the daemon has read the whole bucket and follows it.",
            follower.is_following,
        )
        yield Gauge(
            "clock_ahead_seconds",
            "How far this host's clock is ahead of the server's.",
            follower.clock_ahead_us / MICROSECONDS,
        )

    def is_hung(self, now: float) -> bool:
        """Tell whether the follower has taken no turn for too long."""
        return now - self.follower.turned_at > HUNG


class Health:
    """The health of one daemon, as its operator sees it."""

    def __init__(
        self,
        name: str,
        stats: Stats,
        connections: Mapping[str, Connection],
        mappings: Mappings,
        *,
        request_subject: str,
    ) -> None:
        """`connections`: by their names in metrics and messages."""
        self.name = name
        self.stats = stats
        self.connections = connections
        self._mappings = mappings
        self._request_subject = request_subject
        self._bucket: Starting | BucketHealth = Starting()
        self.is_started = False
        """Whether the daemon has finished starting."""

    @property
    def bucket(self) -> Starting | BucketHealth:
        """The health of the daemon's bucket."""
        return self._bucket

    def opened(self, bucket: BucketHealth) -> None:
        """Report on the bucket from now on: it is open."""
        self._bucket = bucket

    def started(self) -> None:
        """Note that the daemon has finished starting."""
        self.is_started = True

    @property
    def role(self) -> Role:
        """Leader or standby."""
        return self._bucket.role

    def problem(self) -> str:
        """Say why the daemon is not serving, or that it has rivals; empty if all is well.

        A standby would have the same rivals, so they are no reason to hand over, and no part of
        the verdict.
        """
        return self.judge().problem or self._bucket.trouble

    def judge(self) -> Verdict:
        """Judge whether the daemon is serving: it leads and delivers, or is ready to take over."""
        connections = self.connections.values()
        refused = [subject for connection in connections for subject in connection.refused]
        waits = next((one.failure for one in connections if one.failure), "")
        lost = [name for name, one in self.connections.items() if one.epoch and not one.connected]
        facts = Facts(
            leads=False,
            is_started=self.is_started,
            waits=waits,
            lost=tuple(lost),
            unheard=needed(refused, self._request_subject),
            mapped=self._mappings.problem,
        )
        return judge(self._bucket.completed(facts))

    def hung(self) -> str:
        """Return the name of a part that has taken no turn for too long; empty if all do.

        A NATS server that does not answer is not a part: nothing hangs while the daemon keeps
        trying, and a restart would only lose the schedules in memory.
        """
        now = steady()
        for name, connection in self.connections.items():
            if connection.epoch and now - connection.stirred_at > HUNG:
                return f"{name} connection"
        return "follower" if self._bucket.is_hung(now) else ""
