"""`gozoctl list --watch`: follows changes of schedules."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from gozoctl.output import times
from gozoctl.output.printer import Lines, TableSpec, console, has_escapes, live, table
from gozoctl.output.schedules import ORDERS, Filter, Order, record, sheet_for
from gozoctl.session import Session, while_read

if TYPE_CHECKING:
    from gozo.client import Change, Schedule

REFRESH = 0.5  # seconds between two frames of a table: the time left changes without an event
FRAME = 4  # lines of a terminal that a table of schedules does not use


def _fields(change: Change) -> tuple[str, ...]:
    schedule = change.schedule
    return (
        change.kind,
        "" if change.at is None else times.utc(change.at),
        change.id or "",
        "" if schedule is None else times.utc(schedule.due),
        "" if schedule is None else schedule.subject,
        change.reason,
    )


def _record(change: Change) -> dict[str, Any]:
    at = None if change.at is None else times.utc(change.at)
    found: dict[str, Any] = {"change": change.kind}
    if change.schedule is not None:
        return found | {"at": at} | record(change.schedule)
    if change.kind == "removed":
        found |= {"at": at, "id": change.id, "reason": change.reason}
    return found


def _name(change: Change) -> str | None:
    return change.id if change.kind != "current" else None


CHANGES: TableSpec[Change] = TableSpec(
    ("CHANGE", "AT", "ID", "DUE", "SUBJECT", "REASON"), _fields, _fields, _record, _name
)


async def watch(
    session: Session,
    subject: str | None,
    kept: Filter,
    order: Order,
    *,
    reverse: bool,
    limit: int | None,
) -> None:
    """Print all schedules, then each change; in a terminal, a table that follows the changes."""
    changes = _selected(session, subject, kept)
    if session.out.is_for_people and has_escapes():
        await _follow(changes, order, reverse=reverse, limit=limit)
        return
    lines = Lines(session.out, CHANGES)
    lines.begin()
    with while_read():
        async for change in changes:
            lines.put(change)
            session.out.flush()


async def _selected(session: Session, subject: str | None, kept: Filter) -> AsyncIterator[Change]:
    """Iterate over the changes of the selected schedules.

    A schedule that is no longer selected, because its time or subject changed, counts as removed.
    """
    from gozo.client import Change  # noqa: PLC0415  # not needed for --help
    from gozo.client.decoding import matcher  # noqa: PLC0415

    pattern = None if subject is None else matcher(subject)
    shown: set[str] = set()
    async for change in session.client.watch():
        schedule = change.schedule
        if change.kind == "current":
            yield change
        elif (
            schedule is not None
            and kept.matches(schedule)
            and (pattern is None or pattern.match(schedule.subject))
        ):
            shown.add(change.key)
            yield change
        elif change.key in shown:
            shown.remove(change.key)
            yield (
                change
                if schedule is None
                else Change("removed", change.key, change.id, reason="changed", at=change.at)
            )


async def _follow(
    changes: AsyncIterator[Change], order: Order, *, reverse: bool, limit: int | None
) -> None:
    """Show a live table until the changes end, with an error or Ctrl-C."""
    present: dict[str, Schedule] = {}
    screen = console()

    def frame() -> Any:
        shown = sorted(present.values(), key=ORDERS[order], reverse=reverse)
        most = max(screen.height - FRAME, 1)
        shown = shown[: most if limit is None else min(limit, most)]
        return table(sheet_for(shown), shown, screen.width)

    async def refresh(show: Callable[[Any], None]) -> None:
        while True:
            show(frame())
            await asyncio.sleep(REFRESH)

    with live(screen) as show:
        ticker = asyncio.create_task(refresh(show), name="refresh the table")
        try:
            async for change in changes:
                if change.schedule is not None:
                    present[change.key] = change.schedule
                else:
                    present.pop(change.key, None)
        finally:
            ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticker
