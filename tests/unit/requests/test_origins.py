"""The name by which replicas know a request for a confirmed delivery."""

from __future__ import annotations

import pytest

from gozo.leadership.feed_messages import FeedMessage, Place
from gozo.leadership.handled_feed import FeedWriter
from gozo.leadership.offsets import ENOUGH_SAMPLES
from gozo.protocol.heard import HeardCount
from gozo.requests.origins import Named, Origins
from gozo.requests.standby import Standby
from gozo.runtime.clock_watch import ClockWatch
from gozo.schedule.model import Confirm, Confirmation, Entry, ScheduleRequest
from gozo.store.run_codec import occurrence_of, run_key
from tests.support.heard import heard, ignore

NAME, TERM = b"lead", b"leadterm"
HEARD, AHEAD = 10, 3
"""How many requests the leader has received, and how many more the standby has."""


def request(id_: str | None = None) -> ScheduleRequest:
    """Return a request that receivers claim."""
    entry = Entry(id_, "jobs", "+1", 2, 1, confirmation=Confirmation(Confirm.CLAIM))
    return ScheduleRequest(entry, b"")


class Replica:
    """One that names requests; what it finds in the bucket is in `known`."""

    def __init__(self, name: bytes, count: int) -> None:
        clock = ClockWatch(ignore, wall_ns=lambda: 0, steady_ns=lambda: 0)
        self.count = HeardCount()
        self.writer = FeedWriter(ignore, self.count, name)
        self.standby = Standby(name, ignore, self.count, clock, 1_000_000)
        self.known: set[str] = set()
        self.origins = Origins(self.writer, self.standby, lambda key: key in self.known)
        self.standby.begin()
        self.hear()
        self.count.value = count

    def hear(self) -> None:
        """Begin a subscription."""
        self.count.value += 1
        self.standby.begin_hearing()
        self.writer.begin_hearing()

    def follow(self, leader: Replica) -> None:
        """Follow a leader, then lead."""
        for number in range(1, ENOUGH_SAMPLES + 2):
            place = Place(leader.writer.begun, leader.count.value, number - 1, leader.count.value)
            message = FeedMessage(TERM, number, place, before=0)
            self.standby.feed_reader.hear(message, self.count.value)
        self.standby.take_over()
        self.standby.begin_acting()

    def name(self, position: int, id_: str | None = None, payload: bytes = b"a") -> Named:
        """Name a request with a payload, by its position here."""
        return self.origins.name(request(id_), heard(payload, position))


def test_the_next_leader_knows_what_was_stored() -> None:
    """It stores such a request under the same key, and others under keys of their own."""
    leader, standby = Replica(NAME, HEARD), Replica(b"next", HEARD + AHEAD)
    standby.follow(leader)
    stored = leader.name(5)
    own = standby.name(5 + AHEAD)
    assert own.key != stored.key, "nothing is known of it"
    standby.known.add(stored.key)
    assert standby.name(5 + AHEAD) == stored
    assert not stored.is_begun
    assert standby.name(6 + AHEAD).key != leader.name(6).key, "one that is the same came later"
    assert standby.name(5 + AHEAD, payload=b"b").key != stored.key


@pytest.mark.parametrize("id_", [None, "an id"])
def test_the_next_leader_knows_what_was_begun(id_: str | None) -> None:
    """A run has the name of its request, whichever replica begins it."""
    leader, standby = Replica(NAME, HEARD), Replica(b"next", HEARD + AHEAD)
    standby.follow(leader)
    stored = leader.name(5, id_)
    assert not standby.name(5 + AHEAD, id_).is_begun
    occurrence = occurrence_of(stored.request.entry)
    standby.known.add(run_key(stored.key, occurrence))
    assert standby.name(5 + AHEAD, id_) == stored._replace(is_begun=True)
    assert not standby.name(6 + AHEAD, id_).is_begun
    assert occurrence_of(standby.name(6 + AHEAD, id_).request.entry) != occurrence


def test_what_came_to_the_leader_itself_has_its_own_name() -> None:
    """No earlier leader has stored it, so nothing is looked up."""
    leader, standby = Replica(NAME, HEARD), Replica(b"next", HEARD + AHEAD)
    standby.follow(leader)
    later = HEARD + 1
    standby.known.add(leader.name(later).key)
    assert standby.name(later + AHEAD).key != leader.name(later).key


def test_what_came_before_a_subscription_has_its_own_name() -> None:
    """The difference between the counts has changed since."""
    leader, standby = Replica(NAME, HEARD), Replica(b"next", HEARD + AHEAD)
    standby.hear()
    standby.follow(leader)
    there = HEARD - 1  # `hear` counts one
    standby.known.add(leader.name(there).key)
    assert standby.name(there + AHEAD + 1).key != leader.name(there).key


def test_requests_that_standbys_hand_over_have_names_of_their_own() -> None:
    """They share one position, and may be identical."""
    leader = Replica(NAME, HEARD)
    assert leader.name(5) == leader.name(5)
    assert leader.name(leader.writer.begun) != leader.name(leader.writer.begun)
