"""`gozoctl next`: shows when an expression or a schedule is due next."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from itertools import islice
from typing import Annotated, Any, NamedTuple

import typer

from gozo.cli.options import merged, takes
from gozo.errors import RequestError, SettingsError
from gozo.settings.sources import Sources
from gozoctl.exit_codes import DONE, NOT_FOUND
from gozoctl.options import completion
from gozoctl.options.time_zones import offered
from gozoctl.options.timing import default_zone, naming, zone_of
from gozoctl.output import times
from gozoctl.output.printer import Output, TableSpec
from gozoctl.output.schedules import is_coming
from gozoctl.session import OPTIONS, NoHeader, Session, connected, finish, output_of


class Occurrence(NamedTuple):
    """One time at which something is due."""

    due: datetime
    zone: tzinfo | None
    """The time zone to show to people; None: this machine's."""


def _cells(one: Occurrence) -> tuple[str, ...]:
    shown = times.local(one.due, with_zone=True, zone=one.zone)
    return shown, times.left(one.due, datetime.now(UTC))


def _fields(one: Occurrence) -> tuple[str, ...]:
    left = (one.due - datetime.now(UTC)).total_seconds()
    return times.utc(one.due), str(round(left, 3))


def _record(one: Occurrence) -> dict[str, Any]:
    return {"due": times.utc(one.due), "due_epoch": times.epoch(one.due)}


OCCURRENCES: TableSpec[Occurrence] = TableSpec(
    ("DUE", "LEFT"), _cells, _fields, _record, lambda one: times.utc(one.due)
)


@takes(OPTIONS)
def command(
    ctx: typer.Context,
    expression: Annotated[
        str | None,
        typer.Argument(
            metavar="EXPR",
            help="Expression, such as '0 2 * * mon-fri' or '@every 90s'; see gozo-protocol(7).",
            show_default=False,
        ),
    ] = None,
    *,
    id_: Annotated[
        str | None,
        typer.Option(
            "--id", metavar="ID", help="Id of a stored schedule.", autocompletion=completion.ids
        ),
    ] = None,
    count: Annotated[int, typer.Option(min=1, metavar="N", help="Number of times to show.")] = 5,
    time_zone: Annotated[
        str | None,
        typer.Option(
            "--time-zone",
            "--tz",
            metavar="ZONE",
            help="Time zone of a cron expression, such as Europe/Malta; default: this machine's.",
            autocompletion=offered,
            show_default=False,
        ),
    ] = None,
    no_header: NoHeader = False,
    **given: Any,
) -> None:
    """Show when an expression or a stored schedule is due next.

    An expression needs no server; an interval counts from now. Times are in the time zone of the
    expression on a terminal, else in UTC.
    """
    if (expression is None) == (id_ is None):
        finish(_refuse)
    if id_ is not None:

        async def work(session: Session) -> int:
            return await _of_stored(session, id_, count, time_zone)

        connected(ctx, given, work, header=not no_header)

    def do() -> int:
        from gozo.client import times_of  # noqa: PLC0415  # not needed for --help

        assert expression is not None
        out = output_of(Sources.load(merged(ctx.obj, given)), header=not no_header)
        with naming("EXPR"), _pointing_to_id(expression):
            zone = time_zone or default_zone(expression)
            shown = None if zone is None else zone_of(zone)
            now = datetime.now(UTC)
            _print(out, islice(times_of(expression, now, zone or ""), count), shown)
        return DONE

    finish(do)


async def _of_stored(session: Session, id_: str, count: int, time_zone: str | None) -> int:
    from gozo.client import next_times  # noqa: PLC0415

    if time_zone is not None:
        raise SettingsError("--time-zone needs an expression: a stored schedule has its own")
    schedule = await session.client.get(id_)
    if schedule is None:
        session.out.fail(f"no schedule {id_!r}")
        return NOT_FOUND
    spec = schedule.spec
    zone = zone_of(spec.zone) if spec is not None and spec.zone else None
    _print(session.out, islice(next_times(schedule, session.now), count), zone)
    if not is_coming(schedule):
        session.out.say(f"it will not be delivered while it is {schedule.state}")
    elif schedule.state != "pending":
        session.out.say(f"it is {schedule.state}")
    return DONE


@contextmanager
def _pointing_to_id(expression: str) -> Iterator[None]:
    """Add to the error of an invalid expression how to give an id.

    Raises:
        RequestError: the same, with the advice.
    """
    try:
        yield
    except RequestError as error:
        if " " in expression or expression.startswith("@"):
            raise
        id_ = shlex.quote(expression)
        raise RequestError(error.code, f"{error}; for a stored schedule, use --id {id_}") from error


def _print(out: Output, moments: Iterable[datetime], zone: tzinfo | None) -> None:
    out.all(OCCURRENCES, (Occurrence(one, zone) for one in moments))


def _refuse() -> int:
    raise SettingsError("give either an expression, or the id of a stored schedule with --id")
