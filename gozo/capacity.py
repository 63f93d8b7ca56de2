"""What `gozo check` finds out about connections: their limits, and where requests go."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple

from gozo.administration import VERBS
from gozo.connection import ATTEMPT, Connection
from gozo.entries import block
from gozo.errors import DisconnectedError, GozoError, NoServerError
from gozo.policy import LONGEST_SUBJECT
from gozo.settings import ConnectionSettings

SUBSCRIPTIONS = len(VERBS) + 20
"""That a daemon has on one connection, at most: for requests, verbs and answers."""

TRACES_SINCE = (2, 11)
"""Before this version of nats-server there is no tracing, and the question would be delivered."""

TRIES = 8
"""Messages that are traced on each subject, since mappings have weights."""

TRACE_TIME = 1.0  # seconds


class Route(NamedTuple):
    """Where the server takes what is published on a subject (ADR-41)."""

    mapped: str = ""
    """Another subject that it becomes, if the account maps it."""
    streams: frozenset[str] = frozenset()
    """The streams that keep it."""


async def trace(connection: Connection, subjects: Iterable[str]) -> dict[str, Route]:
    """Ask where messages go, without sending one; what may not be asked is not known.

    Raises:
        DisconnectedError: the link was lost.
    """
    version = str(connection.info.get("version", "0.0")).split(".")[:2]
    if tuple(map(int, version)) < TRACES_SINCE:
        return {}
    inbox = connection.new_inbox(peers=True)
    waiting = {f"{inbox}.{number}": subject for number, subject in enumerate(subjects)}
    traces = dict.fromkeys(waiting, 0)
    routes: dict[str, Route] = {}
    all_came = asyncio.Event()

    def on_trace(to: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        subject = waiting[to.decode()]
        traces[to.decode()] += 1
        routes[subject] = _united(routes.get(subject, Route()), _read_trace(payload), subject)
        if min(traces.values()) >= TRIES:
            all_came.set()

    listener = connection.listen(f"{inbox}.*", on_trace)
    for to, subject in waiting.items():
        lines = b"Nats-Trace-Dest: %b\r\nNats-Trace-Only: true\r\n" % to.encode()
        for _ in range(TRIES):
            connection.publish(subject, headers=block(lines))
    await connection.echo()
    with suppress(TimeoutError):  # the server sends traces when it has time
        await asyncio.wait_for(all_came.wait(), TRACE_TIME)
    listener.stop()
    return routes


def _united(one: Route, other: Route, subject: str) -> Route:
    """Join what two messages on a subject showed: a mapping may be for a share of them only."""
    mapped = next((to for to in (one.mapped, other.mapped) if to not in ("", subject)), "")
    return Route(mapped, one.streams | other.streams)


def _read_trace(payload: bytes) -> Route:
    try:
        events: list[dict[str, Any]] = json.loads(payload)["events"]
        mapped = [str(one["to"]) for one in events if one.get("type") == "sm"]
        streams = frozenset(str(one["stream"]) for one in events if one.get("type") == "js")
    except (ValueError, LookupError, TypeError, AttributeError):
        return Route()
    return Route(mapped[0] if mapped else "", streams)


async def find_limits(first: Connection, settings: ConnectionSettings, *, alone: bool) -> list[str]:
    """Return what the server does not let a daemon do, in words.

    A second connection finds out, besides the `first`: a daemon has two. Where one runs (not
    `alone`), that this is one too many says nothing.
    """
    connection = Connection(settings, "gozo check, second connection", private=True)
    try:
        await connection.open(ATTEMPT)
    except GozoError as error:
        if not alone:
            return []
        return [f"a daemon needs two connections, and gets only one: {error}"]
    connection.use_inboxes(first.inbox_prefix)
    try:
        return await _subscriptions(connection) or await _subjects(connection)
    finally:
        await connection.close()


async def _subscriptions(connection: Connection) -> list[str]:
    """Subscribe as often as a daemon does, and see whether the last one hears anything."""
    heard: list[bytes] = []
    last = ""
    for _ in range(SUBSCRIPTIONS):
        last = connection.new_inbox()
        connection.listen(last, lambda subject, reply, headers, payload: heard.append(payload))
    connection.publish(last)
    with suppress(NoServerError):  # as the server ends the connection, or is silent
        await connection.echo()
        if heard:
            return []
    problem = (
        f"a daemon needs {SUBSCRIPTIONS} subscriptions on a connection, and the server allows "
        "fewer: raise max_subscriptions, or the limit of the account"
    )
    return [problem]


async def _subjects(connection: Connection) -> list[str]:
    """Publish on a subject that is as long as a target may be."""
    inbox = f"{connection.new_inbox()}."
    connection.publish(inbox.ljust(LONGEST_SUBJECT, "x"))
    try:
        await connection.echo()
    except DisconnectedError:
        problem = (
            f"the server ends a connection that publishes on a subject of {LONGEST_SUBJECT} bytes: "
            "raise its max_control_line to at least 4096"
        )
        return [problem]
    return []
