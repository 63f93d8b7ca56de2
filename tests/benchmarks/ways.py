"""The ways in which a schedule is asked for, down to the bytes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from tests.support.raw import request

MICROSECONDS = 1_000_000


class Way(Protocol):
    """How to ask for a schedule; goes to the sender's process."""

    @property
    def acknowledged(self) -> bool:
        """Whether JetStream takes it, and says so: it drops what comes faster than it stores."""

    def publication(
        self, number: int, due_us: int | None, payload: bytes, answer: bytes = b""
    ) -> bytes:
        """Return what goes over the wire; due None means at once, `answer` is for the PubAck."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request to gozo's daemon."""

    run: str
    """What its ids begin with."""
    target: str
    ids: bool = True
    more: bytes = b""
    """Further header lines."""

    @property
    def acknowledged(self) -> bool:
        """Core NATS acknowledges nothing."""
        return False

    def publication(
        self, number: int, due_us: int | None, payload: bytes, answer: bytes = b""
    ) -> bytes:
        """Return a request."""
        when = b"+0" if due_us is None else epoch(due_us)
        id_ = b"Gozo-Id: %b-%d\r\n" % (self.run.encode(), number) if self.ids else b""
        headers = b"NATS/1.0\r\nGozo-When: %b\r\n%b%b\r\n" % (when, id_, self.more)
        return request(b"gozo", reply=self.target.encode(), headers=headers, payload=payload)


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry that the sender writes to gozo's bucket itself."""

    run: str
    target: str

    @property
    def acknowledged(self) -> bool:
        """The server answers."""
        return True

    def publication(
        self, number: int, due_us: int | None, payload: bytes, answer: bytes = b""
    ) -> bytes:
        """Return an entry for the bucket."""
        when = b"+0" if due_us is None else epoch(due_us)
        lines = b"NATS/1.0\r\nGozo-When: %b\r\nGozo-Subject: %b\r\n\r\n"
        subject = b"$KV.gozo.%b-%d" % (self.run.encode(), number)
        headers = lines % (when, self.target.encode())
        return request(subject, reply=answer, headers=headers, payload=payload)


@dataclass(frozen=True, slots=True)
class ServerSchedule:
    """A schedule of the server's own (ADR-51), whose message goes into the same stream."""

    run: str
    target: str

    @property
    def acknowledged(self) -> bool:
        """The server answers."""
        return True

    def publication(
        self, number: int, due_us: int | None, payload: bytes, answer: bytes = b""
    ) -> bytes:
        """Return a schedule."""
        moment = datetime.now(UTC) if due_us is None else moment_of(due_us)
        lines = b"NATS/1.0\r\nNats-Schedule: @at %b\r\nNats-Schedule-Target: %b\r\n\r\n"
        subject = b"own.schedule.%b.%d" % (self.run.encode(), number)
        headers = lines % (moment.isoformat().encode(), self.target.encode())
        return request(subject, reply=answer, headers=headers, payload=payload)


def epoch(us: int) -> bytes:
    """Print a moment in microseconds as Unix epoch seconds."""
    return b"%d.%06d" % divmod(us, MICROSECONDS)


def moment_of(us: int) -> datetime:
    """Return a moment in microseconds as a datetime, exactly."""
    seconds, rest = divmod(us, MICROSECONDS)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)
