"""What a leader tells the other replicas of the requests that it has dealt with.

The replicas hear all requests. The leader publishes digests of those that it has handled
(stored, cancelled, refused, delivered), many in one message, so that a standby keeps just
what is left to do should it lead next. Requests without an id live in the leader's memory
until they are delivered: it says at once that it has taken them, which tells a leader that
lost its lease, and that heard them too, to leave them alone. What it takes it numbers, and
tells the number again once it has delivered it: of what was taken before a standby heard, the
standby has nothing, though it may have a later request that is the same byte for byte.

Such a message is: `H` (handled) or `T` (taken), eight bytes that name this term of this
leader, four for the leader and four for the term, eight bytes of a number that counts its
messages from 1, and for each request its digest and eight bytes of the number under which it
was taken, 0 where it was not.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from gozo.backlog import DIGEST
from gozo.errors import DisconnectedError

SETTLED = 1.0  # seconds of hearing before which what is told may be of requests not heard
EARLY = 2.0  # seconds for which at least it is remembered that a request was handled
TERMS = 100  # remembered at a time
GATHER = 0.02  # seconds that digests wait for others
MOST = 4_000  # digests in one message
HANDLED, TAKEN = b"H", b"T"

_LEADER = 4  # bytes
_NAME = 2 * _LEADER
_NUMBER = 8  # bytes
_NOT_TAKEN = bytes(_NUMBER)
_HEAD = 1 + _NAME + _NUMBER
_ENTRY = DIGEST + _NUMBER


class Told(NamedTuple):
    """One message of a leader, read."""

    kind: bytes
    term: bytes
    number: int
    digests: list[bytes]
    takings: list[int]
    """The number of each as one that was taken; 0 where it was not."""


def read_told(payload: bytes) -> Told | None:
    """Read a message of a leader; None if it is none."""
    length = len(payload) - _HEAD
    if length < 0 or length % _ENTRY or payload[:1] not in (HANDLED, TAKEN):
        return None
    places = range(_HEAD, len(payload), _ENTRY)
    digests = [payload[place : place + DIGEST] for place in places]
    takings = [int.from_bytes(payload[place + DIGEST : place + _ENTRY]) for place in places]
    number = int.from_bytes(payload[1 + _NAME : _HEAD])
    return Told(payload[:1], term_of(payload), number, digests, takings)


def term_of(payload: bytes) -> bytes:
    """The term in which a message was told, without reading the rest."""
    return payload[1 : 1 + _NAME]


class Progress:
    """How far leaders have come, as one that stands by hears it."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self._first_taken: dict[bytes, int] = {}
        """The first number under which each leader was heard to take a request."""
        self._early: Counter[bytes] = Counter()
        self._earlier: Counter[bytes] = Counter()
        self._turn_at = 0.0
        self._heard_since = 0.0

    def begin(self, now: float) -> None:
        """Hear from `now` on, in seconds of a steady clock: what was told before is not known."""
        self._numbers.clear()
        self._first_taken.clear()
        self._heard_since = self._turn_at = now
        self._early.clear()
        self._earlier.clear()

    def missed(self, told: Told) -> bool:
        """Take a message's number in; True if one before it was not heard."""
        last = self._numbers.get(told.term)
        is_first = not self._numbers
        if len(self._numbers) >= TERMS:
            self._numbers.clear()
        self._numbers[told.term] = told.number
        missed = not is_first and told.number != (last or 0) + 1
        if missed or len(self._first_taken) > TERMS:
            self._first_taken.clear()
        if told.kind == TAKEN and told.takings:
            self._first_taken.setdefault(told.term[:_LEADER], told.takings[0])
        return missed

    def handled(self, told: Told) -> list[bytes]:
        """Return what was handled, without what was taken before this was heard."""
        first = self._first_taken.get(told.term[:_LEADER])
        return [
            digest
            for digest, taking in zip(told.digests, told.takings, strict=True)
            if not taking or (first is not None and taking >= first)
        ]

    def note_early(self, digest: bytes, now: float) -> None:
        """Remember for some seconds that a request is handled that was not heard yet.

        In a cluster, what the leader tells may be quicker than the request. Of a request that
        came before `begin` it would be wrong: a later one may be the same byte for byte.
        """
        if now < self._heard_since + SETTLED:
            return
        if now > self._turn_at + EARLY:
            self._earlier, self._early = self._early, Counter()
            self._turn_at = now
        self._early[digest] += 1

    def is_early(self, digest: bytes) -> bool:
        """Tell, once, whether a request that is heard now is known to be handled."""
        for known in (self._earlier, self._early):
            if known and known[digest] > 0:
                known[digest] -= 1
                return True
        return False


class Teller:
    """Tells what was dealt with, in order."""

    def __init__(self, publish: Callable[[bytes], None], tag: bytes) -> None:
        """Tell by `publish`, as the leader whose id begins with `tag`."""
        self._leader = tag
        self._publish = publish
        self._waiting: dict[bytes, list[bytes]] = {TAKEN: [], HANDLED: []}
        self._takings = 0
        self.begin_term()
        self._timer: asyncio.TimerHandle | None = None

    def begin_term(self) -> None:
        """Count anew: what was told before is known to no one who hears this."""
        self.term = self._leader + secrets.token_bytes(_NAME - _LEADER)
        self._number = 0

    def handled(self, digest: bytes, taking: int = 0) -> None:
        """Tell that nothing is left to do for a request, and under which number it was taken."""
        self._note(HANDLED, digest, taking)

    def taken(self, digest: bytes) -> int:
        """Tell that a request is in this leader's memory; returns the number it has there."""
        self._takings += 1
        self._note(TAKEN, digest, self._takings)
        return self._takings

    def _note(self, kind: bytes, digest: bytes, taking: int) -> None:
        self._waiting[kind].append(digest + (taking.to_bytes(_NUMBER) if taking else _NOT_TAKEN))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(GATHER, self.flush)

    def flush(self) -> None:
        """Tell now what waits to be told; it goes on waiting where there is no connection."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for kind, entries in self._waiting.items():
            while entries:
                if not self._tell(kind, entries[:MOST]):
                    return
                del entries[:MOST]

    def hello(self) -> None:
        """Say the number that was reached, so that who missed a message knows."""
        self._tell(HANDLED, [])

    def _tell(self, kind: bytes, entries: list[bytes]) -> bool:
        number = self._number + 1
        head = kind + self.term + number.to_bytes(_NUMBER)
        try:
            self._publish(head + b"".join(entries))
        except DisconnectedError:
            return False
        self._number = number
        return True
