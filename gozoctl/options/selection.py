"""Finds the schedules that a command means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gozoctl.options import completion as completing
from gozoctl.output.schedules import ORDERS, Filter, Order
from gozoctl.session import Session

if TYPE_CHECKING:
    from gozo.client import Client, Schedule

OnlySubject = Annotated[
    str | None,
    typer.Option(
        "--subject",
        metavar="PATTERN",
        help="Only what is sent there; * and > are wildcards, as in NATS.",
        autocompletion=completing.subjects,
    ),
]

SLACK = 5_000  # schedules that are kept beyond a limit before they are sorted out


async def select(
    client: Client,
    subject: str | None,
    kept: Filter,
    sort: Order = Order.DUE,
    *,
    reverse: bool = False,
    limit: int | None = None,
) -> list[Schedule]:
    """Return the schedules that are meant, in order; holds no more than needed at a time."""
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
    """Say why nothing was found."""
    if await session.client.bucket() is None:
        bucket = session.client.settings.bucket
        session.out.say(f"there are no schedules: the bucket {bucket!r} does not exist yet")
    else:
        session.out.say("no schedules")
