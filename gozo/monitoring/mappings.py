"""Where the server takes messages (ADR-41), and mappings that take away what a daemon needs.

It is asked by messages that are only traced: none is delivered or stored.
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
"""Before this version of nats-server there is no tracing, and the question would be delivered."""

TRIES, FEW = 8, 4
"""Messages that `gozo check` traces on each subject, and a daemon, which asks again."""

TRACE_TIME = 1.0  # seconds
LOOK = 1.0  # seconds between looks whether to ask
EVERY = 30.0  # seconds until a daemon asks again where all is well

Needed = Iterable[tuple[str, str]]
"""Subjects that a daemon needs, and for what."""


class Route(NamedTuple):
    """Where the server takes what is published on a subject (ADR-41)."""

    mapped: str = ""
    """Another subject that it becomes, if the account maps it."""
    streams: frozenset[str] = frozenset()
    """The streams that keep it."""


async def trace(
    connection: Connection, subjects: Iterable[str], *, tries: int = TRIES
) -> dict[str, Route]:
    """Ask where messages go, without sending one; what may not be asked is not known.

    `tries` messages are traced on each subject, since mappings have weights.

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
        with suppress(TimeoutError):  # the server sends traces when it has time
            await asyncio.wait_for(all_came.wait(), TRACE_TIME)
    finally:
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


def taken(needed: Needed, routes: Mapping[str, Route], request_subject: str) -> Iterator[str]:
    """Say which mappings of the account take away what is needed, once for each purpose."""
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
    """Watches over the subjects of one daemon's buckets.

    Not over the request subject: a daemon needs no permission to publish there.
    """

    def __init__(self, js: JetStream, bucket: str, lease: str) -> None:
        self._connection = js.connection
        self._needed = (
            [(f"$KV.{bucket}.{KEY}", "to store schedules"), (f"$KV.{lease}.leader", "to lead")]
            if js.prefix == OWN_PREFIX
            else []  # a domain is reached by a mapping of the server's own
        )
        self._asked_at = 0.0
        self.problem = ""
        """Which mapping takes some away; empty if none does, as far as is known."""

    async def check(self) -> None:
        """Ask now.

        Raises:
            UnsuitableServerError: a mapping takes away what the daemon cannot work without.
            NoServerError: the link was lost.
        """
        await self._ask()
        if self.problem:
            raise UnsuitableServerError(self.problem)

    async def run(self, fails: Callable[[], bool]) -> NoReturn:
        """Ask periodically, and often while something `fails`; runs until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK)
            if self.problem or fails() or steady() > self._asked_at + EVERY:
                with suppress(NoServerError):  # which others report
                    await self._ask()

    async def _ask(self) -> None:
        subjects = [subject for subject, _ in self._needed]
        routes = await trace(self._connection, subjects, tries=FEW)
        self.problem = next(taken(self._needed, routes, ""), "")
        self._asked_at = steady()
