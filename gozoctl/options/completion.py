"""Completes ids and subjects of existing schedules, and names of streams.

It has to be quick and silent: without a server, it offers nothing. It reads no file of the working
directory, since TAB may be pressed anywhere.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from gozo.cli.options import Given, merged
from gozo.errors import GozoError
from gozo.settings.options import CONNECTION
from gozo.settings.resolve import resolve_connection
from gozo.settings.sources import Sources

if TYPE_CHECKING:
    from gozo.client import Client

LONGEST = 0.45  # seconds in total
MOST = 1_000  # offers


def ids(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Offer ids, each with its subject and the time left."""
    from gozoctl.output.times import left  # noqa: PLC0415  # not needed for --help

    now = datetime.now(UTC)
    found = {id_: (subject, due) for id_, subject, due in _found(ctx, incomplete, by_id=True)}
    return [(id_, f"{subject}, {left(due, now)}") for id_, (subject, due) in found.items()]


def subjects(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer subjects."""
    return sorted({subject for _, subject, _ in _found(ctx, incomplete, by_id=False)})


def streams(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the names of streams."""
    found: list[str] = []
    with contextlib.suppress(GozoError, TimeoutError):
        asyncio.run(_list(ctx, found))
    return sorted(name for name in found if name.startswith(incomplete))


async def _list(ctx: typer.Context, found: list[str]) -> None:
    async with _client(ctx) as client:
        found += await client.streams()


def _found(ctx: typer.Context, begun: str, *, by_id: bool) -> Iterator[tuple[str, str, datetime]]:
    found: list[tuple[str, str, datetime]] = []
    with contextlib.suppress(GozoError, TimeoutError):
        asyncio.run(_search(ctx, begun, found, by_id=by_id))
    return iter(sorted(found))


async def _search(
    ctx: typer.Context, begun: str, found: list[tuple[str, str, datetime]], *, by_id: bool
) -> None:
    async with _client(ctx) as client:
        async for schedule in client.list(prefix=begun if by_id else ""):
            name = schedule.id if by_id else schedule.subject
            if schedule.id is not None and name is not None and name.startswith(begun):
                found.append((schedule.id, schedule.subject, schedule.due))
                if len(found) >= MOST:
                    return


@asynccontextmanager
async def _client(ctx: typer.Context) -> AsyncIterator[Client]:
    """Connect, for as long as completion may take."""
    from gozo.client import Client  # noqa: PLC0415  # not needed for --help

    settings = resolve_connection(Sources.load(_given(ctx), local=None))
    async with asyncio.timeout(LONGEST):
        async with await Client.connect(settings, timeout=LONGEST, name="gozoctl") as client:
            yield client


def _given(ctx: typer.Context) -> Given:
    """Return the connection options on the line, before the command or after it."""
    names = [option.identifier for option in CONNECTION]
    before = ctx.parent.params if ctx.parent is not None else {}
    one, two = ({name: params.get(name) for name in names} for params in (before, ctx.params))
    return merged(one, two)
