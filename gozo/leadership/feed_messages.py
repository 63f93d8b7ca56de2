"""The format of the messages that replicas exchange about requests. Pure.

Every replica numbers the requests and calls that it receives, for as long as it runs; such a
number is a *position*. The positions of two replicas differ by a constant while both receive
everything (see `gozo.leadership.offsets`), so a position tells apart identical requests.

A message of a leader begins with a byte for its kind, eight bytes that name this term of this
leader (four for the leader, four for the term), and six numbers of eight bytes: the number of the
message in the term, from 1; how many requests earlier messages of the term have reported as
handled; and the four of a `Place`. The rest depends on the kind:

- `h`, handled: for each request, its digest and the leader's position of it;
- `a`, account: the question that is answered, the leader's count when its term began, its
  position of the gap that the question names, how many messages of this answer follow, and digest
  and position of each request that it had when its term began, and of each later one that is not
  handled. The two highest bits of the position are flags: see `DONE` and `LATER`.

A former leader asks for an account: `?`, eight random bytes, four that name the replica, and its
count when its present subscription began. It has missed requests in the gap before that.

A standby offers the leader a request that only the standby received while the leader's link was
lost: `o`, four bytes that name the standby, the leader's term, the leader's count when its present
subscription began, the standby's position of the request, how many microseconds ago it came, a
byte that says whether the leader may have received it nevertheless (see `Doubt`), the lengths of
reply subject and headers, and then these and the payload.

Earlier development versions sent `H` and `T`, for handled and taken, without positions: a leader
numbered the requests that it took into memory, and repeated the number once they were handled, 0
for others. Both kinds are still read, so that a standby follows such a leader by digests, but
without the requests that the leader had in memory before. A standby of such a version understands
none of the above: it keeps all requests that it has received, and repeats them if it leads. So
upgrade standbys first. A leader of such a version does not answer questions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

from gozo.protocol.heard import DIGEST

HANDLED, ACCOUNT = b"h", b"a"

LEADER = 4  # bytes of the leader's name, at the start of a term's name
TERM = 2 * LEADER
NONCE = 8  # bytes
GREETING = bytes(NONCE)
"""Sent instead of a nonce by a replica that subscribes, to learn how the counts differ."""
UNKNOWN = -(2**63)
"""An unknown position."""

_ASKED, _OFFERED = b"?", b"o"
_OLD_HANDLED, _OLD_TAKEN = b"H", b"T"
_NUMBER = 8
_HEAD = struct.Struct(f">c{TERM}s6Q")
_QUESTION = struct.Struct(f">c{NONCE}s{LEADER}sQ")
_ANSWER = struct.Struct(f">{NONCE}sQqL")
_OFFER = struct.Struct(f">c{LEADER}s{TERM}sQQQBHL")
_OLD_HEAD = 1 + TERM + _NUMBER
ENTRY = DIGEST + _NUMBER
"""The size of the entry of one request, in bytes."""
DONE = 1 << 63
"""Flag in a position of an answer: the leader has handled the request since its term began."""
LATER = 1 << 62
"""Likewise: the request came after the term began, and is not handled."""


class Place(NamedTuple):
    """How many requests a leader had received when it sent a message."""

    begun: int = 0
    """Its count when its present subscription began."""
    heard: int = 0
    """Its count when it sent the message; 0 if it has stopped receiving."""
    echoed: int = 0
    """The last of its own messages that had come back to it; 0: none."""
    echoed_count: int = 0
    """Its count when that message came back."""


class FeedMessage(NamedTuple):
    """A message of a leader, decoded."""

    term: bytes
    number: int
    place: Place | None = None
    """None from an older version."""
    digests: list[bytes] = []  # noqa: RUF012  # never changed
    positions: list[int] = []  # noqa: RUF012
    """The leader's position of each request; from an older version the number under which it was
    taken, 0 if it was not."""
    before: int | None = None
    """How many requests earlier messages of the term have reported as handled; None if unknown."""
    is_taken: bool = False
    """Whether a leader of an older version has taken these into memory, and not handled them."""
    answer: Answer | None = None

    @property
    def leader(self) -> bytes:
        """The name of the leader, the same in all its terms."""
        return self.term[:LEADER]


class Question(NamedTuple):
    """The question of a former leader."""

    nonce: bytes
    leader: bytes
    """The name of the former leader."""
    begun: int
    """Its count when its present subscription began."""


class Answer(NamedTuple):
    """A part of a leader's answer to a question."""

    nonce: bytes
    led_at: int
    """The leader's count when its term began: later requests are its own."""
    gap: int
    """The leader's position of the last request that the asking replica received before its gap."""
    left: int
    """How many parts follow."""
    digests: list[bytes] = []  # noqa: RUF012  # never changed
    """Requests that the leader had when its term began, and later ones that it has not handled."""
    positions: list[int] = []  # noqa: RUF012
    """The leader's position of each request, with the flags `DONE` and `LATER`."""


