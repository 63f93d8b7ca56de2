"""`gozoctl create`, `reschedule` and `cancel`: what changes schedules."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gozo.cli.options import takes
from gozo.errors import SettingsError
from gozoctl.exit_codes import DONE, FAILED
from gozoctl.options import bulk as many
from gozoctl.options import completion as completing
from gozoctl.options import moments
from gozoctl.options.bulk import BulkSelection
from gozoctl.options.confirmation import FarOk, PastOk, agree
from gozoctl.options.files import STDIN, read_bytes
from gozoctl.options.timing import (
    At,
    Count,
    Cron,
    Every,
    In,
    Jitter,
    MisfireGrace,
    MisfireOption,
    Start,
    TimeZone,
    Timing,
    Until,
    When,
    naming,
)
from gozoctl.output import times
from gozoctl.output.printer import Output
from gozoctl.session import (
    OPTIONS,
    NoHeader,
    Session,
    connected,
    tell_if_nobody_delivers,
)

if TYPE_CHECKING:
    from gozo.client import Stored


@takes(OPTIONS)
def cancel(
    ctx: typer.Context,
    ids: many.Ids = None,
    *,
    subject: many.Subject = None,
    id_: many.Glob = None,
    all_: many.All = False,
    dry_run: many.DryRun = False,
    yes: many.Yes = False,
    ignore_missing: Annotated[
        bool,
        typer.Option("--ignore-missing", help="Exit 0 even if there was nothing to cancel."),
    ] = False,
    no_header: NoHeader = False,
    **given: Any,
) -> None:
    """Cancel schedules.

    Answers for each: `cancelled`, `already_delivered`, or `not_found`. `cancelled` is final:
    nothing will be delivered. `already_delivered` is known for ten minutes; to a daemon that was
    started after the delivery, for ten seconds or more.
    """
    meant = BulkSelection("cancel", "cancelled", ids, subject, id_, all_, dry_run, yes)

    async def work(session: Session) -> int:
        found = await meant.find(session)
        if found is None:
            return FAILED
        code = meant.finish(session, await session.client.cancel(*found))
        return DONE if ignore_missing else code

    connected(ctx, given, work, header=not no_header)


HeaderLines = Annotated[
    list[str] | None,
    typer.Option(
        "--header",
        "-H",
        metavar="NAME:VALUE",
        help="A header to pass on with the message; may be given more than once.",
        show_default=False,
    ),
]
Confirm = Annotated[
    bool,
    typer.Option("--confirm", help="It counts as delivered only once a stream has stored it."),
]
Attempts = Annotated[
    int, typer.Option(min=0, metavar="N", help="Try so often, with --confirm; 0 is without end.")
]


@takes(OPTIONS)
def create(
    ctx: typer.Context,
    id_: Annotated[str, typer.Argument(metavar="ID", help="What to call it.")],
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="Where to send it.")],
    text: Annotated[
        str | None,
        typer.Argument(
            metavar="PAYLOAD",
            help="What to send; - reads it from standard input.",
            show_default=False,
        ),
    ] = None,
    *,
    in_: In = None,
    at: At = None,
    when: When = None,
    cron: Cron = None,
    every: Every = None,
    time_zone: TimeZone = None,
    start: Start = None,
    until: Until = None,
    count: Count = None,
    jitter: Jitter = None,
    misfire: MisfireOption = None,
    misfire_grace: MisfireGrace = None,
    payload: Annotated[str | None, typer.Option(metavar="TEXT", help="What to send.")] = None,
    file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Send what is in a file; - is standard input."),
    ] = None,
    header: HeaderLines = None,
    no_replace: Annotated[
        bool, typer.Option("--no-replace", help="Fail if there is a schedule with this id.")
    ] = False,
    confirm: Confirm = False,
    attempts: Attempts = 0,
    protect: Annotated[
        bool,
        typer.Option(
            "--protect",
            help="Requests can neither replace nor cancel it; only administrators can.",
        ),
    ] = False,
    past_ok: PastOk = False,
    yes: FarOk = False,
    **given: Any,
) -> None:
    """Store a schedule, whether or not a daemon runs.

    Prints the id once it is stored: it will be delivered, then or as soon as a daemon runs.
    With --cron, --every, or such an expression in --when, it is delivered again and again.
    """
    now = datetime.now(UTC)
    timing = Timing(
        *(now, in_, at, when, cron, every, time_zone),
        *(start, until, count, jitter, misfire, misfire_grace),
    )

    def before(out: Output) -> bool:
        return agree(out, timing, past_ok=past_ok, yes=yes, word=text)

    async def work(session: Session) -> None:
        with naming(timing.given[0]):
            stored = await session.client.schedule(
                subject,
                read_payload(text, payload, file),
                id=id_,
                headers=read_headers(header),
                replace=not no_replace,
                confirm=confirm,
                attempts=attempts,
                protect=protect,
                **timing.arguments(),
            )
        print_stored(session, stored, timing.zone)
        await tell_if_nobody_delivers(session)

    connected(ctx, given, work, before=before)


@takes(OPTIONS)
def reschedule(
    ctx: typer.Context,
    id_: Annotated[
        str, typer.Argument(metavar="ID", help="What to move.", autocompletion=completing.ids)
    ],
    *,
    in_: In = None,
    at: At = None,
    when: When = None,
    past_ok: PastOk = False,
    yes: FarOk = False,
    **given: Any,
) -> None:
    """Give a schedule another due time, and keep the rest."""
    timing = Timing(datetime.now(UTC), in_, at, when, ways=moments.WAYS[:3])

    async def work(session: Session) -> None:
        with naming(timing.given[0]):
            stored = await session.client.reschedule(id_, timing.expression)
        print_stored(session, stored)
        await tell_if_nobody_delivers(session)

    connected(ctx, given, work, before=lambda out: agree(out, timing, past_ok=past_ok, yes=yes))


def print_stored(session: Session, stored: Stored, zone: str | None = None) -> None:
    """Print the id of what was stored, and for people when it is due."""
    out = session.out
    if out.is_json:
        out.json(stored_record(stored, zone))
        return
    out.write(stored.id or "-")
    if out.is_terminal:
        clocks = f", by the clocks of {zone}" if zone else ""
        replaced = ", in the place of an earlier one" if stored.replaced else ""
        out.say(f"due {session.written(stored.due)}{clocks}{replaced}")


def stored_record(stored: Stored, zone: str | None = None) -> dict[str, Any]:
    """Return what JSON says of what was stored."""
    named = {"time_zone": zone} if zone else {}
    return named | {
        "id": stored.id,
        "due": times.utc(stored.due),
        "due_epoch": times.epoch(stored.due),
        "replaced": stored.replaced,
    }


def read_payload(*given: str | None) -> bytes:
    """Return the payload: of the argument, of --payload, of --file; nothing without them.

    Raises:
        SettingsError: more than one was given, or the file cannot be read.
    """
    argument, text, file = given
    if sum(one is not None for one in given) > 1:
        raise SettingsError("give the payload once: as argument, with --payload, or with --file")
    if "-" in (argument, file):
        return read_bytes(STDIN, "standard input")
    if file is not None:
        return read_bytes(file, f"--file {file!r}")
    return (argument or text or "").encode("utf-8", "surrogateescape")


def read_headers(lines: list[str] | None) -> list[tuple[str, str]]:
    """Split `Name: value`.

    Raises:
        SettingsError: a colon is missing.
    """
    headers = []
    for line in lines or ():
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise SettingsError(f"--header {line!r} is no header: give it as 'Name: value'")
        headers.append((name.strip(), value.strip()))
    return headers
