"""Which leaders are rivals, and which only share the lease of one bucket for a moment."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gozo.leadership.rivals import (
    MISSES,
    MOST_TAGS,
    UNNOTICED,
    Leader,
    Rivals,
    proven,
    read_leader,
    tag_of,
)

OTHER = "ab12cd34"


def other(heard_at: float, renewed_at: float | None, id_: str = OTHER) -> Leader:
    """Make another leader."""
    return Leader(id_, "other", "gozo", "leaf", "n2", heard_at, renewed_at)


def found(*heard: Leader, held_since: float = 0.0) -> list[str]:
    """Hear one leader again and again, with a renewal of one's own after each time."""
    rivals = Rivals()
    for leader in heard:
        rivals.heard([leader], leader.heard_at - 0.1)
        rivals.judge(held_since, leader.heard_at + 0.2)
    return rivals.ids


def test_two_renewals_of_another_lease_make_a_rival() -> None:
    """One's own was held all the time; the same renewal, heard of twice, is one."""
    assert found(other(2.0, 1.5), other(3.0, 2.5)) == [OTHER]
    assert found(other(2.0, 1.5)) == []
    assert found(other(2.0, 1.5), other(3.0, 1.5)) == []
    assert found(other(2.0, 1.5), other(3.0, 2.5), held_since=2.0) == []


def test_one_that_took_the_lease_is_no_rival() -> None:
    """One's own renewal is from before that, and the next one will fail."""
    rivals = Rivals()
    for heard_at in (2.0, 3.0, 4.0):
        rivals.heard([other(heard_at, heard_at - 0.5)], heard_at)
        rivals.judge(0.0, 1.4)
    assert rivals.ids == []


def test_a_leader_that_does_not_say_when_is_one_in_time() -> None:
    """By then it would know that it leads no more."""
    assert found(other(1.0, None), other(UNNOTICED, None)) == []
    assert found(other(1.0, None), other(UNNOTICED + 1.1, None)) == [OTHER]
    late = UNNOTICED + 1.1
    assert found(other(1.0, None), other(late, None), held_since=10.0) == []


def test_what_is_not_heard_any_more_is_gone() -> None:
    """A rival after some silence, another leader at once: it begins anew."""
    rivals = Rivals()
    for heard_at in (2.0, 3.0):
        rivals.heard([other(heard_at, heard_at - 0.5)], heard_at)
        rivals.judge(0.0, heard_at + 0.2)
    gone = [rivals.heard([], 4.0 + number) for number in range(MISSES)]
    assert [len(some) for some in gone] == [0] * (MISSES - 1) + [1]
    assert rivals.ids == []
    assert rivals.is_alone
    assert rivals.is_foreign(tag_of(OTHER))  # what it told may come late
    rivals.heard([other(9.0, None)], 9.0)
    rivals.heard([], 10.0)
    assert rivals.is_alone


def test_standbys_are_told_whom_not_to_listen_to() -> None:
    """By the lease; what is no list of ids says nothing, and they do not grow without end."""
    rivals = Rivals()
    assert not rivals.told(None)
    assert not rivals.told("ab")
    assert not rivals.told([7, None, "no number"])
    assert not rivals.is_foreign(b"")
    assert rivals.told([OTHER])
    assert not rivals.told([OTHER])
    assert rivals.is_foreign(tag_of(OTHER) + b"term")
    for number in range(MOST_TAGS):
        rivals.told([f"{number:08x}"])
    assert not rivals.is_foreign(tag_of(OTHER))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"{}",
        b'{"id": "a", "renewed_s": "x"}',
        b'{"id": "a", "renewed_s": NaN}',
        b'{"id": "a", "rivals": 3}',
        b'{"id": "a", "rivals": "ab"}',
        b'{"stream": "S", "seq": 1}',
    ],
)
def test_what_is_no_leaders_answer_is_ignored(payload: bytes) -> None:
    """A stream that captures the subject answers, too."""
    assert read_leader(payload, 1.0, 2.0) is None


def test_an_answer_is_read() -> None:
    """The renewal was at the earliest so long before the question; an old version says less."""
    said = {"id": "a", "name": "n", "bucket": "b", "renewed_s": 0.5, "domain": "d", "server": "s"}
    known = said | {"rivals": [other(0.0, None).record]}
    leader = read_leader(json.dumps(known).encode(), 1.0, 2.0)
    assert leader is not None
    assert leader == Leader("a", "n", "b", "d", "s", 2.0, 0.5, leader.rivals)
    assert [one.record for one in leader.rivals] == [other(0.0, None).record]
    old = read_leader(b'{"id": "a", "name": "n", "bucket": "b"}', 1.0, 2.0)
    assert old == Leader("a", "n", "b", "", "", 2.0)
    assert str(old) == "n (bucket b)"