class Doubt(IntEnum):
    """Why the leader may have received a request that is offered."""

    NONE = 0
    NEAR = 1
    """The request came close to the time when the leader's link was lost or made."""
    BEFORE = 2
    """The standby did not know until when the leader received requests: this one may have come
    long before its link was lost."""


class Offer(NamedTuple):
    """A request that a leader missed, as offered by a standby."""

    standby: bytes
    """The name of the standby."""
    term: bytes
    """The leader's term."""
    begun: int
    """The leader's count when its present subscription began."""
    position: int
    """The standby's position of the request."""
    age_us: int
    """The age of the request, in microseconds."""
    doubt: Doubt
    reply: bytes
    headers: bytes | None
    payload: bytes


_DOUBTS = frozenset(Doubt)


def feed_subject(request_subject: str) -> str:
    """Return the subject of these messages."""
    return f"{request_subject}.admin.told"


def write_head(kind: bytes, term: bytes, number: int, before: int, place: Place) -> bytes:
    """Return the head of a message."""
    return _HEAD.pack(kind, term, number, before, *place)


def write_entries(requests: Iterable[tuple[bytes, int]]) -> bytes:
    """Return the entries of requests: digest and position of each."""
    return b"".join(digest + position.to_bytes(_NUMBER) for digest, position in requests)


def write_question(question: Question) -> bytes:
    """Return the message that asks a question."""
    return _QUESTION.pack(_ASKED, *question)


def write_answer(answer: Answer) -> bytes:
    """Return the part of an answer between its head and its entries."""
    return _ANSWER.pack(answer.nonce, answer.led_at, answer.gap, answer.left)


def write_offer(offer: Offer) -> bytes:
    """Return the message that offers a request."""
    *numbers, reply, headers, payload = offer
    headers = headers or b""
    return b"".join(
        (_OFFER.pack(_OFFERED, *numbers, len(reply), len(headers)), reply, headers, payload)
    )


def read_offer(payload: bytes) -> Offer | None:
    """Read an offer; None if the message is not one."""
    if payload[:1] != _OFFERED or len(payload) < _OFFER.size:
        return None
    _, *numbers, reply, headers = _OFFER.unpack_from(payload)
    begin = _OFFER.size + reply
    end = begin + headers
    if len(payload) < end:
        return None
    texts = payload[_OFFER.size : begin], payload[begin:end] or None, payload[end:]
    *numbers, doubt = numbers
    if doubt not in _DOUBTS:
        return None
    return Offer._make((*numbers, Doubt(doubt), *texts))


def term_of(payload: bytes) -> bytes:
    """Return the term of a message, without reading the rest."""
    return payload[1 : 1 + TERM]


def number_of(payload: bytes) -> int:
    """Return the number of a message in its term, without reading the rest."""
    return int.from_bytes(payload[1 + TERM : _OLD_HEAD])


def read_question(payload: bytes) -> Question | None:
    """Read a question; None if the message is not one."""
    if payload[:1] != _ASKED or len(payload) != _QUESTION.size:
        return None
    return Question(*_QUESTION.unpack(payload)[1:])


def read_feed_message(payload: bytes) -> FeedMessage | None:
    """Read a leader's message; None if it is not one."""
    kind = payload[:1]
    if kind in (_OLD_HANDLED, _OLD_TAKEN):
        return _read_old(kind, payload)
    if kind not in (HANDLED, ACCOUNT) or len(payload) < _HEAD.size:
        return None
    _, term, number, before, *numbers = _HEAD.unpack_from(payload)
    message = FeedMessage(term, number, Place(*numbers), before=before)
    begin = _HEAD.size + _ANSWER.size * (kind == ACCOUNT)
    if len(payload) < begin or (len(payload) - begin) % ENTRY:
        return None
    digests, positions = read_entries(payload, begin)
    if kind == HANDLED:
        return message._replace(digests=digests, positions=positions)
    nonce, led_at, gap, left = _ANSWER.unpack_from(payload, _HEAD.size)
    return message._replace(answer=Answer(nonce, led_at, gap, left, digests, positions))


def read_entries(payload: bytes, begin: int = 0) -> tuple[list[bytes], list[int]]:
    """Read digests and positions, from a byte of the message on."""
    places = range(begin, len(payload), ENTRY)
    digests = [payload[place : place + DIGEST] for place in places]
    positions = [int.from_bytes(payload[place + DIGEST : place + ENTRY]) for place in places]
    return digests, positions


def _read_old(kind: bytes, payload: bytes) -> FeedMessage | None:
    length = len(payload) - _OLD_HEAD
    if length < 0 or length % ENTRY:
        return None
    digests, takings = read_entries(payload, _OLD_HEAD)
    taken = kind == _OLD_TAKEN
    return FeedMessage(term_of(payload), number_of(payload), None, digests, takings, is_taken=taken)
