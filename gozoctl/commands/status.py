"""`gozoctl status`: shows the server, the bucket and the daemons."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gozo.cli.options import takes
from gozo.errors import NotAllowedError, SettingsError
from gozo.leadership.rivals import complaint
from gozoctl.commands.status_watch import INTERVAL, View
from gozoctl.exit_codes import DONE, FAILED, NO_ANSWER, USAGE
from gozoctl.output import times
from gozoctl.output.daemons import (
    COLUMNS,
    DAEMONS,
    bucket_record,
    bucket_words,
    daemon_record,
    daemon_texts,
    problems,
)
from gozoctl.output.failing import FAILING
from gozoctl.output.printer import Cell, Output, console, facts, table
from gozoctl.output.workers import COLUMNS as WORKER_COLUMNS
from gozoctl.output.workers import WORKERS, worker_record, worker_texts
from gozoctl.session import OPTIONS, NoHeader, Session, connected

if TYPE_CHECKING:
    from gozo.client import BucketInfo, Client, Counts, Replica, Rival, Server, WorkerInfo


@takes(OPTIONS)
def command(
    ctx: typer.Context,
    *,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Keep watching: a live view, in a pipe a line per refresh."),
    ] = False,
    interval: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="With --watch, time between refreshes.", min=0.1),
    ] = INTERVAL,
    count: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="With --watch, exit after N refreshes.")
    ] = None,
    failing: Annotated[
        bool,
        typer.Option("--failing", help="Print only the schedules that fail; exit 1 if any do."),
    ] = False,
    no_header: NoHeader = False,
    **given: Any,
) -> None:
    """Show the server, the bucket, the next due time, the daemons and the workers.

    Exits 0 only if a daemon delivers: it leads, receives requests, and can read and write the
    bucket. Exits 5 if no daemon delivers, 1 if daemons with different buckets take the same
    requests.

    With --failing, exits 0 if nothing fails, 1 if anything does, 2 or more on an error. That needs
    no daemon.
    """

    def check(out: Output) -> bool:
        if failing and watch:
            raise SettingsError("give either --failing or --watch")
        return True

    async def work(session: Session) -> int:
        if failing:
            return await _show_failing(session)
        if watch:
            seen = await View(session, interval, count).run()
            return _verdict(session, seen.replicas, seen.rivals)
        return await _show(session)

    connected(
        *(ctx, given, work), header=not no_header, before=check, failed=USAGE if failing else FAILED
    )


async def _show(session: Session) -> int:
    client = session.client
    bucket = await client.bucket()
    replicas, rivals, workers = await asyncio.gather(
        client.replicas(), client.rivals(), _workers(client)
    )
    counts = await client.count()
    if session.out.is_json:
        record = _record(client.server, bucket, counts, replicas)
        record["rivals"] = [asdict(one) for one in rivals]
        record["workers"] = None if workers is None else list(map(worker_record, workers))
        session.out.json(record)
    elif session.out.format == "id":
        session.out.all(DAEMONS, replicas)
    else:
        _print(session, bucket, counts, replicas)
        _print_workers(session.out, workers or [])
    return _verdict(session, replicas, rivals)


async def _show_failing(session: Session) -> int:
    found = await session.client.failing()
    session.out.all(FAILING, found)
    if not found:
        session.out.say("nothing fails")
    return FAILED if found else DONE


async def _workers(client: Client) -> list[WorkerInfo] | None:
    """Return the workers; None if this user may not ask for them."""
    try:
        return await client.workers()
    except NotAllowedError:
        return None


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


def _record(
    server: Server, bucket: BucketInfo | None, counts: Counts, replicas: Sequence[Replica]
) -> dict[str, Any]:
    return {
        "server": {"name": server.name, "version": server.version, "address": server.address},
        "bucket": bucket_record(bucket),
        **_numbers(counts),
        "runs": {state: counts.runs.get(state, 0) for state in _RUNS},
        "next_due": times.utc(counts.next_due) if counts.next_due is not None else None,
        "daemons": [daemon_record(one) for one in replicas],
        "delivers": any(one.delivers for one in replicas),
    }


_RUNS = ("running", "retrying", "pending", "failed")
"""The states of runs, as they are shown."""


def _numbers(counts: Counts) -> dict[str, int]:
    return {
        "schedules": counts.schedules,
        "overdue": counts.overdue,
        "paused": counts.paused,
        "failed": counts.failed,
        "invalid": counts.invalid,
        "failing": counts.failing,
    }


def _print(
    session: Session, bucket: BucketInfo | None, counts: Counts, replicas: list[Replica]
) -> None:
    out, server, next_due = session.out, session.client.server, counts.next_due
    lines = {
        "server": f"{server.name} {server.version}, {server.address}",
        "bucket": bucket_words(session.client.settings.bucket, bucket),
    } | {name: str(number) for name, number in _numbers(counts).items()}
    runs = [f"{counts.runs[state]} {state}" for state in _RUNS if counts.runs.get(state)]
    lines["runs"] = ", ".join(runs) or "0"
    if not out.is_for_people:
        for name, value in lines.items():
            out.write_fields(name, value)
        out.write_fields("next_due", times.utc(next_due) if next_due else "")
        if replicas and out.header:
            out.write_fields("DAEMON", "NAME", *COLUMNS)
        for one in replicas:
            out.write_fields("daemon", *daemon_texts(one))
        for problem in problems(replicas):
            out.write_fields("problem", problem)
        return
    shown: list[tuple[str, Cell]] = list(lines.items())
    if next_due is not None:
        left = times.left(next_due, datetime.now(UTC))
        shown.append(("next due", f"{times.local(next_due, with_zone=True)}, {left}"))
    shown += [("problem", (problem, "red")) for problem in problems(replicas)]
    screen = console()
    screen.print(facts(shown))
    if replicas:
        screen.print()
        screen.print(table(DAEMONS, replicas, header=out.header))


def _print_workers(out: Output, workers: list[WorkerInfo]) -> None:
    if not workers:
        return
    if out.is_for_people:
        screen = console()
        screen.print()
        screen.print(table(WORKERS, workers, header=out.header))
        return
    if out.header:
        out.write_fields("WORKER", "HOST", *WORKER_COLUMNS)
    for one in workers:
        out.write_fields("worker", *worker_texts(one))
