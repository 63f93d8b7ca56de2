"""`gozoctl status`: the server, the bucket, and the daemons."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gozo.cli.options import takes
from gozo.leadership.rivals import complaint
from gozoctl.commands.status_watch import INTERVAL, View, bucket_words, problems, role_cell
from gozoctl.exit_codes import DONE, FAILED, NO_ANSWER
from gozoctl.output import times
from gozoctl.output.printer import Cell, TableSpec, console, facts, table
from gozoctl.session import OPTIONS, NoHeader, Session, connected

if TYPE_CHECKING:
    from gozo.client import BucketInfo, Replica, Rival


def _uptime(one: Replica) -> str:
    return times.span(datetime.now(UTC) - one.started)


def _cells(one: Replica) -> tuple[Cell, ...]:
    return (
        (one.name, "bold"),
        one.version,
        role_cell(one),
        str(one.pending),
        str(one.delivered),
        f"{one.lateness_p50_ms:.1f} ms",
        f"{one.lateness_p99_ms:.1f} ms",
        _uptime(one),
    )


def _texts(one: Replica) -> tuple[str, ...]:
    return tuple(cell if isinstance(cell, str) else cell[0] for cell in _cells(one))


def _record(one: Replica) -> dict[str, Any]:
    return {
        "name": one.name,
        "version": one.version,
        "role": one.role,
        "problem": one.problem,
        "pending": one.pending,
        "overdue": one.overdue,
        "paused": one.paused,
        "failed": one.failed,
        "invalid": one.invalid,
        "delivered": one.delivered,
        "refused": one.refused,
        "lateness_p50_ms": one.lateness_p50_ms,
        "lateness_p99_ms": one.lateness_p99_ms,
        "started": times.utc(one.started),
    }


def _name(one: Replica) -> str | None:
    return one.name


FIGURES = ("VERSION", "ROLE", "PENDING", "DELIVERED", "P50", "P99", "UP")

DAEMONS: TableSpec[Replica] = TableSpec(
    ("DAEMON", *FIGURES),
    _cells,
    _texts,
    _record,
    _name,
    whole=frozenset(FIGURES),
)


@takes(OPTIONS)
def status(
    ctx: typer.Context,
    *,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Go on looking: a live view, or in a pipe a line each time."),
    ] = False,
    interval: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="With --watch, how long between looks.", min=0.1),
    ] = INTERVAL,
    count: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="With --watch, end after so many looks.")
    ] = None,
    no_header: NoHeader = False,
    **given: Any,
) -> None:
    """Show the server, the bucket, what is due next, and the daemons.

    Exits 0 only if a daemon delivers: it leads, receives requests, and can read and write the
    bucket. Exits 5 if none does, 1 if daemons with different buckets take the same requests.
    """

    async def work(session: Session) -> int:
        if watch:
            look = await View(session, interval, count).run()
            return _verdict(session, look.replicas, look.rivals)
        client = session.client
        server, bucket = client.server, await client.bucket()
        replicas, rivals = await asyncio.gather(client.replicas(), client.rivals())
        counts = await client.count()
        next_due = counts.next_due
        said = {
            "server": f"{server.name} {server.version}, {server.address}",
            "bucket": bucket_words(client.settings.bucket, bucket),
            "schedules": str(counts.schedules),
            "overdue": str(counts.overdue),
            "paused": str(counts.paused),
            "failed": str(counts.failed),
            "invalid": str(counts.invalid),
        }
        if session.out.is_json:
            session.out.json(
                {
                    "server": {
                        "name": server.name,
                        "version": server.version,
                        "address": server.address,
                    },
                    "bucket": _bucket_record(bucket),
                    "schedules": counts.schedules,
                    "overdue": counts.overdue,
                    "paused": counts.paused,
                    "failed": counts.failed,
                    "invalid": counts.invalid,
                    "next_due": times.utc(next_due) if next_due is not None else None,
                    "daemons": [_record(one) for one in replicas],
                    "delivers": any(one.delivers for one in replicas),
                    "rivals": [asdict(one) for one in rivals],
                }
            )
        elif session.out.format == "id":
            session.out.all(DAEMONS, replicas)
        else:
            _print(session, said, next_due, replicas)
        return _verdict(session, replicas, rivals)

    connected(ctx, given, work, header=not no_header)


def _verdict(session: Session, replicas: Sequence[Replica], rivals: Sequence[Rival]) -> int:
    if rivals:
        session.out.fail(complaint(rivals, session.client.settings.request_subject))
        return FAILED
    if any(one.delivers for one in replicas):
        return DONE
    if any(one.role == "leader" for one in replicas):
        session.out.fail(f"no daemon delivers: {'; '.join(problems(replicas))}")
    else:
        session.out.fail("no daemon delivers: start one with `gozo serve`")
    return NO_ANSWER


def _print(
    session: Session, said: dict[str, str], next_due: datetime | None, replicas: list[Replica]
) -> None:
    out = session.out
    if not out.is_for_people:
        for name, value in said.items():
            out.write_fields(name, value)
        out.write_fields("next_due", times.utc(next_due) if next_due else "")
        if replicas and out.header:
            out.write_fields("DAEMON", "NAME", *FIGURES)
        for one in replicas:
            out.write_fields("daemon", *_texts(one))
        for problem in problems(replicas):
            out.write_fields("problem", problem)
        return
    if next_due is not None:
        left = times.left(next_due, datetime.now(UTC))
        said["next due"] = f"{times.local(next_due, with_zone=True)}, {left}"
    screen = console()
    told: list[tuple[str, Cell]] = list(said.items())
    told += [("problem", (problem, "red")) for problem in problems(replicas)]
    screen.print(facts(told))
    if replicas:
        screen.print()
        screen.print(table(DAEMONS, replicas, header=out.header))


def _bucket_record(bucket: BucketInfo | None) -> dict[str, Any] | None:
    if bucket is None:
        return None
    return {
        "name": bucket.name,
        "keys": bucket.keys,
        "bytes": bucket.bytes,
        "replicas": bucket.replicas,
        "storage": bucket.storage,
        "created": times.utc(bucket.created),
    }
