"""`gozoctl send` and `gozoctl listen`: to try whether messages come, and when."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gozo.cli.options import takes
from gozoctl.commands.create import (
    Attempts,
    Confirm,
    HeaderLines,
    print_stored,
    read_headers,
    read_payload,
    stored_record,
)
from gozoctl.commands.inspect import payload_record, preview
from gozoctl.exit_codes import DONE, NO_ANSWER
from gozoctl.options import completion as completing
from gozoctl.options.confirmation import FarOk, PastOk, agree
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
from gozoctl.output.printer import Lines, Output, TableSpec
from gozoctl.session import OPTIONS, NoHeader, Session, connected, while_read

if TYPE_CHECKING:
    from gozo.client import Listening, Message, Stored

MARK = "Gozoctl-Send"
"""A header that tells the delivery of one's own request from others."""

GRACE = 10.0  # seconds after the due time that a delivery is waited for


@dataclass(frozen=True, slots=True)
class Arrival:
    """A message that came, and how late it was."""

    message: Message
    late_ms: float | None
    """None where it does not say when it was due."""


def arrival(message: Message) -> Arrival:
    """Work out how late a message came, by this host's clock."""
    late = None
    for name, value in message.headers:
        if name.lower() == "gozo-due":
            try:
                late = (message.at - datetime.fromisoformat(value)).total_seconds() * 1000
            except (ValueError, TypeError):
                late = None
    return Arrival(message, late)


def _late(one: Arrival) -> str:
    return "-" if one.late_ms is None else f"{one.late_ms:.1f}"


def _fields(one: Arrival) -> tuple[str, ...]:
    message = one.message
    return times.utc(message.at), _late(one), message.subject, preview(message.payload)


def _cells(one: Arrival) -> tuple[str, ...]:
    clock = f"{one.message.at.astimezone():%H:%M:%S.%f}"[:-3]
    late = f"{_late(one)} ms" if one.late_ms is not None else "-"
    return clock, late, one.message.subject, preview(one.message.payload)


def _record(one: Arrival) -> dict[str, Any]:
    headers: dict[str, list[str]] = {}
    for name, value in one.message.headers:
        headers.setdefault(name, []).append(value)
    return {
        "subject": one.message.subject,
        "at": times.utc(one.message.at),
        "late_ms": None if one.late_ms is None else round(one.late_ms, 3),
        "headers": headers,
    } | payload_record(one.message.payload)


def _name(one: Arrival) -> str | None:
    return next((value for name, value in one.message.headers if name == "Gozo-Id"), None)


ARRIVALS: TableSpec[Arrival] = TableSpec(
    ("TIME", "LATE_MS", "SUBJECT", "PAYLOAD"), _cells, _fields, _record, _name
)


@takes(OPTIONS)
def send(
    ctx: typer.Context,
    subject: Annotated[
        str,
        typer.Argument(
            metavar="SUBJECT", help="Where to send it.", autocompletion=completing.subjects
        ),
    ],
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
    id_: Annotated[str | None, typer.Option("--id", metavar="ID", help="What to call it.")] = None,
    header: HeaderLines = None,
    confirm: Confirm = False,
    attempts: Attempts = 0,
    past_ok: PastOk = False,
    yes: FarOk = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the delivery, and print how late it was.")
    ] = False,
    timeout: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="Wait so long after the due time.", min=0.0),
    ] = GRACE,
    **given: Any,
) -> None:
    """Send a request through the daemon, as a client would.

    Asks for a receipt, and prints it: the id, and when it is due. What recurs needs --id.
    """
    now = datetime.now(UTC)
    timing = Timing(
        *(now, in_, at, when, cron, every, time_zone),
        *(start, until, count, jitter, misfire, misfire_grace),
    )

    def before(out: Output) -> bool:
        return agree(out, timing, past_ok=past_ok, yes=yes, word=text)

    async def work(session: Session) -> int:
        mark = secrets.token_hex(8)
        headers = read_headers(header) + ([(MARK, mark)] if wait else [])
        payload = read_payload(text, None, None)

        async def request() -> Stored:
            with naming(timing.given[0]):
                stored = await session.client.request(
                    subject,
                    payload,
                    id=id_,
                    headers=headers,
                    confirm=confirm,
                    attempts=attempts,
                    receipt=True,
                    **timing.arguments(),
                )
            assert stored is not None
            return stored

        if not wait:
            print_stored(session, await request(), timing.zone)
            return DONE
        async with session.client.listen(subject) as messages:
            stored = await request()
            return await _await_delivery(session, messages, mark, stored, timeout)

    connected(ctx, given, work, before=before)


async def _await_delivery(
    session: Session, messages: Listening, mark: str, stored: Stored, grace: float
) -> int:
    """Print a receipt, then the delivery that belongs to it."""
    out = session.out
    if out.is_json:
        out.json(stored_record(stored))
    else:
        out.say(f"stored, due {session.written(stored.due)}")
    out.flush()
    bound = max((stored.due - datetime.now(UTC)).total_seconds(), 0) + grace
    try:
        async with asyncio.timeout(bound):
            async for message in messages:
                if (MARK, mark) in message.headers:
                    Lines(out, ARRIVALS).put(arrival(message))
                    return DONE
    except TimeoutError:
        out.fail(f"no delivery came within {grace:g} s after the due time")
    return NO_ANSWER


@takes(OPTIONS)
def listen(
    ctx: typer.Context,
    subject: Annotated[
        str,
        typer.Argument(
            metavar="SUBJECT",
            help="Where to listen; * and > are wildcards.",
            autocompletion=completing.subjects,
        ),
    ],
    *,
    count: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="End after so many messages.")
    ] = None,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="End after so long.", min=0.0)
    ] = None,
    no_header: NoHeader = False,
    **given: Any,
) -> None:
    """Print messages as they come, and how late those of gozo are.

    How late is in milliseconds, by this machine's clock, where a delivery says when it was due;
    else it is `-`. Exits 5 if --timeout ends it before --count messages, or any, have come.
    """

    async def work(session: Session) -> int:
        lines = Lines(session.out, ARRIVALS)
        got = 0
        try:
            with while_read():
                async with asyncio.timeout(timeout), session.client.listen(subject) as messages:
                    session.out.say(f"listening on {subject}")
                    lines.begin()
                    session.out.flush()
                    async for message in messages:
                        lines.put(arrival(message))
                        session.out.flush()
                        got += 1
                        if got == count:
                            return DONE
        except TimeoutError:
            if got == 0 or count is not None:
                wanted = f"{got} of {count}" if count else "no"
                session.out.fail(f"{wanted} messages came within {timeout:g} s")
                return NO_ANSWER
        return DONE

    connected(ctx, given, work, header=not no_header)
