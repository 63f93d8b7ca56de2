"""Finds all leaders on a request subject."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, Self

from gozo.leadership.rivals import Leader, proven, read_leader
from gozo.runtime.clock import steady
from gozo.transport.connection import Connection
from gozo.transport.jetstream import OWN_PREFIX

LISTEN_TIME = 0.3  # seconds to wait for answers
ROUNDS = 5  # questions that show whether several leaders renew their leases


class Place(NamedTuple):
    """Where a bucket is, and where its daemon is connected."""

    domain: str
    """The JetStream domain, or else the given API prefix; empty without either."""
    server: str

    @classmethod
    def of(cls, connection: Connection) -> Self:
        """The place of a connection."""
        prefix, info = connection.js_prefix, connection.info
        named = prefix.removeprefix("$JS.").removesuffix(".API")
        domain = str(info.get("domain") or "") if prefix == OWN_PREFIX else named
        return cls(domain, str(info.get("server_name") or ""))

    def __str__(self) -> str:
        """Return the text to append to the name of a bucket."""
        domain = f" in the domain {self.domain}" if self.domain else ""
        return f"{domain} (server {self.server})"


async def ask_leaders(
    connection: Connection, request_subject: str, listen: float = LISTEN_TIME
) -> list[Leader]:
    """Return the leaders that answer within `listen` seconds.

    Raises:
        NoServerError, NotAllowedError: the question could not be sent.
    """
    found: dict[str, Leader] = {}
    asked_at = steady()

    def on_answer(subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        leader = read_leader(payload, asked_at, steady())
        if leader is not None:
            found[leader.id] = leader

    inbox = connection.new_inbox(peers=True)
    listener = connection.listen(inbox, on_answer)
    try:
        connection.publish(f"{request_subject}.admin.leader", reply=inbox)
        await connection.echo()
        await asyncio.sleep(listen)
    finally:
        listener.stop()
    return list(found.values())


async def find_rivals(
    connection: Connection, request_subject: str, listen: float = LISTEN_TIME
) -> Sequence[Leader]:
    """Return the leaders that have different buckets, if there are several.

    Takes longer than `listen` seconds only if several leaders answer and none reports another
    as its rival.

    Raises:
        NoServerError, NotAllowedError: as for `ask_leaders`.
    """
    first = later = await ask_leaders(connection, request_subject, listen)
    for number in range(ROUNDS):
        named = {rival.id: rival for one in later for rival in one.rivals}
        if named:
            # A distant leader may not have answered yet.
            return list((named | {one.id: one for one in later}).values())
        if len(later) < 2:  # noqa: PLR2004
            break
        later = await ask_leaders(connection, request_subject, listen)
        if rivals := proven(first, later, patient=number == ROUNDS - 1):
            return rivals
    return []
