"""`gozoctl create`, `reschedule` and `cancel`: what changes schedules."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gozo.commandline import takes
from gozo.errors import SettingsError
from gozoctl import completing, times
from gozoctl.exit_codes import DONE, FAILED, NOT_FOUND
from gozoctl.output import Sheet, ask, can_ask
from gozoctl.schedules import SHEET, Filter
from gozoctl.selecting import explain_nothing, select
from gozoctl.session import OPTIONS, Session, connected

if TYPE_CHECKING:
    from gozo.client import Cancelled, Schedule, Stored


def _cancelled(one: Cancelled) -> tuple[str, ...]:
    return one.id, one.status


def _cancelled_record(one: Cancelled) -> dict[str, str]:
    return {"id": one.id, "status": one.status}


def _cancelled_name(one: Cancelled) -> str | None:
    return one.id if one.status == "cancelled" else None


CANCELLED: Sheet[Cancelled] = Sheet(
    ("ID", "STATUS"), _cancelled, _cancelled, _cancelled_record, _cancelled_name
)


@takes(OPTIONS)
def cancel(
    ctx: typer.Context,
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ID",
            help="What to cancel; - reads ids from standard input, one a line.",
            autocompletion=completing.ids,
            show_default=False,
        ),
    ] = None,
    *,
    subject: Annotated[
        str | None,
        typer.Option(
            metavar="PATTERN",
            help="Cancel all that is sent there; * and > are wildcards, as in NATS.",
            autocompletion=completing.subjects,
        ),
    ] = None,
    id_: Annotated[
        str | None,
        typer.Option("--id", metavar="GLOB", help="Cancel all ids like this."),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Cancel all schedules.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be cancelled, and do nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    ignore_missing: Annotated[
        bool,
        typer.Option("--ignore-missing", help="Exit 0 even if there was nothing to cancel."),
    ] = False,
    no_header: Annotated[
        bool, typer.Option("--no-header", help="Leave out the names of the columns.")
    ] = False,
    **given: Any,
) -> None:
    """Cancel schedules.

    Answers for each: `cancelled`, `already_delivered` (known for ten minutes), or `not_found`.
    `cancelled` is final: nothing will be delivered.
    """

    async def work(session: Session) -> int:
        if bool(ids) == (all_ or subject is not None or id_ is not None):
            raise SettingsError("give ids, or one of --subject, --id and --all, and not both")
        wanted = _read_ids(ids or [])
        if not ids:
            found = await select(session.client, subject, Filter(id_))
            wanted = [one.id for one in found if one.id is not None]
            if not _may_cancel(session, found, dry_run=dry_run, yes=yes):
                return FAILED
            if not found:
                await explain_nothing(session)
        elif dry_run:
            got = [await session.client.get(one) for one in wanted]
            session.out.all(SHEET, [one for one in got if one is not None])
        answers = [] if dry_run else await session.client.cancel(*wanted)
        if not dry_run:
            session.out.all(CANCELLED, answers)
        if ignore_missing or all(one.status == "cancelled" for one in answers):
            return DONE
        # In bulk, what was delivered in the meantime is no failure.
        return NOT_FOUND if ids else DONE

    connected(ctx, given, work, header=not no_header)


def _may_cancel(session: Session, found: list[Schedule], *, dry_run: bool, yes: bool) -> bool:
    """Show what would be cancelled, or ask; False for a no."""
    without = sum(one.id is None for one in found)
    if without:
        session.out.say(f"left out: {without} without an id, which cannot be cancelled")
    if dry_run:
        session.out.all(SHEET, [one for one in found if one.id is not None])
        return True
    count = len(found) - without
    if yes or not count:
        return True
    if not can_ask():
        raise SettingsError(f"this would cancel {count}: give --yes to do it without a question")
    return ask(f"Cancel {count} schedule{'s' * (count != 1)}?")


def _read_ids(ids: list[str]) -> list[str]:
    if ids != ["-"]:
        return ids
    return [id_ for line in sys.stdin if (id_ := line.rstrip("\r\n"))]


In = Annotated[
    str | None,
    typer.Option(
        "--in", metavar="DELAY", help="Due so much later: seconds, or a duration such as 1h30m."
    ),
]
At = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="TIME",
        help="Due then: 17:30, '2026-12-24 18:00' (local time), or RFC 3339.",
    ),
]
When = Annotated[
    str | None,
    typer.Option(
        "--when", metavar="EXPR", help="Due when the expression says: see gozo-protocol(7)."
    ),
]
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
    **given: Any,
) -> None:
    """Store a schedule, whether or not a daemon runs.

    Prints the id once it is stored: it will be delivered, then or as soon as a daemon runs.
    """

    async def work(session: Session) -> None:
        stored = await session.client.schedule(
            subject,
            read_payload(text, payload, file),
            when=times.expression(in_=in_, at=at, when=when, now=session.now),
            id=id_,
            headers=read_headers(header),
            replace=not no_replace,
            confirm=confirm,
            attempts=attempts,
        )
        print_stored(session, stored)

    connected(ctx, given, work)


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
    **given: Any,
) -> None:
    """Give a schedule another due time, and keep the rest."""

    async def work(session: Session) -> None:
        expression = times.expression(in_=in_, at=at, when=when, now=session.now)
        print_stored(session, await session.client.reschedule(id_, expression))

    connected(ctx, given, work)


def print_stored(session: Session, stored: Stored) -> None:
    """Print the id of what was stored, and for people when it is due."""
    out = session.out
    if out.is_json:
        out.json(stored_record(stored))
        return
    out.write(stored.id or "-")
    if out.is_terminal:
        replaced = ", in the place of an earlier one" if stored.replaced else ""
        out.say(f"due {session.written(stored.due)}{replaced}")


def stored_record(stored: Stored) -> dict[str, Any]:
    """Return what JSON says of what was stored."""
    return {
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
        return sys.stdin.buffer.read()
    if file is not None:
        try:
            return Path(file).read_bytes()
        except OSError as error:
            raise SettingsError(
                f"--file {file!r} cannot be read ({error.strerror}): give another"
            ) from error
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
