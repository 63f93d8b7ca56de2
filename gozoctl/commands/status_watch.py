"""`gozoctl status --watch`: shows the daemons at work, refreshed at an interval.

Each refresh sends one request to all daemons and one for the bucket; it reads no schedules.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gozo.errors import JetStreamError, NoServerError
from gozo.leadership.rivals import complaint
from gozoctl.output import times
from gozoctl.output.daemons import bucket_words, problems, role_cell
from gozoctl.output.printer import Cell, Lines, TableSpec, console, facts, has_escapes, live, table
from gozoctl.session import Session, while_read

if TYPE_CHECKING:
    from gozo.client import BucketInfo, Replica, Rival

INTERVAL = 2.0  # seconds
LATE_MS = 100.0  # lateness from here on is highlighted


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one refresh saw."""

    at: float
    """Monotonic clock, seconds."""
    now: datetime
    replicas: tuple[Replica, ...] = ()
    bucket: BucketInfo | None = None
    rivals: tuple[Rival, ...] = ()
    problem: str = ""
    """Why it saw nothing."""

    @property
    def leader(self) -> Replica | None:
        """The leader; if there are several, one that is serving."""
        leaders = [one for one in self.replicas if one.role == "leader"]
        return min(leaders, key=lambda one: not one.delivers, default=None)

    @property
    def delivers(self) -> bool:
        """Whether a daemon leads and is serving."""
        return self.leader is not None and self.leader.delivers


@dataclass(frozen=True, slots=True)
class Rates:
    """A daemon, and what it did per second since the previous refresh; None without one."""

    replica: Replica
    accepted: float | None = None
    delivered: float | None = None


def rates(before: Snapshot | None, now: Snapshot) -> list[Rates]:
    """Compute the rates of each daemon; a restarted one has none yet."""
    earlier = {} if before is None else {(one.name, one.started): one for one in before.replicas}
    seconds = now.at - before.at if before is not None else 0.0
    found = []
    for one in now.replicas:
        other = earlier.get((one.name, one.started))
        if other is None or seconds <= 0:
            found.append(Rates(one))
        else:
            accepted = max(one.accepted - other.accepted, 0) / seconds
            delivered = max(one.delivered - other.delivered, 0) / seconds
            found.append(Rates(one, accepted, delivered))
    return found


def _rate(rate: float | None) -> str:
    return "" if rate is None else f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}"  # noqa: PLR2004


def _ms(late: float) -> Cell:
    return (f"{late:.1f} ms", "magenta" if late >= LATE_MS else "")


def _cells(measured: Rates) -> tuple[Cell, ...]:
    one = measured.replica
    return (
        (one.name, "bold"),
        role_cell(one),
        str(one.pending),
        _rate(measured.accepted),
        _rate(measured.delivered),
        _ms(one.lateness_p50_ms),
        _ms(one.lateness_p99_ms),
        times.span(datetime.now(UTC) - one.started),
    )


def _texts(measured: Rates) -> tuple[str, ...]:
    return tuple(cell if isinstance(cell, str) else cell[0] for cell in _cells(measured))


COLUMNS = ("ROLE", "PENDING", "IN/S", "OUT/S", "P50", "P99", "UP")

RATES: TableSpec[Rates] = TableSpec(
    ("DAEMON", *COLUMNS),
    _cells,
    _texts,
    lambda measured: {},
    lambda measured: measured.replica.name,
    whole=frozenset(COLUMNS),
)


@dataclass(frozen=True, slots=True)
class Moment:
    """A snapshot with the rates: a line in a pipe."""

    snapshot: Snapshot
    rates: list[Rates]


def _fields(moment: Moment) -> tuple[str, ...]:
    snapshot, leader = moment.snapshot, moment.snapshot.leader
    if leader is None:
        return (times.utc(snapshot.now), *[""] * (len(MOMENTS.heads) - 1))
    measured = next(one for one in moment.rates if one.replica is leader)
    return (
        times.utc(snapshot.now),
        leader.name,
        str(leader.pending),
        str(leader.overdue),
        _rate(measured.accepted),
        _rate(measured.delivered),
        f"{leader.lateness_p50_ms:.1f}",
        f"{leader.lateness_p99_ms:.1f}",
        str(leader.paused),
        str(leader.failed),
        "" if leader.next_due is None else times.utc(leader.next_due),
    )