def test_who_does_not_lead_sees_both_renew() -> None:
    """After they were first heard; one of them alone may have the lease of both."""
    first = [other(1.0, 0.5, "a"), other(1.0, 0.5, "b")]
    both = [other(2.0, 1.5, "a"), other(2.0, 1.5, "b")]
    one = [other(2.0, 1.5, "a"), other(2.0, 0.5, "b")]
    silent = [other(2.0, 1.5, "a"), other(2.0, None, "b")]
    assert proven(first, both, patient=False) == both
    assert proven(first, one, patient=True) == []
    assert proven(first, silent, patient=False) == []
    assert proven(first, silent, patient=True) == silent
    assert proven(first[:1], both, patient=True) == []


@dataclass
class Store:
    """The lease, as a server keeps it."""

    holder: str = ""
    revision: int = 0

    def write(self, holder: str, expected: int) -> bool:
        """Compare and swap."""
        if expected == self.revision:
            self.holder, self.revision = holder, self.revision + 1
            return True
        return False


@dataclass
class Replica:
    """What `gozo.leadership.lease` does, step by step; each step may take as long as it likes."""

    id: str
    store: Store
    rivals: Rivals = field(default_factory=Rivals)
    leads: bool = False
    revision: int = 0
    held_since: float = math.inf
    written_at: float = -math.inf
    sent_at: float | None = None
    stored: bool | None = None
    asked_at: float = 0.0
    answered: Leader | None = None

    def step(self, what: str, now: float, peer: Replica) -> None:
        """Do one thing, if it is its turn."""
        match what:
            case "send" if self.sent_at is None:
                self.sent_at, self.stored = now, None
                if not self.leads:
                    self.revision = self.store.revision
            case "store" if self.sent_at is not None and self.stored is None:
                self.stored = self.store.write(self.id, self.revision)
            case "end" if self.sent_at is not None and self.stored is not None:
                self._end(now, self.sent_at, stored=self.stored)
                self.sent_at = None
            case "ask":
                self.asked_at, self.answered = now, None
            case "answer" if peer.leads and self.answered is None:
                renewed_at = self.asked_at - (now - peer.written_at)
                self.answered = other(now, renewed_at, peer.id)
            case "hear" if self.answered is not None:
                heard = self.answered._replace(heard_at=now)
                self.rivals.heard([heard], self.asked_at)
                self.answered = None
                self.asked_at = now
            case "judge":
                self.rivals.judge(self.held_since, self.written_at)

    def _end(self, now: float, sent_at: float, *, stored: bool) -> None:
        if stored:
            self.revision += 1
            if not self.leads:
                self.held_since = now
            self.leads, self.written_at = True, sent_at
        elif self.leads and self.store.holder != self.id:
            self.leads, self.held_since = False, math.inf


STEPS = {
    **{step: (step,) for step in ("send", "store", "end", "ask", "answer", "hear", "judge")},
    "renew": ("send", "store", "end"),
    "look": ("judge", "ask", "answer", "hear"),
}
"""Steps, and those that commonly come together."""

DELETED = 0.05  # how probable it is at a moment that the lease is deleted
TAKEN = 0.3  # how probable it is that a standby takes it
LENGTH = 300  # of a life, in moments


@settings(max_examples=2 * settings().max_examples)
@given(st.randoms(use_true_random=True), st.none() | st.integers(0, LENGTH))
def test_replicas_of_one_bucket_are_never_rivals(life: Random, made_anew_at: int | None) -> None:
    """Whatever takes how long, whoever takes the lease, also where it is deleted or made anew."""
    store = Store()
    replicas = [Replica("aaaaaaaa", store), Replica("bbbbbbbb", store)]
    now = 100.0
    for moment in range(LENGTH):
        if moment == made_anew_at:
            store.holder, store.revision = "", 0
        elif life.random() < DELETED:
            store.holder, store.revision = "", store.revision + 1
        which = life.randrange(2)
        replica, peer = replicas[which], replicas[not which]
        what = life.choice((*STEPS, "look", "look"))
        if what == "renew" and not replica.leads and life.random() > TAKEN:
            what = "judge"
        for step in STEPS[what]:
            now += life.choice((0.0, 0.01, 0.1, 0.5))
            replica.step(step, now, peer)
    assert [replica.rivals.ids for replica in replicas] == [[], []]


def test_leaders_of_two_buckets_are_rivals() -> None:
    """The same steps, each with a lease of its own."""
    replicas = [Replica("aaaaaaaa", Store()), Replica("bbbbbbbb", Store())]
    now = 100.0
    for _ in range(4):
        now += 1.0
        for replica, peer in (replicas, replicas[::-1]):
            for what in ("send", "store", "end"):
                now += 0.1
                replica.step(what, now, peer)
        for replica, peer in (replicas, replicas[::-1]):
            for what in ("judge", "ask", "answer", "hear"):
                now += 0.1
                replica.step(what, now, peer)
    assert [replica.rivals.ids for replica in replicas] == [["bbbbbbbb"], ["aaaaaaaa"]]
