"""Tells what happens to schedules, on `<request subject>.event.>`, for whoever listens.

Each event is one JSON object on `<request subject>.event.<kind>.<key>`, or without the key where
there is no id, so that the events of one schedule, or of one kind, can be listened to alone.
They are published like any message of core NATS: nobody waits for them, and where the link is
congested they are left out rather than delay a delivery.
"""

from __future__ import annotations

import json
from enum import StrEnum

from gozo.clock import wall_us
from gozo.connection import Connection, publication
from gozo.errors import DisconnectedError, RequestError
from gozo.headers import fields
from gozo.logs import get_logger
from gozo.protocol import LONGEST_ID, RESERVED, escape_id, unescape_key
from gozo.schedule import Entry, Outgoing
from gozo.volatile import PREFIX
from gozo.when import At, parse, print_rfc3339

TYPE = "gozo.event.v1"
BACKLOG = 1024 * 1024  # bytes that wait to be sent, beyond which events are left out

log = get_logger("gozo.events")


class Kind(StrEnum):
    """What an event tells."""

    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    MISSED = "missed"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    LEADER = "leader"


class Events:
    """The voice of one daemon."""

    def __init__(self, connection: Connection, request_subject: str, name: str) -> None:
        self._connection = connection
        self._prefix = f"{request_subject}.event"
        self._name = name

    def accepted(self, entry: Entry, *, replaced: bool) -> None:
        """A schedule is stored, or kept in memory; `replaced`: in the place of an earlier one."""
        self._tell(
            Kind.ACCEPTED,
            entry.id,
            subject=entry.subject,
            when=entry.when,
            due=print_rfc3339(entry.due_us),
            state=entry.state,
            replaced=replaced,
        )

    def delivered(self, due_us: int, message: Outgoing) -> None:
        """The server, or a stream, has a message."""
        given = dict(fields(message.headers))
        id_ = given.get(b"gozo-id")
        due_us = _nominal(given.get(b"gozo-due"), due_us)
        self._tell(
            Kind.DELIVERED,
            None if id_ is None else id_.decode("utf-8", "replace"),
            subject=message.subject.decode("utf-8", "replace"),
            due=print_rfc3339(due_us),
            late_ms=max(wall_us() - due_us, 0) / 1000,
        )

    def missed(self, id_: str | None, due_us: int) -> None:
        """A schedule, or an occurrence of one, was left out, being too late."""
        self._tell(Kind.MISSED, id_, due=print_rfc3339(due_us))

    def cancelled(self, key: str) -> None:
        """A schedule was cancelled."""
        self._tell(Kind.CANCELLED, id_of(key))

    def refused(self, id_: str | None, error: RequestError) -> None:
        """A request was refused."""
        self._tell(Kind.REFUSED, id_, error=error.code.value, message=str(error))

    def leads(self) -> None:
        """This daemon leads from now on."""
        self._tell(Kind.LEADER, None)

    def _tell(self, kind: Kind, id_: str | None, **more: object) -> None:
        connection = self._connection
        if connection.backlog > BACKLOG:
            log.repeated("warning", "events.dropped", reason="the connection is congested")
            return
        subject = f"{self._prefix}.{kind}"
        if id_ is not None and len(id_.encode("utf-8", "replace")) <= LONGEST_ID:
            subject += f".{_key(id_)}"
        event = {
            "type": f"{TYPE}.{kind}",
            "at": print_rfc3339(wall_us()),
            "daemon": self._name,
            "id": id_,
            **more,
        }
        payload = json.dumps(event).encode()
        try:
            if len(payload) <= connection.max_payload:
                connection.write(publication(subject.encode(), payload))
        except DisconnectedError:
            log.repeated("info", "events.dropped", reason="there is no connection")


def id_of(key: str) -> str | None:
    """The id that a key of the bucket, or of the memory, stands for; None if there is none."""
    if key.startswith((PREFIX, RESERVED)):
        return None
    try:
        return unescape_key(key)
    except ValueError:
        return key  # the original gozo used ids as they are


def _nominal(given: bytes | None, due_us: int) -> int:
    """When a message was due at first, where it is due at `due_us` since it is tried again."""
    if given is None or given.decode() == print_rfc3339(due_us):
        return due_us
    moment = parse(given.decode())
    return moment.us if isinstance(moment, At) else due_us


def _key(id_: str) -> str:
    return escape_id(id_.encode("utf-8", "replace").decode())
