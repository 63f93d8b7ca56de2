"""Declares what selects schedules and events; finds and reads the schedules."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from gozoctl.options import completion
from gozoctl.output.schedules import ORDERS, Filter, Order
from gozoctl.session import Session

if TYPE_CHECKING:
    from gozo.client import Client, Schedule

OnlySubject = Annotated[
    str | None,
    typer.Option(
        "--subject",
        metavar="PATTERN",
        help="Only schedules for this subject; * and > are wildcards, as in NATS.",
        autocompletion=completion.subjects,
    ),
]

OfSchedule = Annotated[
    str | None,
    typer.Argument(
        metavar="ID",
        help="Only events of this schedule.",
        show_default=False,
        autocompletion=completion.ids,
    ),
]

AT_ONCE = 200  # schedules to read concurrently
SLACK = 5_000  # schedules to collect beyond a limit before sorting them


async def select(
    client: Client,
    subject: str | None,
    kept: Filter,
    sort: Order = Order.DUE,
    *,
    reverse: bool = False,
    limit: int | None = None,
) -> list[Schedule]:
    """Return the selected schedules in order; holds no more in memory than needed."""
    found: list[Schedule] = []
    order = ORDERS[sort]
    async for schedule in client.list(subject=subject):
        if not kept.matches(schedule):
            continue
        found.append(schedule)
        if limit is not None and len(found) > limit + SLACK:
            found.sort(key=order, reverse=reverse)
            del found[limit:]
    found.sort(key=order, reverse=reverse)
    return found if limit is None else found[:limit]


async def explain_nothing(session: Session) -> None:
    """Report that there are no schedules, and why if that is known."""
    if await session.client.bucket() is None:
        bucket = session.client.settings.bucket
        session.out.say(f"no schedules: the bucket {bucket!r} does not exist yet")
    else:
        session.out.say("no schedules")


async def read_whole(client: Client, ids: Sequence[str]) -> list[Schedule | None]:
    """Read schedules with their payloads; None for each that no longer exists."""
    found: list[Schedule | None] = []
    for start in range(0, len(ids), AT_ONCE):
        some = ids[start : start + AT_ONCE]
        found += await asyncio.gather(*(client.get(id_) for id_ in some))
    return found