def _record(moment: Moment) -> dict[str, Any]:
    snapshot = moment.snapshot
    return {
        "at": times.utc(snapshot.now),
        "delivers": snapshot.delivers,
        "rivals": [asdict(one) for one in snapshot.rivals],
        "daemons": [
            {
                "name": measured.replica.name,
                "role": measured.replica.role,
                "problem": measured.replica.problem,
                "pending": measured.replica.pending,
                "overdue": measured.replica.overdue,
                "paused": measured.replica.paused,
                "failed": measured.replica.failed,
                "accepted": measured.replica.accepted,
                "delivered": measured.replica.delivered,
                "accepted_per_second": measured.accepted,
                "delivered_per_second": measured.delivered,
                "lateness_p50_ms": measured.replica.lateness_p50_ms,
                "lateness_p99_ms": measured.replica.lateness_p99_ms,
                "next_due": times.utc(due) if (due := measured.replica.next_due) else None,
            }
            for measured in moment.rates
        ],
    }


MOMENTS: TableSpec[Moment] = TableSpec(
    (
        *("AT", "LEADER", "PENDING", "OVERDUE", "IN/S", "OUT/S", "P50_MS", "P99_MS"),
        *("PAUSED", "FAILED", "NEXT_DUE"),
    ),
    _fields,
    _fields,
    _record,
    lambda moment: moment.snapshot.leader.name if moment.snapshot.leader else None,
)


class View:
    """Takes a snapshot every `interval` seconds, `count` times or forever, and shows it."""

    def __init__(self, session: Session, interval: float, count: int | None) -> None:
        self._session = session
        self._interval = interval
        self._count = count
        self._before: Snapshot | None = None

    async def run(self) -> Snapshot:
        """Run until the end; return the last snapshot."""
        out = self._session.out
        if not (out.is_for_people and has_escapes()):
            lines = Lines(out, MOMENTS)
            lines.begin()
            with while_read():
                return await self._follow(lambda moment: self._print(lines, moment))
        with live(console()) as show:
            return await self._follow(lambda moment: show(self._frame(moment)))

    async def _follow(self, show: Callable[[Moment], None]) -> Snapshot:
        number = 0
        while True:
            snapshot = await self._take()
            show(Moment(snapshot, rates(self._before, snapshot)))
            self._before = snapshot
            number += 1
            if number == self._count:
                return snapshot
            await asyncio.sleep(self._interval)

    async def _take(self) -> Snapshot:
        client = self._session.client
        try:
            replicas, rivals = await asyncio.gather(client.replicas(), client.rivals())
            bucket = await client.bucket()
        except (NoServerError, JetStreamError) as error:
            # The client reconnects, and a cluster elects a leader.
            return Snapshot(time.monotonic(), datetime.now(UTC), problem=str(error))
        now = datetime.now(UTC)
        return Snapshot(time.monotonic(), now, tuple(replicas), bucket, tuple(rivals))

    def _print(self, lines: Lines[Moment], moment: Moment) -> None:
        out = self._session.out
        if moment.snapshot.problem:
            out.fail(moment.snapshot.problem)
        else:
            lines.put(moment)
        out.flush()

    def _frame(self, moment: Moment) -> Any:
        from rich.console import Group  # noqa: PLC0415  # for a terminal only

        shown = facts(self._facts(moment.snapshot))
        return Group(shown, "", table(RATES, moment.rates)) if moment.rates else shown

    def _facts(self, snapshot: Snapshot) -> Iterator[tuple[str, Cell]]:
        """Return the lines above the table, by name."""
        client = self._session.client
        server, leader = client.server, snapshot.leader
        yield "server", f"{server.name} {server.version}, {server.address}"
        if snapshot.problem:
            yield "problem", (snapshot.problem, "red")
            return
        yield "bucket", bucket_words(client.settings.bucket, snapshot.bucket)
        if snapshot.rivals:
            yield "problem", (complaint(snapshot.rivals, client.settings.request_subject), "red")
        if leader is None:
            yield "problem", ("no daemon delivers", "red")
            return
        for problem in problems(snapshot.replicas):
            yield "problem", (problem, "red")
        yield "overdue", (str(leader.overdue), "magenta" if leader.overdue else "")
        yield "paused", (str(leader.paused), "magenta" if leader.paused else "")
        yield "failed", (str(leader.failed), "red" if leader.failed else "")
        yield "invalid", (str(leader.invalid), "magenta" if leader.invalid else "")
        if leader.next_due is None:
            yield "next due", "nothing"
        else:
            left = times.left(leader.next_due, snapshot.now)
            yield "next due", f"{times.local(leader.next_due, with_zone=True)}, {left}"
