"""What a standby keeps, and for how long."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from gozo.leadership.feed_messages import FeedMessage, Place
from gozo.leadership.offsets import ENOUGH_SAMPLES
from gozo.protocol.heard import Heard, HeardCount, Verb, hear
from gozo.requests.standby import ID_KEPT_TIME, Standby, has_no_id
from gozo.runtime.clock_watch import ClockWatch
from gozo.schedule.model import MICROSECONDS
from tests.support.heard import heard, ignore

NOW_US = 1_000 * MICROSECONDS
LARGE = 1_000_000


def standby(max_backlog: int = LARGE) -> Standby:
    """Return one that keeps requests, at `NOW_US`."""
    clock = ClockWatch(ignore, wall_ns=lambda: NOW_US * 1_000, steady_ns=lambda: 0)
    made = Standby(b"mine", ignore, HeardCount(), clock, max_backlog)
    made.begin()
    return made


def kept(one: Standby) -> list[bytes]:
    """Return what it would begin with as the leader."""
    one.take_over()
    return [request.payload for request in one.backlog.requests]


def call(verb: Verb, headers: bytes | None = None) -> Heard:
    """Return a message with a verb."""
    return hear(verb, 1, 0, b"gozo", b"reply", headers, b"")


@pytest.mark.parametrize(("age", "lasts"), [(ID_KEPT_TIME - 1, True), (ID_KEPT_TIME + 1, False)])
def test_for_how_long(age: int, lasts: bool) -> None:
    """A request with an id is kept for some seconds; one without, until it is handled."""
    one, came_us = standby(), NOW_US - age * MICROSECONDS
    one.backlog.add(heard(b"with", 1, received_us=came_us, id_=True))
    one.backlog.add(heard(b"without", 2, received_us=came_us))
    one.backlog.add(heard(b"later", 3, received_us=NOW_US, id_=True))
    one.forget_old()
    assert kept(one) == [b"with"] * lasts + [b"without", b"later"]


def test_bounds() -> None:
    """The oldest are dropped, those in memory first; reports of them strike out no others."""
    size = heard(b"same").size
    one = standby(2 * size)
    one.backlog.add(heard(b"same", 1))
    one.forget_old()
    for payload, position in ((b"same", 2), (b"else", 3)):
        one.backlog.add(heard(payload, position, received_us=NOW_US))
    assert one.backlog.dropped < 1
    one.shrink()
    assert not one.backlog.strike(heard(b"same").digest, 1)
    assert kept(one) == [b"same", b"else"]


def test_what_has_no_id() -> None:
    """A request without the headers of an id; calls are none, whatever their headers."""
    assert has_no_id(call(Verb.REQUEST))
    assert has_no_id(call(Verb.REQUEST, b"NATS/1.0\r\nGozo-When: +1\r\n\r\n"))
    assert not has_no_id(call(Verb.REQUEST, b"NATS/1.0\r\ngozo-id: a\r\n\r\n"))
    assert not has_no_id(call(Verb.REQUEST, b"NATS/1.0\r\nGozo-Del-Id: a\r\n\r\n"))
    assert not has_no_id(call(Verb.CANCEL))


def report(
    number: int, place: Place, requests: Sequence[Heard] = (), position: int = 0
) -> FeedMessage:
    """Return a message of the leader: it has handled requests, all at one position of its."""
    digests = [request.digest for request in requests]
    return FeedMessage(b"leadterm", number, place, digests, [position] * len(digests))


def test_what_was_handed_over_is_struck_out_however_late() -> None:
    """The leader knows only the gap that it came in, and older requests were dropped since."""
    one = standby()
    count = one.feed_reader
    numbers = itertools.count(1)

    def hear(place: Place, requests: Sequence[Heard] = (), position: int = 0) -> None:
        message = report(next(numbers), place, requests, position)
        one.hear(message, missed=count.hear(message, 0 if place.begun == 1 else 20))
        one.handled(message)

    for echoed in range(ENOUGH_SAMPLES + 1):
        hear(Place(1, 0, echoed, 0))
    missed = [heard(b"%d" % position, position) for position in range(11, 21)]
    for request in missed:
        one.backlog.add(request)
    for echoed in range(ENOUGH_SAMPLES + 1, 2 * ENOUGH_SAMPLES + 3):
        hear(Place(2, 1, echoed, 1))
    one.backlog.note_dropped(10)
    hear(Place(2, 1), missed[:-1], 2)
    assert kept(one) == [missed[-1].payload]
