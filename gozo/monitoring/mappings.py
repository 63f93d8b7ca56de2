"""Finds mappings of the account (ADR-41) that redirect subjects which a daemon needs.

The messages sent to find them are only traced, never delivered or stored.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, NoReturn

from gozo.errors import NoServerError, UnsuitableServerError
from gozo.protocol.headers import block
from gozo.runtime.clock import steady
from gozo.store.probe import KEY
from gozo.transport.connection import Connection
from gozo.transport.jetstream import OWN_PREFIX, JetStream

TRACES_SINCE = (2, 11)
"""Older versions of nats-server cannot trace, and would deliver such a message."""

TRIES, FEW = 8, 4
"""Messages traced on each subject: by `gozo check`, and by a daemon, which repeats the check."""

TRACE_TIME = 1.0  # seconds
CHECK_INTERVAL = 1.0  # seconds until a daemon traces again after a problem
HEALTHY_INTERVAL = 30.0  # seconds until it traces again if all is well

Needed = Iterable[tuple[str, str]]
"""Subjects that a daemon needs, with their purposes."""


class Route(NamedTuple):
    """Where the server delivers the messages of a subject."""

    mapped: str = ""
    """The subject to which the account maps it; empty without a mapping."""
    streams: frozenset[str] = frozenset()
    """The streams that store it."""


async def trace(
    connection: Connection, subjects: Iterable[str], *, tries: int = TRIES
) -> dict[str, Route]:
    """Find out where messages go; subjects on which tracing is not permitted are omitted.

    `tries` messages are traced on each subject, since mappings may have weights.

    Raises:
        DisconnectedError: the link was lost.
    """
    version = str(connection.info.get("version", "0.0")).split(".")[:2]
    inbox = connection.new_inbox(peers=True)
    waiting = {f"{inbox}.{number}": subject for number, subject in enumerate(subjects)}
    if tuple(map(int, version)) < TRACES_SINCE or not waiting:
        return {}
    traces = dict.fromkeys(waiting, 0)
    routes: dict[str, Route] = {}
    all_came = asyncio.Event()

    def on_trace(to: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        subject = waiting[to.decode()]
        traces[to.decode()] += 1
        routes[subject] = _united(routes.get(subject, Route()), _read_trace(payload), subject)
        if min(traces.values()) >= tries:
            all_came.set()

    listener = connection.listen(f"{inbox}.*", on_trace)
    try:
        for to, subject in waiting.items():
            lines = b"Nats-Trace-Dest: %b\r\nNats-Trace-Only: true\r\n" % to.encode()
            for _ in range(tries):
                connection.publish(subject, headers=block(lines))
        await connection.echo()
        with suppress(TimeoutError):  # the server may be slow to send traces
            async with asyncio.timeout(TRACE_TIME):
                await all_came.wait()
    finally:
        listener.stop()
    return routes


def _united(one: Route, other: Route, subject: str) -> Route:
    """Join the routes of two messages on a subject: a mapping may apply to only one of them."""
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


def taken(needed: Needed, routes: Mapping[str, Route], request_subject: str) -> Iterator[str]:
    """Describe mappings of the account that redirect needed subjects, one for each purpose."""
    told: set[str] = set()
    for subject, purpose in needed:
        to = routes.get(subject, Route()).mapped
        if not to or told & {subject, purpose}:
            continue
        told |= {subject, purpose}
        if subject == request_subject:
            yield (
                f"the account maps {subject} to {to}, so no daemon receives requests: "
                "remove that mapping, or give another --request-subject"
            )
        else:
            yield (
                f"the account maps {subject} to {to}, and a daemon needs it {purpose}: "
                "remove that mapping"
            )


class Mappings:
    """Watches the subjects of a daemon's buckets for mappings.

    The request subject is not watched: a daemon needs no permission to publish there.
    """

    def __init__(self, js: JetStream, bucket: str, lease: str) -> None:
        self._connection = js.connection
        self._needed = (
            [(f"$KV.{bucket}.{KEY}", "to store schedules"), (f"$KV.{lease}.leader", "to lead")]
            if js.prefix == OWN_PREFIX
            else []  # a JetStream domain is reached through a mapping that the server adds
        )
        self._asked_at = 0.0
        self.problem = ""
        """Describes a mapping that redirects such a subject; empty if none is known."""

    async def check(self) -> None:
        """Check now.

        Raises:
            UnsuitableServerError: a mapping redirects a subject that the daemon needs.
            NoServerError: the link was lost.
        """
        await self._trace()
        if self.problem:
            raise UnsuitableServerError(self.problem)

    async def run(self, fails: Callable[[], bool]) -> NoReturn:
        """Check periodically, more often while something `fails`; runs until it is cancelled."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            if self.problem or fails() or steady() > self._asked_at + HEALTHY_INTERVAL:
                with suppress(NoServerError):  # reported elsewhere
                    await self._trace()

    async def _trace(self) -> None:
        subjects = [subject for subject, _ in self._needed]
        routes = await trace(self._connection, subjects, tries=FEW)
        self.problem = next(taken(self._needed, routes, ""), "")
        self._asked_at = steady()
